"""What is read from objects is what is needed, whatever is in them."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration_operator.names import FIELD_MANAGER, SCALER
from integration_operator.observed import (
    connection_of,
    covers,
    namespace_of,
    pool_of,
    pool_secret_of,
    secret_of,
)

Json = dict[str, Any]
Make = Callable[..., Json]

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
LEAVES = st.one_of(st.text(max_size=3), st.integers(-3, 3).map(str), st.integers(10, 99))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def with_defaults(tree: Any) -> Any:
    """Return a tree as an API server hands it back: with more fields in each object."""
    match tree:
        case dict():
            return {name: with_defaults(value) for name, value in tree.items()} | {"default": {"of": ["a server"]}}
        case list():
            return [with_defaults(value) for value in tree]
        case _:
            return tree


def changed(tree: Any, random: Any) -> Any:
    """Return a tree with one leaf, or one element of a list, that is other than in `tree`."""
    match tree:
        case dict() if tree:
            name = random.choice(sorted(tree))
            return tree | {name: changed(tree[name], random)}
        case list() if tree and random.random() < 0.5:
            at = random.randrange(len(tree))
            return [*tree[:at], changed(tree[at], random), *tree[at + 1 :]]
        case list():
            return [*tree, "one more"]
        case _:
            return "another value"


def deployment(*owners: str, replicas: int | None = 2, conditions: tuple[Json, ...] = ()) -> Json:
    managed = [{"manager": owner, "fieldsV1": {"f:spec": {"f:replicas": {}}}} for owner in owners]
    managed.append({"manager": "someone", "fieldsV1": {"f:spec": {"f:paused": {}}}})
    managed.append({"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}, "subresource": "status"})
    return {
        "metadata": {"name": "pool", "namespace": "team", "uid": "u", "managedFields": managed},
        "spec": {} if replicas is None else {"replicas": replicas},
        "status": {"conditions": list(conditions)},
    }


@given(TREES)
def test_defaults_of_the_api_server_do_not_matter(tree: Any) -> None:
    assert covers(tree, tree)
    assert covers(with_defaults(tree), tree)


@given(TREES, st.randoms(use_true_random=False))
def test_every_other_difference_matters(tree: Any, random: Any) -> None:
    assert not covers(with_defaults(tree), changed(tree, random))


def test_what_is_missing_or_added_to_a_list_matters() -> None:
    assert not covers({}, {"a": 1})
    assert not covers({"a": None}, {"a": {"b": 1}})
    assert not covers({"a": [1, 2]}, {"a": [1]})
    assert not covers({"a": {"0": 1}}, {"a": [1]})


@pytest.mark.parametrize(
    ("owners", "ours", "by_us"),
    [
        ((), True, False),
        ((FIELD_MANAGER,), True, False),
        ((FIELD_MANAGER, SCALER), True, True),
        ((SCALER,), True, True),
        (("kubectl-scale",), False, False),
        ((SCALER, "keda-operator"), False, True),
        (("horizontal-pod-autoscaler", FIELD_MANAGER), False, False),
    ],
)
def test_whoever_owns_the_number_of_workers_keeps_it(owners: tuple[str, ...], ours: bool, by_us: bool) -> None:
    pool = pool_of(deployment(*owners))

    assert (pool.replicas_are_ours, pool.scaled_by_us) == (ours, by_us)


def test_a_deployment_that_says_no_number_has_one_worker() -> None:
    assert [pool_of(deployment(replicas=number)).replicas for number in (None, 0, 3)] == [1, 0, 3]


@pytest.mark.parametrize(
    ("replicas", "status", "since"),
    [
        (1, "False", datetime(2026, 11, 20, tzinfo=UTC)),
        (1, "True", None),
        (0, "False", None),
        (1, None, None),
    ],
)
def test_workers_are_missed_only_where_there_should_be_some(
    replicas: int, status: str | None, since: datetime | None
) -> None:
    condition = {"type": "Available", "status": status, "lastTransitionTime": "2026-11-20T00:00:00Z"}

    assert pool_of(deployment(replicas=replicas, conditions=(condition,) if status else ())).unavailable_since == since


def test_pods_that_cannot_be_made_are_a_failure() -> None:
    conditions = [{"type": "ReplicaFailure", "status": status, "message": "quota"} for status in ("True", "False")]

    assert [pool_of(deployment(conditions=(each,))).failure for each in conditions] == ["quota", None]


def test_digests_tell_values_apart_only_to_those_with_the_key() -> None:
    body = {
        "metadata": {"name": "s", "namespace": "team", "labels": {"integrations.queast.io/credentials": "true"}},
        "data": {"a": "c2VjcmV0", "same": "c2VjcmV0", "other": "c2VjcmV1"},
    }
    seen, again, elsewhere = secret_of(body, KEY), secret_of(copy.deepcopy(body), KEY), secret_of(body, OTHER_KEY)

    assert seen == again
    assert seen.digests["a"] == seen.digests["same"] != seen.digests["other"]
    assert not set(seen.digests.values()) & set(elsewhere.digests.values())
    assert "secret" not in repr(seen)
    assert seen.watched


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=8,
    )
)
def test_any_spec_can_be_seen(make_body: Make, spec: Any) -> None:
    seen = connection_of(make_body() | {"spec": spec})

    assert seen.spec is None
    assert seen.problems


def test_a_request_is_no_longer_than_what_can_be_answered(make_body: Make) -> None:
    names = {f"integrations.queast.io/{name}": "x" * 10_000 for name in ("reconcileAt", "releaseAt")}
    seen = connection_of(make_body(annotations=names))

    assert seen.reconcile_at == seen.release_at == "x" * 253


@pytest.mark.parametrize("rotated", ["2026-11-20T00:00:00", "yesterday", ""])
def test_a_pool_s_secret_with_a_spoilt_time_is_not_whole(rotated: str) -> None:
    annotations = {"integrations.queast.io/credential": "c", "integrations.queast.io/rotatedAt": rotated}

    assert pool_secret_of({"metadata": {"annotations": annotations}, "data": {"url": "eA=="}}) is None


def test_a_namespace_holds_the_tenants_that_its_labels_name() -> None:
    labels = {"tenant.integrations.queast.io/acme": "", "tenant.integrations.queast.io/globex": "x", "team": "acme2"}

    assert namespace_of({"metadata": {"name": "n", "labels": labels}}).tenants == {"acme", "globex"}
    assert namespace_of({"metadata": {"name": "n"}}).tenants == frozenset()
