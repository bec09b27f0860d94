"""A tenant's own retention: partitions end with the longest one, and what ends before is deleted once, in batches."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from store import retention
from store.retention import Relation, Retention, Swept, forget_dead_letters, sweep
from store.upkeep import maintain

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

SHORT = Retention(30, {"acme": 7})
LONG = Retention(7, {"acme": 365})
LETTERS = Retention(90)


def day(days_ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).strftime("%Y%m%d")


def fill(layer: "Layer", days_ago: int, *tenants: str, each: int = 1) -> None:
    """Write dispatched events of former days, with dedupe keys and attempts, into partitions of their day."""
    with psycopg.connect(layer.owner_dsn, autocommit=True) as owner:
        for parent in ("event", "attempt"):
            owner.execute("select integration.create_partition(%s, current_date - %s)", (parent, days_ago))
    inserts = {
        "event (tenant_id, at, xid, type, subject, data)": "'2', 'ext.test.happened', 's', '{}'",
        "event_dedupe (tenant_id, at, dedupe_key, event_id, fingerprint)": "%(key)s || n, 'evt', 1",
        "attempt (tenant_id, at, event_id, job_id, connection_id, route_id, number, outcome, duration_ms, worker)": (
            "1, 1, 1, 1, 1, 'Delivered', 1, 1"
        ),
    }
    row = "%(tenant)s, now() - make_interval(days => %(days)s)"
    for tenant in tenants:
        parameters = {"tenant": tenant, "days": days_ago, "each": each, "key": uuid4().hex}
        for columns, others in inserts.items():
            insert = f"insert into integration.{columns} select {row}, {others} from generate_series(1, %(each)s) n"
            layer.admin.execute(insert.encode(), parameters)


async def swept(layer: "Layer", relation: Relation, kept: Retention) -> list[Swept]:
    """Sweep until nothing is left."""
    done = []
    async with await layer.connect("dispatcher") as dispatcher:
        while batch := await sweep(dispatcher, relation, kept):
            done.append(batch)
    return done


def left(layer: "Layer", relation: str) -> list[tuple[str, int]]:
    """Count what is left by tenant, and how old it is in days."""
    return layer.rows(
        f"select tenant_id, (now() at time zone 'UTC')::date - (at at time zone 'UTC')::date"
        f" from integration.{relation} group by 1, 2 order by 1, 2"
    )


@pytest.mark.parametrize("relation", ["event", "event_dedupe", "attempt"])
async def test_a_tenant_s_shorter_retention_ends_its_rows_and_nobody_else_s(layer: "Layer", relation: Relation) -> None:
    for days_ago in (7, 8, 9):
        fill(layer, days_ago, "acme", "other")
    await swept(layer, relation, SHORT)

    assert left(layer, relation) == [("acme", 7), ("other", 7), ("other", 8), ("other", 9)]


@pytest.mark.parametrize("relation", ["event", "event_dedupe", "attempt"])
async def test_beside_a_tenant_s_longer_retention_the_others_rows_end_in_their_time(
    layer: "Layer", relation: Relation
) -> None:
    fill(layer, 7, "acme", "other")
    fill(layer, 8, "acme", "other", "another")
    await swept(layer, relation, LONG)

    assert left(layer, relation) == [("acme", 7), ("acme", 8), ("other", 7)]


async def test_a_partition_is_dropped_when_the_longest_retention_is_over(layer: "Layer") -> None:
    for days_ago in (40, 366):
        fill(layer, days_ago, "acme", "other")
    async with await layer.connect("dispatcher") as dispatcher:
        done = await maintain(dispatcher, events=LONG, attempts=LONG, dead_letters=LETTERS)

    assert done == [("dropped", f"attempt_{day(366)}"), ("dropped", f"event_{day(366)}")]


@pytest.mark.parametrize("need", ["job", "dead letter", "dispatch"])
async def test_events_that_are_needed_stay_and_are_looked_at_again_a_day_later(layer: "Layer", need: str) -> None:
    await layer.publish()
    fill(layer, 9, "acme")
    source = "from integration.route r join integration.lane l using (connection_id), integration.event e"
    job = f"select l.pool_id, 1, r.connection_id, r.id, e.id, e.at {source}"
    columns = "job_id, tenant_id, connection_id, route_id, event_id, event_at, attempts, reason"
    letter = f"select 1, r.tenant_id, r.connection_id, r.id, e.id, e.at, 1, 'Invalid' {source}"
    later = "(pg_snapshot_xmax(c.lower)::text::bigint + 1000)::text::xid8"
    make, undo = {
        "job": (
            f"insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at) {job}",
            "delete from integration.job",
        ),
        "dead letter": (
            f"insert into integration.dead_letter ({columns}) {letter}",
            "delete from integration.dead_letter",
        ),
        "dispatch": (
            f"update integration.event set xid = {later} from integration.dispatch_cursor c",
            "update integration.event set xid = '2'",
        ),
    }[need]
    layer.admin.execute(make.encode())
    await swept(layer, "event", SHORT)
    kept = left(layer, "event")
    layer.admin.execute(undo.encode())
    at_once = await swept(layer, "event", SHORT)
    layer.admin.execute("update integration.sweep set swept_at = swept_at - interval '25 hours'")
    await swept(layer, "event", SHORT)

    assert kept == [("acme", 9)]
    assert at_once == []
    assert left(layer, "event") == []


async def test_a_day_is_swept_in_batches_and_goes_on_where_it_was_left(
    layer: "Layer", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BLOCKS_AT_ONCE", 2)
    monkeypatch.setattr(retention, "KEYS_AT_ONCE", 100)
    fill(layer, 9, "acme", each=1000)
    layer.admin.execute(
        "update integration.event_dedupe set at = at + right(dedupe_key, 2)::int * interval '1 second'"
        " where dedupe_key ~ '[0-9]{2}$'"
    )
    for relation in ("event", "event_dedupe", "attempt"):
        async with await layer.connect("dispatcher") as dispatcher:
            first = await sweep(dispatcher, relation, SHORT)
        remaining = layer.value(f"select count(*) from integration.{relation}")
        others = await swept(layer, relation, SHORT)

        assert first is not None
        assert 0 < first.deleted < 1000
        assert (first.finished, remaining) == (False, 1000 - first.deleted)
        assert first.deleted + sum(batch.deleted for batch in others) == 1000
        assert [batch.finished for batch in others] == [False] * (len(others) - 1) + [True]


async def test_a_partition_that_another_has_just_dropped_counts_as_swept(layer: "Layer") -> None:
    layer.admin.execute(
        "insert into integration.sweep (relation, day, others_due, exceptions)"
        " values ('event', current_date - 9, true, '{}')"
    )
    signature = "integration.plan_sweeps(relation text, days int, tenant_days jsonb)"
    layer.admin.execute(f"create or replace function {signature} returns void language sql as ''".encode())

    assert await swept(layer, "event", SHORT) == [Swept(datetime.now(UTC).date() - timedelta(days=9), 0, finished=True)]


async def test_a_batch_that_was_killed_before_its_commit_is_made_again(layer: "Layer") -> None:
    fill(layer, 9, "acme", each=10)
    dispatcher = await layer.connect("dispatcher")
    with pytest.raises(RuntimeError):
        async with dispatcher.transaction():
            await sweep(dispatcher, "event", SHORT)
            raise RuntimeError("killed")
    again = await sweep(dispatcher, "event", SHORT)

    assert again is not None
    assert again.deleted == 10


async def test_of_two_dispatchers_at_once_one_sweeps_and_the_other_does_not_wait(layer: "Layer") -> None:
    fill(layer, 9, "acme")
    one, other = await layer.connect("dispatcher"), await layer.connect("dispatcher")
    async with one.transaction():
        first = await sweep(one, "event", SHORT)
        second = await sweep(other, "event", SHORT)

    assert first is not None
    assert second is None


async def test_a_swept_day_is_not_read_again_until_other_tenants_are_due(layer: "Layer") -> None:
    fill(layer, 9, "acme", "other", "third")
    first = await swept(layer, "event", SHORT)
    again = await swept(layer, "event", SHORT)
    other = await swept(layer, "event", Retention(30, {"acme": 7, "other": 8}))

    assert [batch.deleted for batch in first] == [1]
    assert again == []
    assert [batch.deleted for batch in other] == [1]
    assert left(layer, "event") == [("third", 9)]


async def test_a_round_without_work_reads_no_history_and_a_batch_only_its_blocks(
    layer: "Layer", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BLOCKS_AT_ONCE", 2)
    fill(layer, 9, "acme", "other", each=2000)
    fill(layer, 1, "acme", "other", each=2000)
    touched = (
        b"select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int from pg_stat_xact_all_tables"
        b" where relname like 'event\\_2%'"
    )

    async def read_by_a_batch() -> tuple[Swept | None, int]:
        dispatcher = await layer.connect("dispatcher")
        async with dispatcher.transaction():
            done = await sweep(dispatcher, "event", SHORT)
            (row,) = await (await dispatcher.execute(touched)).fetchall()
        return done, row[0]

    first, batch = await read_by_a_batch()
    await swept(layer, "event", SHORT)
    last, idle = await read_by_a_batch()

    assert first is not None
    assert 0 < batch <= 2 * 2 * 8192 // 60
    assert last is None
    assert idle == 0


async def test_a_batch_reads_unfinished_jobs_once_whatever_the_number_of_events(layer: "Layer") -> None:
    fill(layer, 9, "acme", each=500)
    layer.admin.execute(
        "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at)"
        " select 1, id, 1, 1, id, at from integration.event limit 100"
    )
    dispatcher = await layer.connect("dispatcher")
    async with dispatcher.transaction():
        done = await sweep(dispatcher, "event", SHORT)
        read = b"select (seq_tup_read + idx_tup_fetch)::int from pg_stat_xact_all_tables where relname = 'job'"
        (row,) = await (await dispatcher.execute(read)).fetchall()

    assert done is not None
    assert done.deleted == 400
    assert row[0] == 100


async def test_without_tenants_of_their_own_days_nothing_is_swept(layer: "Layer") -> None:
    fill(layer, 40, "acme")

    assert await swept(layer, "event", Retention(30)) == []
    assert layer.rows("select * from integration.sweep") == []


async def test_what_is_known_of_a_day_ends_with_it(layer: "Layer") -> None:
    fill(layer, 30, "acme")
    await swept(layer, "event", SHORT)
    known = layer.value("select count(*) from integration.sweep")
    await swept(layer, "event", Retention(29, {"acme": 7}))

    assert known > 0
    assert layer.value("select count(*) from integration.sweep where day = current_date - 30") == 0


async def test_dead_letters_end_with_their_tenant_s_retention(layer: "Layer", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LETTERS_AT_ONCE", 2)
    for job, tenant, days in ((1, "acme", 8), (2, "acme", 9), (3, "acme", 6), (4, "other", 9), (5, "acme", 10)):
        layer.admin.execute(
            "insert into integration.dead_letter (job_id, tenant_id, connection_id, route_id, event_id, event_at,"
            " attempts, reason, dead_at)"
            " values (%s, %s, 1, 1, 1, now(), 1, 'x', now() - make_interval(days => %s))",
            (job, tenant, days),
        )
    async with await layer.connect("dispatcher") as dispatcher:
        deleted = await forget_dead_letters(dispatcher, SHORT)

    assert deleted == 3
    assert layer.column("select job_id from integration.dead_letter order by 1") == [3, 4]


async def test_nobody_but_the_dispatcher_may_sweep(layer: "Layer") -> None:
    for role in ("producer", "operator", "reader", "support", "pool_a"):
        async with await layer.connect(role) as database:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await sweep(database, "event", SHORT)
