"""What a pool consists of follows from its members alone, and is as locked up as a pod can be."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.connection import ReplicasSpec, secret_references
from delivery.settings import WorkerSettings
from integration_operator.children import (
    OAUTH_KEYS_FILE,
    SECRETS_DIRECTORY,
    database_url,
    deployment,
    pool_secret,
    replica_bounds,
    scaled,
)
from integration_operator.names import ObjectKey
from integration_operator.observed import ConnectionObject, PoolSecret, connection_of, pool_secret_of
from integration_operator.settings import OperatorSettings

Json = dict[str, Any]
Make = Callable[..., Json]

POOL = ObjectKey("team", "integrations-tenant-acme")
HELD = PoolSecret("credential", datetime(2026, 11, 20, tzinfo=UTC), "digest")

MEMBERS = st.lists(
    st.fixed_dictionaries(
        {
            "secrets": st.lists(
                st.tuples(st.sampled_from(["a", "b", "c.d"]), st.sampled_from(["k", "K", "k.v", "k_v"])),
                min_size=1,
                max_size=4,
            ),
            "timeout": st.integers(1, 120),
            "replicas": st.tuples(st.integers(0, 5), st.integers(5, 50)),
            "deleted": st.booleans(),
        }
    ),
    min_size=1,
    max_size=6,
)


def members_of(make_body: Make, make_spec: Make, chosen: Sequence[Json]) -> list[ConnectionObject]:
    return [
        connection_of(
            make_body(
                f"connection-{number}",
                uid=number,
                spec=make_spec(
                    secrets=tuple(each["secrets"]),
                    delivery={"timeout": f"{each['timeout']}s"},
                    workers={"replicas": {"min": each["replicas"][0], "max": each["replicas"][1]}},
                ),
                **({"deletionTimestamp": "2026-11-20T00:00:00Z"} if each["deleted"] else {}),
            )
        )
        for number, each in enumerate(chosen, start=1)
    ]


def pod(body: Json) -> Json:
    spec: Json = body["spec"]["template"]["spec"]
    return spec


def container(body: Json) -> Json:
    (found,) = pod(body)["containers"]
    worker: Json = found
    return worker


@pytest.fixture
def workers(make_body: Make, settings: OperatorSettings) -> Json:
    return deployment(POOL, [connection_of(make_body())], settings, secrets="x", replicas=None)


@given(MEMBERS, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(
    make_body: Make, make_spec: Make, settings: OperatorSettings, chosen: list[Json], random: Any
) -> None:
    members = members_of(make_body, make_spec, chosen)
    shuffled = random.sample(members, len(members))

    assert deployment(POOL, shuffled, settings, secrets="x", replicas=1) == deployment(
        POOL, members, settings, secrets="x", replicas=1
    )
    assert replica_bounds(shuffled) == replica_bounds(members)


@given(MEMBERS)
def test_exactly_the_referenced_keys_are_mounted(
    make_body: Make, make_spec: Make, settings: OperatorSettings, chosen: list[Json]
) -> None:
    members = members_of(make_body, make_spec, chosen)
    body = deployment(POOL, members, settings, secrets="x", replicas=None)
    (volume,) = (each for each in pod(body)["volumes"] if each["name"] == "secrets")
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    mounted = [(source["name"], item["key"], item["path"]) for source in sources for item in source["items"]]
    referenced = {(each.name, each.key) for member in members if member.spec for each in secret_references(member.spec)}

    assert sorted(mounted) == sorted((name, key, f"{name}/{key}") for name, key in referenced)
    assert all(source["optional"] for source in sources)
    assert {"name": "secrets", "mountPath": f"{SECRETS_DIRECTORY}/team", "readOnly": True} in container(body)[
        "volumeMounts"
    ]


def test_one_connection_s_impossible_key_does_not_have_the_pool_s_deployment_refused(
    make_body: Make, make_spec: Make, settings: OperatorSettings
) -> None:
    chosen = [(("a", ".."), ("b", "k")), (("c", ".."),)]
    members = [
        connection_of(make_body(f"c{number}", uid=number, spec=make_spec(secrets=secrets)))
        for number, secrets in enumerate(chosen, start=1)
    ]
    body = deployment(POOL, members, settings, secrets="x", replicas=None)
    (volume,) = (each for each in pod(body)["volumes"] if each["name"] == "secrets")
    paths = [item["path"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]]

    assert paths == ["b/k"]


@given(MEMBERS)
def test_workers_may_end_what_they_began(
    make_body: Make, make_spec: Make, settings: OperatorSettings, chosen: list[Json]
) -> None:
    body = deployment(POOL, members_of(make_body, make_spec, chosen), settings, secrets="x", replicas=None)

    assert pod(body)["terminationGracePeriodSeconds"] > max(each["timeout"] for each in chosen)


@given(MEMBERS)
def test_the_bounds_of_a_pool_are_the_largest_of_its_living_members(
    make_body: Make, make_spec: Make, chosen: list[Json]
) -> None:
    least, most = replica_bounds(members_of(make_body, make_spec, chosen))
    living = [each["replicas"] for each in chosen if not each["deleted"]]

    assert most == max(high for _, high in living or [each["replicas"] for each in chosen])
    assert least == max((low for low, _ in living), default=0)
    assert 0 <= least <= most


def test_a_pool_of_orphaned_connections_may_have_workers() -> None:
    assert replica_bounds([]) == (0, ReplicasSpec().max)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_password_of_any_characters_can_be_read_back(settings: OperatorSettings, password: str) -> None:
    url = urlsplit(database_url(settings, "integration_pool_0123456789abcdef", password))

    assert unquote(url.password or "") == password
    assert (url.username, url.hostname, url.port) == ("integration_pool_0123456789abcdef", "database", 5432)
    assert (url.path, url.query) == ("/layer", "sslmode=verify-full")


def test_no_manifest_but_the_pool_s_secret_holds_a_password(make_body: Make) -> None:
    settings = OperatorSettings(
        database_url="postgresql://operator:operators-own@database/layer",
        worker_image="image",
        worker_database="postgresql://database/layer",
    )
    members = [connection_of(make_body())]
    url = database_url(settings, "role", "pools-own")
    secret = pool_secret(POOL, "uid", url, HELD, "")
    others = [
        deployment(POOL, members, settings, secrets="x", replicas=1),
        scaled(POOL, 1),
        secret | {"stringData": {}},
    ]

    assert secret["stringData"] == {"url": url, "password": "pools-own"}
    assert "pools-own" in url
    assert "-own" not in json.dumps(others)


def test_a_pool_that_has_oauth_grants_gets_keys_for_them() -> None:
    secret = pool_secret(POOL, "uid", "postgresql://r:p@h/d", HELD, "keys")

    assert secret["stringData"][OAUTH_KEYS_FILE] == "keys"
    assert pool_secret_of(secret | {"data": secret["stringData"]}) == HELD


def test_pods_are_as_the_restricted_standard_wants_them(workers: Json) -> None:
    spec, worker = pod(workers), container(workers)

    assert (
        spec["securityContext"].items()
        >= {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }.items()
    )
    assert spec["securityContext"]["runAsUser"] > 0
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
    assert all(each.keys() & {"secret", "projected", "emptyDir"} for each in spec["volumes"])
    assert all("hostPort" not in port for port in worker["ports"])


def test_workers_have_no_way_to_the_api_server(workers: Json) -> None:
    assert pod(workers)["automountServiceAccountToken"] is False
    assert pod(workers)["enableServiceLinks"] is False


def test_the_number_of_workers_is_given_only_where_asked(make_body: Make, settings: OperatorSettings) -> None:
    members = [connection_of(make_body())]
    silent = deployment(POOL, members, settings, secrets="x", replicas=None)
    none = deployment(POOL, members, settings, secrets="x", replicas=0)

    assert "replicas" not in silent["spec"]
    assert none["spec"].pop("replicas") == 0
    assert none == silent
    assert scaled(POOL, 3)["spec"] == {"replicas": 3}


def test_a_rotation_changes_neither_the_pods_nor_the_hash(make_body: Make, settings: OperatorSettings) -> None:
    members = [connection_of(make_body())]
    before, after = (deployment(POOL, members, settings, secrets=each, replicas=None) for each in ("old", "new"))

    assert before.pop("metadata")["annotations"] != after["metadata"].pop("annotations")
    assert before["spec"] == after["spec"]


def test_what_a_worker_is_told_is_what_its_settings_understand(
    workers: Json, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in container(workers)["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "from-a-field"))

    read = WorkerSettings()

    assert str(read.database_url_file) == "/etc/integrations/database/url"
    assert read.health_port == 8080
    assert read.drain.total_seconds() < pod(workers)["terminationGracePeriodSeconds"]


def test_a_pool_s_objects_find_one_another(workers: Json) -> None:
    labels = workers["spec"]["template"]["metadata"]["labels"]
    secret = pool_secret(POOL, "uid", "postgresql://r:p@h/d", HELD, "")

    assert workers["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert {"name": "database", "secret": {"secretName": secret["metadata"]["name"], "defaultMode": 0o440}} in pod(
        workers
    )["volumes"]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid"
