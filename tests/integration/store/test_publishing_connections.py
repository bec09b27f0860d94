"""A publication is seen whole or not at all, counts only if it changed something, and mixes up no tenants."""

from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from contracts.ids import ConnectionUid, PoolId
from store import publication
from store.dispatch import read_epoch, read_routes
from store.errors import ImmutableFieldError
from store.publication import PublishedConnection, connection_states, publish

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio


async def test_publishing_the_same_again_changes_nothing(layer: "Layer") -> None:
    uid = ConnectionUid(uuid4())
    async with await layer.connect("operator") as operator:
        pool = await publication.write_pool(operator, "pool_a", "pool_a")
        connection = PublishedConnection(uid, "acme", "hook", layer.spec(), pool)
        epochs = [await publish(operator, [connection]) for _ in range(3)]

    assert epochs == [1, None, None]
    assert layer.rows("select generation, revision from integration.connection, integration.lane") == [(1, 0)]


async def test_a_changed_spec_keeps_the_ids_of_its_routes(layer: "Layer") -> None:
    first = {"name": "first", "events": ["company.*"]}
    await layer.publish(layer.spec(routes=[first, {"name": "second", "events": ["*"]}]))
    ids = dict(layer.rows("select name, id from integration.route"))
    await layer.publish(
        layer.spec(routes=[{**first, "ordering": "Unordered", "filter": "true"}, {"name": "third", "events": ["*"]}])
    )

    routes = layer.rows("select name, id, active, ordered, filter from integration.route order by name")
    assert routes[:2] == [
        ("first", ids["first"], True, False, "true"),
        ("second", ids["second"], False, True, None),
    ]
    assert routes[2][0] == "third"


async def test_a_publication_that_fails_leaves_all_as_it_was(layer: "Layer") -> None:
    await layer.publish()
    async with await layer.connect("operator") as operator:
        pool = layer.published["acme/hook"].pool
        uid = layer.published["acme/hook"].uid
        good = PublishedConnection(uid, "acme", "hook", layer.spec(suspend=True), pool)
        bad = PublishedConnection(ConnectionUid(uuid4()), "acme", "bad", layer.spec(), PoolId(99))
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await publish(operator, [good, bad])
        epoch = await read_epoch(operator)

    assert epoch == 1
    assert layer.column("select suspended from integration.lane") == [False]


async def test_a_retired_connection_takes_no_new_events_and_keeps_what_it_has(layer: "Layer") -> None:
    published = await layer.publish()
    async with await layer.connect("operator") as operator:
        epochs = [await publish(operator, [], [published.uid]) for _ in range(2)]
    async with await layer.connect("dispatcher") as dispatcher:
        routes = await read_routes(dispatcher)

    assert epochs == [2, None]
    assert routes == (2, [])
    assert layer.value("select count(*) from integration.lane") == 1


async def test_a_retired_connection_that_is_published_again_takes_events_again(layer: "Layer") -> None:
    published = await layer.publish()
    async with await layer.connect("operator") as operator:
        await publish(operator, [], [published.uid])
    await layer.publish()
    async with await layer.connect("dispatcher") as dispatcher:
        epoch, routes = await read_routes(dispatcher)

    assert (epoch, len(routes)) == (3, 1)


async def test_a_changed_spec_has_a_quarantined_lane_probed_at_once(layer: "Layer") -> None:
    await layer.publish()
    layer.admin.execute(
        "update integration.lane set state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'Gone'"
    )
    await layer.publish(layer.spec(url="http://127.0.0.1:10/"))

    assert layer.rows("select state, probe_at <= now(), revision from integration.lane") == [("Quarantined", True, 1)]


async def test_a_lane_that_is_not_quarantined_is_not_released(layer: "Layer") -> None:
    await layer.publish()
    async with await layer.connect("operator") as operator:
        released = [await publication.release(operator, "acme", name) for name in ("hook", "nothing")]

    assert released == [False, False]
    assert layer.value("select epoch from integration.routing") == 1


async def test_an_object_of_the_same_name_and_another_tenant_gets_nothing_of_the_former_s(layer: "Layer") -> None:
    former = await layer.publish(layer.spec(tenant="acme"), namespace="shared")
    layer.published.clear()
    latter = await layer.publish(layer.spec(tenant="globex", url="http://127.0.0.1:10/"), namespace="shared")
    async with await layer.connect("dispatcher") as dispatcher:
        _, routes = await read_routes(dispatcher)

    assert former.id != latter.id
    assert [(route.connection, route.tenant) for route in routes] == [(latter.id, "globex")]
    specs = dict(layer.rows("select id, spec #>> '{webhook,url}' from integration.connection"))
    assert specs[former.id] != specs[latter.id]


async def test_a_tenant_is_not_changed_under_a_connection_s_feet(layer: "Layer") -> None:
    await layer.publish(layer.spec(tenant="acme"))
    with pytest.raises(ImmutableFieldError, match="belongs to tenant acme"):
        await layer.publish(layer.spec(tenant="globex"))

    for table in ("connection", "lane", "route"):
        assert layer.column(f"select tenant_id from integration.{table}") == ["acme"]


async def test_a_pool_reads_the_events_of_its_connections_tenants_and_of_no_former_ones(layer: "Layer") -> None:
    published = await layer.publish(pool="pool_a")
    granted = layer.rows("select role, tenant_id from integration.tenant_role")

    assert published.pool == layer.value("select id from integration.pool where role = 'pool_a'")
    assert granted == [("pool_a", "acme")]


async def test_a_pool_whose_role_was_renamed_keeps_its_tenants(layer: "Layer") -> None:
    published = await layer.publish(pool="pool_a")
    async with await layer.connect("operator") as operator:
        pool = await publication.write_pool(operator, "pool_a", "pool_b")

    assert pool == published.pool
    assert layer.rows("select role, tenant_id from integration.tenant_role") == [("pool_b", "acme")]


async def test_the_operator_sees_what_delivery_says_of_each_connection(layer: "Layer") -> None:
    one = await layer.publish(name="one")
    await layer.publish(layer.spec(suspend=True), name="two")
    layer.admin.execute(
        "update integration.lane set state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'Gone'"
        " where connection_id = %s",
        (one.id,),
    )
    async with await layer.connect("operator") as operator:
        states = await connection_states(operator)

    assert [(s.name, s.state, s.suspended, s.active, s.owned, s.quarantine_reason) for s in states] == [
        ("one", "Quarantined", False, True, False, "Gone"),
        ("two", "Open", True, True, False, None),
    ]


async def test_nothing_of_a_secret_is_published(layer: "Layer") -> None:
    await layer.publish()

    (spec,) = layer.column("select spec from integration.connection")
    assert spec["webhook"]["signing"] == {"secretsFrom": [{"name": "hook", "key": "signing"}]}
