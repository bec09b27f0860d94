"""The world knows what refers to what, whatever the order in which it is told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.connection import DeletionPolicy
from contracts.ids import ConnectionUid
from integration_operator.names import CREDENTIALS_LABEL, POOL_LABEL, ObjectKey
from integration_operator.world import Key, Kind, World

Json = dict[str, Any]
Make = Callable[..., Json]
DIGEST_KEY = b"k" * 32

NAMES, SECRETS, TENANTS, ISOLATIONS = "abc", "stu", ("acme", "globex"), ("Tenant", "Shared", "Connection")


def a_world() -> World:
    return World(DIGEST_KEY, sees_namespaces=True)


def secret(name: str, value: str = "djE=", namespace: str = "team") -> Json:
    labels = {CREDENTIALS_LABEL: "true"}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "data": {"k": value}}


def pool_secret(name: str, credential: str) -> Json:
    annotations = {
        "integrations.queast.io/credential": credential,
        "integrations.queast.io/rotatedAt": "2026-11-20T00:00:00+00:00",
    }
    metadata = {"name": name, "namespace": "team", "labels": {POOL_LABEL: name}, "annotations": annotations}
    return {"metadata": metadata, "data": {"url": "eA=="}}


def deployment(name: str, *, available: str = "True", replicas: int = 1) -> Json:
    conditions = [{"type": "Available", "status": available, "lastTransitionTime": "2026-11-20T00:00:00Z"}]
    return {
        "metadata": {"name": name, "namespace": "team", "uid": "d"},
        "spec": {"replicas": replicas},
        "status": {"conditions": conditions},
    }


def namespace(*tenants: str, name: str = "team") -> Json:
    labels = {f"tenant.integrations.queast.io/{tenant}": "" for tenant in tenants}
    return {"metadata": {"name": name, "labels": labels}}


def connections(keys: Iterable[Key]) -> list[str]:
    return [key.object.name for key in keys if key.kind is Kind.CONNECTION]


@dataclass
class Cluster:
    """What exists, and what the watches would tell of it."""

    make_body: Make
    make_spec: Make
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    count: int = 0

    def change(self, step: tuple[Any, ...]) -> list[tuple[str, Json, bool]]:
        kind, name, *more = step
        before = self.objects.get((kind, name))
        self.count += 1
        match kind:
            case "connection":
                return self._connection(name, before, *more)
            case "secret":
                body = secret(name, f"djE{more[1] % 8}") if more[1] else None
            case "pool":
                body = deployment(name, available=str(more[1] % 2 == 0), replicas=more[1]) if more[1] else None
            case "pool-secret":
                body = pool_secret(f"pool-{name}", str(more[1])) if more[1] else None
            case _:
                body = namespace(*TENANTS[: more[1] % 3], name="team")
        return self._put(kind, name, before, body)

    def _connection(self, name: str, before: Json | None, action: str, number: int) -> list[tuple[str, Json, bool]]:
        metadata = before["metadata"] if before else {"generation": 0, "uid": str(UUID(int=self.count))}
        refers = tuple((each, "k") for bit, each in enumerate(SECRETS) if (number + 1) >> bit & 1) or (("s", "k"),)
        spec = self.make_spec(
            TENANTS[number % 2], refers, workers={"isolation": ISOLATIONS[number % 3]}, deletionPolicy="Delete"
        )
        body: Json | None
        match action:
            case "delete":
                body = None
            case "recreate":
                body = self.make_body(name, uid=self.count, generation=1, version=self.count, spec=spec)
            case "status" if before:
                body = {**before, "status": {"state": str(number)}}
                body["metadata"] = {**metadata, "resourceVersion": str(self.count), "managedFields": [number]}
            case "break" if before:
                body = self.make_body(
                    name,
                    uid=UUID(metadata["uid"]).int,
                    generation=metadata["generation"] + 1,
                    version=self.count,
                    spec={"provider": "Fax"},
                )
            case _:
                body = self.make_body(
                    name,
                    uid=UUID(metadata["uid"]).int,
                    generation=metadata["generation"] + 1,
                    version=self.count,
                    spec=spec,
                )
        return self._put("connection", name, before, body)

    def _put(self, kind: str, name: str, before: Json | None, body: Json | None) -> list[tuple[str, Json, bool]]:
        if body is None:
            self.objects.pop((kind, name), None)
            return [(kind, before, True)] if before else []
        self.objects[kind, name] = body
        return [(kind, body, False)]


def tell(world: World, kind: str, body: Json, deleted: bool) -> list[Key]:
    match kind:
        case "connection":
            return list(world.see_connection(body, deleted=deleted))
        case "secret" | "pool-secret":
            return list(world.see_secret(body, deleted=deleted))
        case "pool":
            return list(world.see_pool(body, deleted=deleted))
        case _:
            return list(world.see_namespace(body, deleted=deleted))


def indexes(world: World) -> dict[str, Any]:
    return {
        "connections": world.connections,
        "uids": world.by_uid,
        "secrets": world.secrets,
        "pool secrets": world.pool_secrets,
        "pools": world.pools,
        "namespaces": world.namespaces,
        "known pools": world.known_pools(),
        "members": {pool: world.members(pool) for pool in world.known_pools()},
        "pool of": {key: world.pool_of(key) for key in world.connections},
        "concerned": {name: list(world.see_secret(secret(name), deleted=True)) for name in SECRETS},
    }


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("connection"),
            st.sampled_from(NAMES),
            st.sampled_from(["apply", "apply", "delete", "recreate", "status", "break"]),
            st.integers(0, 11),
        ),
        st.tuples(st.just("secret"), st.sampled_from(SECRETS), st.just("put"), st.integers(0, 3)),
        st.tuples(st.just("pool"), st.just("integrations-shared"), st.just("put"), st.integers(0, 3)),
        st.tuples(st.just("pool-secret"), st.just("p"), st.just("put"), st.integers(0, 2)),
        st.tuples(st.just("namespace"), st.just("team"), st.just("put"), st.integers(0, 2)),
    ),
    max_size=25,
)


@given(STEPS, st.randoms(use_true_random=False))
def test_a_long_history_leaves_no_trace(make_body: Make, make_spec: Make, steps: list[Any], random: Any) -> None:
    cluster = Cluster(make_body, make_spec)
    events = [event for step in steps for event in cluster.change(step)]
    # Watches keep the order of one object's news, not that between objects; a resync tells everything again.
    streams: dict[tuple[str, str], list[tuple[str, Json, bool]]] = {}
    for event in events:
        streams.setdefault((event[0], event[1]["metadata"]["name"]), []).append(event)
    world, fresh = a_world(), a_world()
    while streams:
        chosen = random.choice(sorted(streams))
        event = streams[chosen].pop(0)
        tell(world, *event)
        if random.random() < 0.3:
            tell(world, *event)
        if not streams[chosen]:
            del streams[chosen]
    final = list(cluster.objects.items())
    readable = [each for each in final if each[1].get("spec", {}).get("provider") != "Fax"]
    if readable != final:
        # What an unreadable object needed when it could be read stays in force; here it is as if it had gone.
        for (kind, _), body in final:
            if body.get("spec", {}).get("provider") == "Fax":
                tell(world, kind, body, True)
    for (kind, _), body in readable:
        tell(fresh, kind, body, False)

    assert indexes(world) == indexes(fresh)


@given(STEPS)
def test_what_is_told_again_concerns_nobody(make_body: Make, make_spec: Make, steps: list[Any]) -> None:
    cluster, world = Cluster(make_body, make_spec), a_world()
    for step in steps:
        for kind, body, deleted in cluster.change(step):
            tell(world, kind, body, deleted)
            again = [] if deleted else tell(world, kind, body, deleted)

            assert again == []


@given(STEPS)
def test_every_change_of_a_spec_concerns_its_connection(make_body: Make, make_spec: Make, steps: list[Any]) -> None:
    cluster, world = Cluster(make_body, make_spec), a_world()
    for step in steps:
        for kind, body, deleted in cluster.change(step):
            concerned = tell(world, kind, body, deleted)
            if kind != "connection" or deleted or step[2] == "status":
                continue

            assert connections(concerned) == [step[1]]


def test_a_secret_concerns_exactly_those_who_refer_to_it(make_body: Make, make_spec: Make) -> None:
    world = a_world()
    for number, (name, place, refers) in enumerate(
        [("one", "team", "s"), ("both", "team", "st"), ("other", "team", "t"), ("elsewhere", "other", "s")], start=1
    ):
        spec = make_spec(secrets=tuple((each, "k") for each in refers))
        list(world.see_connection(make_body(name, place, uid=number, spec=spec)))

    assert list(world.see_secret(secret("s"))) == [
        Key(Kind.CONNECTION, ObjectKey("team", "both")),
        Key(Kind.CONNECTION, ObjectKey("team", "one")),
    ]
    assert connections(world.see_secret(secret("s", "bmV3"))) == ["both", "one"]
    assert connections(world.see_secret(secret("unknown"))) == []


def test_our_own_status_concerns_nobody(make_body: Make) -> None:
    world = a_world()
    list(world.see_connection(make_body()))

    concerned = list(
        world.see_connection(make_body(version=2, status={"state": "Delivering"}, managedFields=[{"manager": "us"}]))
    )

    assert concerned == []
    assert world.connections[ObjectKey("team", "crm")].status == {"state": "Delivering"}


@pytest.mark.parametrize(
    "metadata",
    [
        {"generation": 2},
        {"deletionTimestamp": "2026-11-20T00:00:00Z"},
        {"finalizers": ["theirs"]},
        {"annotations": {"integrations.queast.io/reconcileAt": "now"}},
        {"annotations": {"integrations.queast.io/releaseAt": "now"}},
    ],
)
def test_what_a_person_changes_concerns_the_connection(make_body: Make, metadata: Json) -> None:
    world = a_world()
    list(world.see_connection(make_body()))

    assert connections(world.see_connection(make_body(version=2, **metadata))) == ["crm"]


def test_a_successor_of_the_same_name_is_reconciled_and_its_predecessor_ended(make_body: Make) -> None:
    world = a_world()
    list(world.see_connection(make_body(uid=1)))

    concerned = list(world.see_connection(make_body(uid=2, version=2)))

    assert Key(Kind.CONNECTION, ObjectKey("team", "crm")) in concerned
    assert Key(Kind.REMOVAL, ObjectKey("team", str(UUID(int=1)))) in concerned
    assert world.removed == {ConnectionUid(UUID(int=1)): DeletionPolicy.DRAIN}


def test_late_news_of_a_predecessor_s_end_changes_nothing(make_body: Make) -> None:
    world = a_world()
    list(world.see_connection(make_body(uid=2, version=2)))

    concerned = list(world.see_connection(make_body(uid=1), deleted=True))

    assert concerned == []
    assert world.connections[ObjectKey("team", "crm")].uid == ConnectionUid(UUID(int=2))


def test_a_spec_that_was_unreadable_in_between_leaves_no_old_reference(make_body: Make, make_spec: Make) -> None:
    world = a_world()
    specs = (make_spec(secrets=(("old", "k"),)), {"provider": "Fax"}, make_spec(secrets=(("new", "k"),)))
    for number, spec in enumerate(specs, start=1):
        list(world.see_connection(make_body(generation=number, version=number, spec=spec)))

    assert list(world.see_secret(secret("old"))) == []
    assert list(world.see_secret(secret("new"))) == [Key(Kind.CONNECTION, ObjectKey("team", "crm"))]


def test_an_unreadable_spec_keeps_what_it_referred_to(make_body: Make) -> None:
    world = a_world()
    list(world.see_connection(make_body()))
    list(world.see_connection(make_body(generation=2, version=2, spec={"provider": "Fax"})))

    assert list(world.see_secret(secret("s"))) == [Key(Kind.CONNECTION, ObjectKey("team", "crm"))]
    assert world.pool_of(ObjectKey("team", "crm")) == ObjectKey("team", "integrations-tenant-acme")
    assert world.unreadable_in("team")


def test_a_namespace_seen_after_its_connections_has_their_claims_looked_at(make_body: Make) -> None:
    world = a_world()
    list(world.see_connection(make_body()))

    assert connections(world.see_namespace(namespace("globex"))) == ["crm"]
    assert not world.is_claimed(world.connections[ObjectKey("team", "crm")])
    assert connections(world.see_namespace(namespace("acme"))) == ["crm"]
    assert world.is_claimed(world.connections[ObjectKey("team", "crm")])


def test_members_hear_of_a_pool_only_when_its_workers_fail_or_recover(make_body: Make) -> None:
    world, name = a_world(), "integrations-tenant-acme"
    list(world.see_connection(make_body()))

    heard = [
        connections(world.see_pool(body, deleted=deleted))
        for body, deleted in (
            (deployment(name), False),
            (deployment(name, replicas=2), False),
            (deployment(name, available="False"), False),
            (deployment(name, available="False", replicas=2), False),
            (deployment(name), False),
            (deployment(name), True),
        )
    ]

    assert heard == [[], [], ["crm"], [], ["crm"], []]


def test_a_late_answer_brings_no_deleted_object_back(make_body: Make) -> None:
    world = a_world()
    list(world.see_connection(make_body()))
    list(world.see_connection(make_body(version=3), deleted=True))
    late = list(world.see_connection(make_body(version=2)))

    assert late == []
    assert world.connections == {}


def test_a_late_answer_does_not_replace_what_is_newer(make_body: Make) -> None:
    world = a_world()
    list(world.see_connection(make_body(version=9)))
    list(world.see_connection(make_body(version=11, generation=2)))
    late = list(world.see_connection(make_body(version=10)))

    assert late == []
    assert world.connections[ObjectKey("team", "crm")].generation == 2


def test_an_unreadable_object_that_was_mended_or_is_gone_leaves_its_namespace_readable(make_body: Make) -> None:
    world, readable = a_world(), []
    list(world.see_connection(make_body(spec={"provider": "Fax"})))
    readable.append(world.unreadable_in("team"))
    list(world.see_connection(make_body(version=2, generation=2)))
    readable.append(world.unreadable_in("team"))
    list(world.see_connection(make_body(version=3, generation=3, spec={"provider": "Fax"})))
    list(world.see_connection(make_body(version=4, generation=3, spec={"provider": "Fax"}), deleted=True))
    readable.append(world.unreadable_in("team"))

    assert readable == [True, False, False]
