"""What alerts are told of the database is so."""

from typing import TYPE_CHECKING

import anyio
import psycopg
import pytest

from contracts.ids import EventId
from delivery.routing import RoutingTable
from store.dispatch import Cursor, read_batch, read_cursor, read_routes, write_jobs
from store.watching import Watched, watch

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio


async def look(layer: "Layer") -> Watched:
    async with await layer.connect("dispatcher") as dispatcher:
        return await watch(dispatcher)


async def dispatch(layer: "Layer", limit: int = 1000) -> None:
    """Dispatch one batch."""
    async with await layer.connect("dispatcher") as database:
        cursor: Cursor = await read_cursor(database)
        batch = await read_batch(database, cursor, limit=limit, with_data=False)
        assert batch is not None
        _, jobs, failures = RoutingTable(*await read_routes(database)).route(batch.events, 1000)
        assert await write_jobs(database, cursor, batch.next_cursor(cursor), jobs, failures)


def age_by(layer: "Layer", event: int, seconds: int) -> None:
    layer.admin.execute(
        "update integration.event set at = at - make_interval(secs => %s) where id = %s", (seconds, event)
    )


def events(layer: "Layer") -> list[EventId]:
    return layer.column("select id from integration.event order by id")


# Dead rows ----------------------------------------------------------------------------------------------------------


async def test_rows_that_vacuum_has_not_removed_are_counted(layer: "Layer") -> None:
    await layer.publish()
    layer.rows("alter table integration.lane set (autovacuum_enabled = off)")
    for _ in range(5):
        layer.rows("update integration.lane set revision = revision + 1")
    layer.rows("select pg_stat_force_next_flush()")

    assert (await look(layer)).dead_rows["lane"] >= 5

    layer.rows("vacuum integration.lane")
    assert (await look(layer)).dead_rows["lane"] == 0


# Undispatched events ----------------------------------------------------------------------------------------------


async def test_the_oldest_undispatched_event_is_found_and_a_dispatched_one_is_not(layer: "Layer") -> None:
    layer.emit()
    (first,) = events(layer)
    age_by(layer, first, 3600)
    waiting = await look(layer)
    await dispatch(layer)
    nothing = await look(layer)

    assert 3600 <= waiting.undispatched_seconds < 3700
    assert nothing.undispatched_seconds == 0


async def test_of_a_window_that_is_dispatched_in_part_the_rest_waits(layer: "Layer") -> None:
    for _ in range(2):
        layer.emit()
    first, second = events(layer)
    age_by(layer, first, 7200)
    age_by(layer, second, 3600)
    await dispatch(layer, limit=1)

    assert 3600 <= (await look(layer)).undispatched_seconds < 3700


async def test_an_event_of_a_transaction_that_ended_late_is_found_too(layer: "Layer") -> None:
    with psycopg.connect(layer.dsn("producer")) as producer:
        producer.execute("select integration.emit_event('acme', 'ext.a.b', 'late', '{}')")
        layer.emit()
        await dispatch(layer)
        before = await look(layer)
        producer.commit()
    age_by(layer, events(layer)[0], 3600)

    assert before.undispatched_seconds == 0
    assert 3600 <= (await look(layer)).undispatched_seconds < 3700


# Dead letters -----------------------------------------------------------------------------------------------------


async def test_dead_letters_are_counted_for_connections_that_have_any_and_have_not_ended(layer: "Layer") -> None:
    for name in ("well", "ill", "ended"):
        await layer.publish(name=name)
    for name, letters in (("ill", 3), ("ended", 1)):
        layer.admin.execute(
            "insert into integration.dead_letter (job_id, tenant_id, connection_id, route_id, event_id, event_at,"
            " attempts, reason) select %s + n, 'acme', %s, 1, 1, now(), 1, 'Invalid' from generate_series(1, %s) n",
            (100 * letters, layer.published[f"acme/{name}"].id, letters),
        )
    layer.admin.execute("update integration.connection set deleted_at = now() where name = 'ended'")

    assert (await look(layer)).dead_letters == {("acme", "ill"): 3}


# Transactions -----------------------------------------------------------------------------------------------------


def burn(layer: "Layer", transactions: int = 3) -> None:
    for _ in range(transactions):
        layer.admin.execute("select pg_current_xact_id()")


async def look_past_upkeep(layer: "Layer") -> Watched:
    """Look again while something is held back for a moment: the server may be at work on its tables."""
    for _ in range(100):
        seen = await look(layer)
        if seen.oldest_transaction == seen.next_transaction:
            return seen
        await anyio.sleep(0.1)
    return await look(layer)


async def test_without_open_transactions_nothing_is_held_back(layer: "Layer") -> None:
    burn(layer)
    seen = await look_past_upkeep(layer)

    assert seen.oldest_transaction == seen.next_transaction


@pytest.mark.parametrize("holds", ["a snapshot", "a number", "a prepared transaction"])
async def test_whoever_holds_an_old_transaction_is_seen_without_a_right_to_monitor(layer: "Layer", holds: str) -> None:
    begin = int(layer.value("select pg_current_xact_id()::text"))
    with psycopg.connect(layer.admin_dsn, autocommit=True) as holder:
        match holds:
            case "a snapshot":
                holder.execute("begin isolation level repeatable read")
                holder.execute("select 1")
            case "a number":
                holder.execute("begin")
                holder.execute("select pg_current_xact_id()")
            case _:
                holder.execute("begin")
                holder.execute("select pg_current_xact_id()")
                holder.execute("prepare transaction 'forgotten'")
        held = int(layer.value("select pg_current_xact_id()::text"))
        burn(layer)
        seen = await look(layer)
        if holds == "a prepared transaction":
            holder.execute("rollback prepared 'forgotten'")

    assert begin < seen.oldest_transaction <= held  # the server's own upkeep draws numbers, too
    assert seen.next_transaction >= begin + 4


async def test_a_transaction_of_another_database_holds_nothing_back(layer: "Layer", admin_dsn: str) -> None:
    with psycopg.connect(admin_dsn) as elsewhere:
        elsewhere.execute("select pg_current_xact_id()")
        burn(layer)
        seen = await look_past_upkeep(layer)

    assert seen.oldest_transaction == seen.next_transaction


# Partitions -------------------------------------------------------------------------------------------------------


async def test_partitions_ahead_are_counted_in_days(layer: "Layer") -> None:
    layer.admin.execute(
        b"drop table integration.event_"
        + layer.value("select to_char((now() at time zone 'UTC')::date + 7, 'YYYYMMDD')").encode()
    )

    assert (await look(layer)).partitions_ahead == {"event": 6, "attempt": 7}
