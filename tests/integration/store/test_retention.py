"""Upkeep makes the partitions of the coming days and drops old ones, but nothing that is still needed."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from store.lanes import open_session
from store.retention import Retention
from store.upkeep import maintain, read_backlog

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

OLD = 40
KEPT = {"events": Retention(30), "attempts": Retention(30), "dead_letters": Retention(90)}


async def upkeep(layer: "Layer") -> list[tuple[str, str]]:
    async with await layer.connect("dispatcher") as dispatcher:
        return await maintain(dispatcher, **KEPT)


def day(days_ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).strftime("%Y%m%d")


def partitions(layer: "Layer", parent: str) -> list[str]:
    return layer.column("select partition from integration.partitions(%s) order by 1", (parent,))


def make_partition(layer: "Layer", parent: str, days_ago: int) -> None:
    with psycopg.connect(layer.owner_dsn, autocommit=True) as owner:
        owner.execute("select integration.create_partition(%s, current_date - %s)", (parent, days_ago))


def old_event(layer: "Layer", days_ago: int = OLD, *, dispatched: bool = True) -> int:
    """Write an event of former days into a partition of its day."""
    make_partition(layer, "event", days_ago)
    layer.emit()
    event: int = layer.value("select max(id) from integration.event")
    layer.admin.execute(
        "update integration.event set at = at - make_interval(days => %s) where id = %s", (days_ago, event)
    )
    if dispatched:
        layer.admin.execute("update integration.dispatch_cursor set lower = pg_current_snapshot()")
    return event


def owned_partitions(layer: "Layer") -> set[str]:
    return set(
        layer.column(
            "select pg_get_userbyid(relowner) from pg_class where relnamespace = 'integration'::regnamespace"
            " and relname ~ '_[0-9]{8}$' and relkind = 'r'"
        )
    )


async def test_partitions_of_the_coming_days_are_made_once(layer: "Layer") -> None:
    layer.admin.execute(f"drop table integration.event_{day(-3)}, integration.attempt_{day(-7)}".encode())
    first = await upkeep(layer)
    second = await upkeep(layer)

    assert first == [("created", f"event_{day(-3)}"), ("created", f"attempt_{day(-7)}")]
    assert second == []
    assert len(partitions(layer, "event")) == 9


async def test_a_new_partition_is_as_closed_as_its_parent(layer: "Layer") -> None:
    layer.admin.execute(f"drop table integration.event_{day(-3)}".encode())
    await upkeep(layer)
    made = layer.rows(
        "select relrowsecurity, relforcerowsecurity, relacl is null or not exists ("
        "  select from aclexplode(relacl) a where a.grantee <> relowner) from pg_class where relname = %s",
        (f"event_{day(-3)}",),
    )

    assert made == [(True, True, True)]
    assert len(owned_partitions(layer)) == 1


async def test_rows_that_came_before_their_partition_move_into_it(layer: "Layer") -> None:
    layer.admin.execute(f"drop table integration.event_{day(0)}, integration.attempt_{day(0)}".encode())
    layer.emit("early")
    layer.admin.execute(
        "insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome,"
        " duration_ms, worker) values (now(), 1, 1, 'acme', 1, 1, 1, 'Delivered', 1, 1)"
    )
    before = layer.rows("select tableoid::regclass::text, subject, xid::text from integration.event")
    await upkeep(layer)
    after = layer.rows("select tableoid::regclass::text, subject, xid::text from integration.event")

    assert before[0][0] == "integration.event_default"
    assert after == [(f"integration.event_{day(0)}", *before[0][1:])]
    assert layer.column("select tableoid::regclass::text from integration.attempt") == [f"integration.attempt_{day(0)}"]


async def test_what_outlived_its_retention_is_dropped(layer: "Layer") -> None:
    old_event(layer)
    make_partition(layer, "attempt", 31)
    make_partition(layer, "attempt", 30)
    done = await upkeep(layer)

    assert done == [("dropped", f"attempt_{day(31)}"), ("dropped", f"event_{day(OLD)}")]
    assert f"attempt_{day(30)}" in partitions(layer, "attempt")


@pytest.mark.parametrize("kind", ["job", "dead letter"])
async def test_events_of_unfinished_work_stay(layer: "Layer", kind: str) -> None:
    await layer.publish()
    event = old_event(layer)
    insert = {
        "job": "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at)"
        " select l.pool_id, 1, r.connection_id, r.id, e.id, e.at",
        "dead letter": "insert into integration.dead_letter (job_id, tenant_id, connection_id, route_id, event_id,"
        " event_at, attempts, reason) select 1, r.tenant_id, r.connection_id, r.id, e.id, e.at, 1, 'Invalid'",
    }[kind]
    layer.admin.execute(
        f"{insert} from integration.route r join integration.lane l using (connection_id), integration.event e"
        f" where e.id = {event}".encode()
    )
    kept = await upkeep(layer)
    layer.admin.execute("delete from integration.job")
    layer.admin.execute("delete from integration.dead_letter")
    dropped = await upkeep(layer)

    assert kept == [("kept, still needed", f"event_{day(OLD)}")]
    assert dropped == [("dropped", f"event_{day(OLD)}")]


async def test_events_that_nobody_has_dispatched_stay(layer: "Layer") -> None:
    old_event(layer, dispatched=False)

    assert await upkeep(layer) == [("kept, still needed", f"event_{day(OLD)}")]
    assert layer.value("select count(*) from integration.event") == 1


async def test_events_in_a_window_that_is_dispatched_in_part_stay(layer: "Layer") -> None:
    event = old_event(layer, dispatched=False)
    layer.admin.execute(
        "update integration.dispatch_cursor set upper = pg_current_snapshot(), last_event_id = %s", (event - 1,)
    )

    assert await upkeep(layer) == [("kept, still needed", f"event_{day(OLD)}")]


async def test_dead_letters_and_dedupe_keys_end_in_their_time(layer: "Layer") -> None:
    for key in ("old", "new"):
        layer.emit(key, dedupe_key=key)
    layer.admin.execute("update integration.event_dedupe set at = at - interval '31 days' where dedupe_key = 'old'")
    for job, days in ((1, 91), (2, 89)):
        layer.admin.execute(
            "insert into integration.dead_letter (job_id, tenant_id, connection_id, route_id, event_id, event_at,"
            " attempts, reason, dead_at)"
            " values (%s, 'acme', 1, 1, 1, now(), 1, 'x', now() - make_interval(days => %s))",
            (job, days),
        )
    done = await upkeep(layer)

    assert ("deleted 1", "dead_letter") in done
    assert layer.column("select job_id from integration.dead_letter") == [2]
    assert layer.column("select dedupe_key from integration.event_dedupe") == ["new"]


async def test_a_worker_s_name_is_kept_as_long_as_its_attempts_may_be(layer: "Layer") -> None:
    pool = (await layer.publish()).pool
    async with await layer.connect("pool_a") as worker:
        alive = await open_session(worker, pool, "alive", timedelta(minutes=5))
    layer.admin.execute("update integration.worker set seen_at = now() - interval '100 days'")
    for session, days in ((1001, 33), (1002, 31)):
        layer.admin.execute(
            "insert into integration.worker values (%s, %s, 'gone', now() - make_interval(days => %s))",
            (session, pool, days),
        )
    await upkeep(layer)

    kept = layer.rows("select session, seen_at > now() - interval '1 day' from integration.worker order by 1")
    assert kept == [(alive, True), (1002, False)]


async def test_upkeep_waits_for_no_lock_for_ever_and_blocks_no_producer_meanwhile(layer: "Layer") -> None:
    old_event(layer)
    with psycopg.connect(layer.admin_dsn) as reading:
        reading.execute(f"select * from integration.event_{day(OLD)}".encode())
        with pytest.raises(Exception, match="lock"):
            await upkeep(layer)

    assert f"event_{day(OLD)}" in partitions(layer, "event")
    assert ("dropped", f"event_{day(OLD)}") in await upkeep(layer)


async def test_the_backlog_counts_unfinished_jobs_of_every_connection(layer: "Layer") -> None:
    await layer.publish(name="empty")
    published = await layer.publish(name="full")
    for _ in range(3):
        layer.emit()
    layer.admin.execute(
        "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at)"
        " select %s, row_number() over (), %s, 1, id, at - interval '1 hour' from integration.event",
        (published.pool, published.id),
    )
    async with await layer.connect("dispatcher") as dispatcher:
        backlog = {row.connection: row for row in await read_backlog(dispatcher)}

    assert (backlog["empty"].jobs, backlog["full"].jobs) == (0, 3)
    assert backlog["empty"].oldest_seconds == 0
    assert backlog["full"].oldest_seconds >= 3600
