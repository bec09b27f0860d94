"""A lane has one owner, jobs move only in its hands, and whatever comes too late writes nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from contracts.ids import ConnectionId, EventId, JobId, PoolId, SessionId, TenantId
from store import publication
from store.database import Database
from store.errors import LeaseLostError
from store.jobs import (
    Job,
    due_jobs,
    held_jobs,
    lane_jobs,
    last_job,
    load_data,
    load_events,
    next_due,
    probe_jobs,
    tail_jobs,
)
from store.lanes import (
    acquire_lanes,
    close_session,
    count_share,
    heartbeat,
    lane_versions,
    open_session,
    read_lanes,
    reap_sessions,
    release_lanes,
    take_tokens,
)
from store.settlement import AttemptRow, DeadLetter, Deferral, LaneChange, Settlement, Success, finish, settle

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

LEASE = timedelta(minutes=5)
FIRST = JobId(0)


@dataclass
class Owner:
    """A worker session and what it owns."""

    layer: "Layer"
    database: Database
    pool: PoolId
    session: SessionId
    lanes: list[ConnectionId]

    async def jobs(self, limit: int = 100) -> list[Job]:
        return await lane_jobs(self.database, [(lane, FIRST, limit) for lane in self.lanes])

    async def settle(self, what: Settlement) -> tuple[int, frozenset[ConnectionId]]:
        settled = await settle(self.database, self.pool, self.session, what)
        return settled.fenced, settled.stale_lanes


async def owner(layer: "Layer", lanes: int = 1, jobs: int = 0, *, name: str = "worker", ordered: bool = True) -> Owner:
    """Publish lanes, put jobs into the first, and open a session that owns all."""
    for number in range(lanes):
        await layer.publish(name=f"hook-{number}")
    pool = layer.published["acme/hook-0"].pool
    put_jobs(layer, "hook-0", jobs, ordered=ordered)
    database = await layer.connect("pool_a")
    session = await open_session(database, pool, name, LEASE)
    return Owner(layer, database, pool, session, sorted(await acquire_lanes(database, pool, session, limit=100)))


def put_jobs(layer: "Layer", name: str, number: int, *, ordered: bool = True) -> None:
    for index in range(number):
        layer.emit(f"subject-{index % 2}", number=index)
        layer.admin.execute(
            "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject)"
            " select l.pool_id, nextval('integration.job_id'), l.connection_id, r.id, e.id, e.at, %s"
            " from integration.lane l join integration.route r using (connection_id)"
            " join integration.connection c on c.id = l.connection_id,"
            " lateral (select id, at from integration.event order by id desc limit 1) e where c.name = %s",
            (index % 2 if ordered else None, name),
        )


def success(job: Job) -> Success:
    return Success(job.id, job.attempts, TenantId("acme"), 204, 12_500, 3_000)


def tried(job: Job, outcome: str = "Transient", detail: str | None = "HTTP 503") -> AttemptRow:
    return AttemptRow(
        job.id,
        job.event,
        TenantId("acme"),
        job.connection,
        job.route,
        job.attempts + 1,
        outcome,
        503,
        12.5,
        3.0,
        detail,
    )


def quarantine(lane: ConnectionId, revision: int) -> LaneChange:
    return LaneChange(lane, revision, "Quarantined", 10, "Gone: they said so", 0, 60.0, None, None, None, None, None)


def everything(layer: "Layer") -> list[object]:
    """Return all that results can change."""
    return [
        layer.rows(f"select * from integration.{table} order by 1, 2")
        for table in ("job", "attempt", "dead_letter", "lane")
    ]


# Sessions ---------------------------------------------------------------------------------------------------------


async def test_a_lane_has_one_owner(layer: "Layer") -> None:
    first = await owner(layer, lanes=3)
    second = await open_session(first.database, first.pool, "another", LEASE)

    assert len(first.lanes) == 3
    assert await acquire_lanes(first.database, first.pool, second, limit=100) == []


async def test_two_that_take_lanes_at_once_get_different_ones(layer: "Layer") -> None:
    first = await owner(layer, lanes=6)
    await release_lanes(first.database, first.session, [(lane, 1.0) for lane in first.lanes])
    other = await layer.connect("pool_a")
    second = await open_session(other, first.pool, "another", LEASE)
    taken = await asyncio.gather(
        acquire_lanes(first.database, first.pool, first.session, limit=4),
        acquire_lanes(other, first.pool, second, limit=4),
    )

    assert sorted(taken[0] + taken[1]) == first.lanes


async def test_a_worker_that_starts_again_ends_its_former_session_and_frees_its_lanes(layer: "Layer") -> None:
    former = await owner(layer, jobs=1)
    (job,) = await former.jobs()
    again = await layer.connect("pool_a")
    session = await open_session(again, former.pool, "worker", LEASE)

    assert await acquire_lanes(again, former.pool, session, limit=10) == former.lanes
    with pytest.raises(LeaseLostError):
        await finish(former.database, former.pool, former.session, [success(job)])


async def test_a_lease_that_ran_out_is_taken_by_whoever_looks_and_one_that_did_not_is_not(layer: "Layer") -> None:
    first = await owner(layer)
    assert await reap_sessions(first.database, first.pool) == []
    layer.admin.execute("update integration.worker_session set lease_until = now() - interval '1 s'")

    assert await reap_sessions(first.database, first.pool) == ["worker"]
    assert layer.value("select owner from integration.lane") is None


async def test_a_heartbeat_keeps_the_lease_and_tells_the_database_s_time(layer: "Layer") -> None:
    first = await owner(layer)
    layer.admin.execute("update integration.worker_session set lease_until = now() - interval '1 s'")
    clock = await heartbeat(first.database, first.session, LEASE)

    assert await reap_sessions(first.database, first.pool) == []
    assert abs(clock - layer.value("select extract(epoch from clock_timestamp())::float8")) < 60


async def test_a_closed_session_frees_its_lanes_and_shares_count_the_living(layer: "Layer") -> None:
    first = await owner(layer, lanes=3)
    second = await open_session(first.database, first.pool, "another", LEASE)
    share = await count_share(first.database, first.pool, first.session)
    await close_session(first.database, first.session)

    assert (share.lanes, share.sessions, share.owned, share.fair) == (3, 2, 3, 2)
    assert (await count_share(first.database, first.pool, second)).fair == 3
    assert await acquire_lanes(first.database, first.pool, second, limit=10) == first.lanes


async def test_who_lost_the_lease_is_told_so_at_every_turn_and_writes_nothing(layer: "Layer") -> None:
    lost = await owner(layer, lanes=2, jobs=3)
    first, second, third = await lost.jobs()
    layer.admin.execute("delete from integration.worker_session")
    before = everything(layer)
    what = Settlement(
        deferred=[Deferral(first.id, 0, 1, 5.0)],
        dead=[DeadLetter(second.id, 0, 1, "Invalid", "")],
        attempts=[tried(first), tried(second)],
        held=[third.id],
        lanes=[quarantine(lost.lanes[0], 0)],
        hasten=lost.lanes,
    )

    with pytest.raises(LeaseLostError):
        await heartbeat(lost.database, lost.session, LEASE)
    with pytest.raises(LeaseLostError):
        await acquire_lanes(lost.database, lost.pool, lost.session, limit=1)
    with pytest.raises(LeaseLostError):
        await finish(lost.database, lost.pool, lost.session, [success(first)])
    with pytest.raises(LeaseLostError):
        await lost.settle(what)
    await release_lanes(lost.database, lost.session, [(lost.lanes[0], 1.0)])
    await take_tokens(lost.database, lost.session, lost.lanes)
    assert everything(layer) == before


async def test_a_lease_cannot_be_taken_while_results_are_being_written(layer: "Layer") -> None:
    writing = await owner(layer, jobs=1)
    other = await layer.connect("pool_a")
    layer.admin.execute("update integration.worker_session set lease_until = now() - interval '1 s'")
    async with writing.database.transaction():
        await writing.settle(Settlement(held=[(await writing.jobs())[0].id]))
        taking = asyncio.create_task(reap_sessions(other, writing.pool))
        blocked = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        while layer.value(blocked) == 0:
            await asyncio.sleep(0)
        waited = not taking.done()

    assert waited
    assert await taking == ["worker"]


# Results ----------------------------------------------------------------------------------------------------------


async def test_a_delivery_removes_its_job_and_leaves_an_attempt(layer: "Layer") -> None:
    mine = await owner(layer, jobs=2)
    first, second = await mine.jobs()
    kept = await finish(mine.database, mine.pool, mine.session, [success(first)])

    assert kept == 1
    assert [job.id for job in await mine.jobs()] == [second.id]
    assert layer.rows(
        "select event_id, job_id, tenant_id, connection_id, route_id, number, outcome, status_code, duration_ms,"
        " worker, detail from integration.attempt"
    ) == [(first.event, first.id, "acme", first.connection, first.route, 1, "Delivered", 204, 12.5, mine.session, None)]


async def test_a_result_of_an_attempt_that_was_counted_already_changes_nothing(layer: "Layer") -> None:
    mine = await owner(layer, jobs=1)
    (job,) = await mine.jobs()
    await mine.settle(Settlement(deferred=[Deferral(job.id, 0, 1, 0.0)], attempts=[tried(job)]))

    assert await finish(mine.database, mine.pool, mine.session, [success(job)]) == 0
    assert await mine.settle(Settlement(deferred=[Deferral(job.id, 0, 1, 9.0)], attempts=[])) == (1, frozenset())
    assert layer.rows("select attempts, state, run_at <= now() from integration.job") == [(1, 1, True)]


async def test_results_sent_twice_because_the_answer_was_lost_count_once(layer: "Layer") -> None:
    mine = await owner(layer, jobs=2)
    first, second = await mine.jobs()
    what = Settlement(
        deferred=[Deferral(first.id, 0, 1, 5.0)], attempts=[tried(first)], lanes=[quarantine(mine.lanes[0], 0)]
    )
    answers = [await mine.settle(what) for _ in range(2)]
    finished = [await finish(mine.database, mine.pool, mine.session, [success(second)]) for _ in range(2)]

    assert answers == [(0, frozenset()), (1, frozenset(mine.lanes))]
    assert finished == [1, 0]
    assert layer.rows("select attempts, state from integration.job") == [(1, 1)]
    assert layer.column("select revision from integration.lane") == [1]


async def test_attempts_sent_twice_because_the_answer_was_lost_are_recorded_once(layer: "Layer") -> None:
    mine = await owner(layer, jobs=1)
    (job,) = await mine.jobs()
    for _ in range(2):
        await mine.settle(Settlement(deferred=[Deferral(job.id, 0, 1, 5.0)], attempts=[tried(job)]))

    assert layer.rows("select job_id, number from integration.attempt") == [(job.id, 1)]


async def test_a_job_is_dead_lettered_once_however_often_it_is_asked(layer: "Layer") -> None:
    mine = await owner(layer, jobs=1)
    (job,) = await mine.jobs()
    what = Settlement(dead=[DeadLetter(job.id, 0, 1, "Invalid", "too large")], attempts=[tried(job, "Invalid")])

    assert [(await mine.settle(what))[0] for _ in range(2)] == [0, 1]
    assert layer.column("select job_id from integration.dead_letter") == [job.id]


async def test_a_dead_letter_keeps_what_a_replay_needs(layer: "Layer") -> None:
    mine = await owner(layer, jobs=1)
    (job,) = await mine.jobs()
    detail = "it said {\"a\": 'b', c\\d}, \n and more"
    await mine.settle(
        Settlement(dead=[DeadLetter(job.id, 0, 1, "Invalid", detail)], attempts=[tried(job, detail=detail)])
    )

    assert layer.rows(
        "select job_id, tenant_id, connection_id, route_id, event_id, event_at, subject, attempts, reason, detail"
        " from integration.dead_letter"
    ) == [(job.id, "acme", job.connection, job.route, job.event, job.at, job.subject, 1, "Invalid", detail)]
    assert layer.column("select detail from integration.attempt") == [detail]
    assert await mine.jobs() == []


async def test_a_deferred_job_is_due_in_its_time_and_at_once_when_hastened(layer: "Layer") -> None:
    mine = await owner(layer, jobs=2)
    first, second = await mine.jobs()
    await mine.settle(Settlement(deferred=[Deferral(first.id, 0, 1, 600.0)], attempts=[tried(first)]))
    before = await due_jobs(mine.database, mine.lanes, limit=10)
    (wait,) = (await next_due(mine.database, mine.lanes)).values()
    await mine.settle(Settlement(hasten=mine.lanes))

    assert before == []
    assert wait is not None
    assert 500 < wait <= 600
    assert [(job.id, job.attempts) for job in await due_jobs(mine.database, mine.lanes, limit=10)] == [(first.id, 1)]
    assert [job.id for job in await mine.jobs()] == [second.id]


async def test_held_jobs_are_read_by_subject_in_order_and_not_as_ready_ones(layer: "Layer") -> None:
    mine = await owner(layer, jobs=6)
    jobs = await mine.jobs()
    await mine.settle(Settlement(held=[job.id for job in jobs[2:]]))
    held = await held_jobs(mine.database, [(mine.lanes[0], 1)], limit=10)

    assert [job.id for job in await mine.jobs()] == [job.id for job in jobs[:2]]
    assert [job.id for job in held] == [jobs[3].id, jobs[5].id]


async def test_a_deferred_job_is_not_held(layer: "Layer") -> None:
    mine = await owner(layer, jobs=1)
    (job,) = await mine.jobs()
    await mine.settle(Settlement(deferred=[Deferral(job.id, 0, 1, 5.0)], attempts=[tried(job)]))
    await mine.settle(Settlement(held=[job.id]))

    assert layer.column("select state from integration.job") == [1]


@pytest.mark.parametrize("states", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
async def test_a_probe_takes_the_oldest_job_whatever_it_waits_for(layer: "Layer", states: Sequence[int]) -> None:
    mine = await owner(layer, jobs=3)
    jobs = await mine.jobs()
    for job, state in zip(jobs, states, strict=True):
        layer.admin.execute(
            "update integration.job set state = %s, run_at = case when %s = 1 then now() end where id = %s",
            (state, state, job.id),
        )

    assert [job.id for job in await probe_jobs(mine.database, mine.lanes)] == [jobs[0].id]


async def test_the_tail_shows_new_jobs_of_own_lanes_and_passes_over_others(layer: "Layer") -> None:
    mine = await owner(layer, jobs=1)
    after = await last_job(mine.database, mine.pool)
    await layer.publish(name="theirs")
    put_jobs(layer, "theirs", 2)
    put_jobs(layer, "hook-0", 1)
    put_jobs(layer, "theirs", 1)
    jobs, reached, more = await tail_jobs(mine.database, mine.pool, after, mine.session, limit=3)

    assert [job.connection for job in jobs] == mine.lanes
    assert (reached, more) == (after + 3, True)
    assert await tail_jobs(mine.database, mine.pool, JobId(after + 4), mine.session, limit=3) == ([], after + 4, False)


async def test_lanes_are_read_each_behind_its_cursor_and_up_to_the_limit(layer: "Layer") -> None:
    mine = await owner(layer, lanes=2, jobs=4)
    put_jobs(layer, "hook-1", 4)
    first, second = mine.lanes
    ids = [job.id for job in await mine.jobs()]
    read = await lane_jobs(mine.database, [(first, JobId(ids[1]), 3), (second, JobId(0), 3)])

    assert [(job.connection, job.id) for job in read] == [
        *((first, id) for id in ids[2:4]),
        *((second, id) for id in ids[4:7]),
    ]


async def test_large_data_are_left_out_of_a_batch_and_read_one_by_one(layer: "Layer") -> None:
    mine = await owner(layer)
    layer.emit(small="ü")
    layer.emit(large=[f"{number:x}" * 4 for number in range(11_000)])
    keys = [(EventId(id), at) for id, at in layer.rows("select id, at from integration.event order by id")]
    small, large = sorted(await load_events(mine.database, keys))

    assert small.data == '{"small": "ü"}'.encode()
    assert large.data is None
    loaded = await load_data(mine.database, *keys[1])
    assert loaded is not None
    assert len(loaded) > 100_000
    assert await load_data(mine.database, EventId(99), keys[1][1]) is None


# The lane's row ---------------------------------------------------------------------------------------------------


async def test_a_lane_changed_by_somebody_else_meanwhile_is_not_overwritten(layer: "Layer") -> None:
    mine = await owner(layer, lanes=2)
    await layer.publish(layer.spec(suspend=True), name="hook-0")
    _, stale = await mine.settle(Settlement(lanes=[quarantine(lane, 0) for lane in mine.lanes]))

    assert stale == {mine.lanes[0]}
    assert layer.rows("select state, suspended from integration.lane order by connection_id") == [
        ("Open", True),
        ("Quarantined", False),
    ]


async def test_a_lane_of_another_session_is_not_changed(layer: "Layer") -> None:
    mine = await owner(layer)
    other = await open_session(mine.database, mine.pool, "another", LEASE)
    what = Settlement(lanes=[quarantine(mine.lanes[0], 0)])

    assert (await settle(mine.database, mine.pool, other, what)).stale_lanes == set(mine.lanes)
    assert layer.column("select state from integration.lane") == ["Open"]


async def test_the_time_of_quarantine_is_that_of_its_beginning(layer: "Layer") -> None:
    mine = await owner(layer)
    await mine.settle(Settlement(lanes=[quarantine(mine.lanes[0], 0)]))
    began = layer.value("select quarantined_at from integration.lane")
    await mine.settle(Settlement(lanes=[quarantine(mine.lanes[0], 1)]))
    reopened = LaneChange(mine.lanes[0], 2, "Open", 0, None, 0, None, None, None, None, None, None)

    assert layer.value("select quarantined_at from integration.lane") == began
    await mine.settle(Settlement(lanes=[reopened]))
    assert layer.rows("select state, quarantined_at, probe_at from integration.lane") == [("Open", None, None)]


async def test_tokens_stay_in_the_row_between_owners_and_not_with_a_dead_one(layer: "Layer") -> None:
    mine = await owner(layer)
    await take_tokens(mine.database, mine.session, mine.lanes)
    (in_hand,) = await read_lanes(mine.database, mine.session)
    await release_lanes(mine.database, mine.session, [(mine.lanes[0], 7.5)])
    await acquire_lanes(mine.database, mine.pool, mine.session, limit=1)
    (handed_over,) = await read_lanes(mine.database, mine.session)

    assert in_hand.tokens is None
    assert handed_over.tokens == 7.5


async def test_a_lane_is_read_with_all_that_waits_in_it(layer: "Layer") -> None:
    mine = await owner(layer, jobs=5)
    jobs = await mine.jobs()
    await mine.settle(
        Settlement(
            deferred=[Deferral(jobs[0].id, 0, 1, 60.0)], held=[jobs[2].id, jobs[3].id], attempts=[tried(jobs[0])]
        )
    )
    (row,) = await read_lanes(mine.database, mine.session, mine.lanes)

    assert (row.deferred_subjects, row.held_subjects) == ({0}, {0, 1})
    assert row.next_due_in_seconds is not None
    assert 0 < row.next_due_in_seconds <= 60
    assert (row.namespace, row.name, row.tenant, row.generation) == ("acme", "hook-0", "acme", 1)


async def test_unordered_jobs_set_no_subject_aside(layer: "Layer") -> None:
    mine = await owner(layer, jobs=1, ordered=False)
    (job,) = await mine.jobs()
    await mine.settle(Settlement(deferred=[Deferral(job.id, 0, 1, 60.0)], attempts=[tried(job)]))
    (row,) = await read_lanes(mine.database, mine.session)

    assert row.deferred_subjects == frozenset()


async def test_an_owner_sees_that_its_lane_was_published_or_released_anew(layer: "Layer") -> None:
    mine = await owner(layer)
    before = await lane_versions(mine.database, mine.session)
    await layer.publish(layer.spec(suspend=True), name="hook-0")
    published = await lane_versions(mine.database, mine.session)
    await mine.settle(Settlement(lanes=[quarantine(mine.lanes[0], 1)]))
    async with await layer.connect("operator") as operator:
        released = await publication.release(operator, "acme", "hook-0")

    assert before == [(mine.lanes[0], 1, 0)]
    assert published == [(mine.lanes[0], 2, 1)]
    assert released
    assert await lane_versions(mine.database, mine.session) == [(mine.lanes[0], 2, 3)]
