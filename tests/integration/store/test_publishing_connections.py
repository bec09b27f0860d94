"""A publication is seen whole or not at all, counts only if it changed something, and mixes up no tenants."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from contracts.ids import ConnectionUid, PoolId
from store import publication
from store.database import Database, run
from store.dispatch import read_epoch, read_routes
from store.publication import (
    Publication,
    PublishedConnection,
    Refusal,
    connection_states,
    publish,
    retire,
)
from store.statement import Statement

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio


async def test_publishing_the_same_again_changes_nothing(layer: "Layer") -> None:
    uid = ConnectionUid(uuid4())
    async with await layer.connect("operator") as operator:
        pool = await publication.write_pool(operator, "pool_a", "pool_a")
        connection = PublishedConnection(uid, "acme", "hook", layer.spec(), pool)
        answers = [answer for _ in range(3) for answer in await publish(operator, [connection])]

    assert answers == [Publication(uid, 1, changed) for changed in (True, False, False)]
    assert layer.value("select epoch from integration.routing") == 1
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
        for _ in range(2):
            await retire(operator, [published.uid])
    async with await layer.connect("dispatcher") as dispatcher:
        routes = await read_routes(dispatcher)

    assert routes == (2, [])
    assert layer.value("select count(*) from integration.lane") == 1


async def test_a_retired_connection_that_is_published_again_takes_events_again(layer: "Layer") -> None:
    published = await layer.publish()
    async with await layer.connect("operator") as operator:
        await retire(operator, [published.uid])
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


async def test_a_connection_that_would_change_tenant_or_pool_is_refused_and_the_others_are_published(
    layer: "Layer",
) -> None:
    crm, erp = [await layer.publish(layer.spec(tenant="acme"), name=name) for name in ("crm", "erp")]
    new = ConnectionUid(uuid4())
    async with await layer.connect("operator") as operator:
        other = await publication.write_pool(operator, "pool_b", "pool_b")
        answers = await publish(
            operator,
            [
                PublishedConnection(crm.uid, "acme", "crm", layer.spec(tenant="globex"), crm.pool),
                PublishedConnection(new, "acme", "new", layer.spec(), other),
                PublishedConnection(erp.uid, "acme", "erp", layer.spec(), other),
            ],
        )

    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert [refusal.uid for refusal in refused] == [crm.uid, erp.uid]
    assert "belongs to tenant acme" in refused[0].reason
    assert "delivered by pool pool_a" in refused[1].reason
    assert answers[1] == Publication(new, 3, changed=True)
    for table in ("connection", "lane", "route"):
        assert layer.column(f"select tenant_id from integration.{table}") == ["acme"] * 3


async def test_each_connection_knows_the_epoch_of_its_last_change(layer: "Layer") -> None:
    one, two = [await layer.publish(name=name) for name in ("one", "two")]
    async with await layer.connect("operator") as operator:
        answers = await publish(
            operator,
            [
                PublishedConnection(one.uid, "acme", "one", layer.spec(), one.pool),
                PublishedConnection(two.uid, "acme", "two", layer.spec(suspend=True), two.pool),
            ],
        )
        states = await connection_states(operator)

    assert answers == [Publication(one.uid, 1, changed=False), Publication(two.uid, 3, changed=True)]
    assert [(state.name, state.pool, state.epoch) for state in states] == [("one", "pool_a", 1), ("two", "pool_a", 3)]


@pytest.mark.parametrize("new", [True, False], ids=["new", "unchanged"])
async def test_a_large_publication_takes_no_more_statements_than_a_small_one(
    layer: "Layer", monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    async def counted(number: int) -> int:
        wanted = [
            PublishedConnection(ConnectionUid(uuid4()), "acme", f"hook-{number}-{n}", layer.spec(), pool)
            for n in range(number)
        ]
        if not new:
            await publish(operator, wanted)
        ran.clear()
        answers = await publish(operator, wanted)
        assert {answer.changed for answer in answers if isinstance(answer, Publication)} == {new}
        return len(ran)

    ran: list[str] = []

    async def noting(database: Database, what: Statement, parameters: Sequence[object] = ()) -> Any:
        ran.append(what.name)
        return await run(database, what, parameters)

    async with await layer.connect("operator") as operator:
        pool = await publication.write_pool(operator, "pool_a", "pool_a")
        monkeypatch.setattr(publication, "run", noting)
        counts = [await counted(number) for number in (1, 300)]

    assert counts[0] == counts[1] == (8 if new else 2)


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
