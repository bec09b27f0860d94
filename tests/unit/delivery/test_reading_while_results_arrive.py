"""What was read of a lane is taken over rightly although results were written while it was being read."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from contracts.ids import ConnectionId, EventId, JobId, PoolId, RouteId, SessionId
from delivery.clock import DatabaseClock
from delivery.desk import Desk
from delivery.intake import Intake
from delivery.lane import Lane
from delivery.metrics import WorkerMetrics
from delivery.window import Entry
from store.jobs import Job
from store.lanes import LaneRow

SUBJECT = 5
NOW = 100.0


@pytest.fixture
def row() -> LaneRow:
    """Return the row as it was read while the subject's deferred job was under way: due, and another one held."""
    return LaneRow(
        connection=ConnectionId(1),
        uid=None,  # type: ignore[arg-type] -- not looked at
        tenant=None,  # type: ignore[arg-type]
        namespace="team",
        name="connection-1",
        generation=1,
        spec={},
        revision=3,
        state="Open",
        suspended=False,
        consecutive_failures=0,
        quarantine_reason=None,
        probes=0,
        probe_in_seconds=None,
        paused_for_seconds=None,
        tokens=None,
        tokens_age_seconds=None,
        deferred_subjects=frozenset({SUBJECT}),
        held_subjects=frozenset({SUBJECT}),
        last_held=JobId(2),
        next_due_in_seconds=-1.0,
        probe_asked_by=None,
        ramp_percent=None,
        effective_rps=None,
        effective_concurrency=None,
    )


@pytest.fixture
def lane(make_lane: Callable[..., Lane], row: LaneRow) -> Lane:
    return make_lane(deferred_subjects=row.deferred_subjects, held_subjects=row.held_subjects, last_held=row.last_held)


def under_way(lane: Lane) -> Entry:
    """Start the subject's deferred job."""
    job = Job(JobId(1), lane.id, RouteId(1), EventId(1), datetime(2026, 1, 1, tzinfo=UTC), SUBJECT, 1)
    entry = lane.jobs.feed_due(job)
    assert entry is not None
    entry.loaded = True
    assert lane.start(NOW) is entry
    return entry


def test_a_subject_whose_deferred_job_ended_while_the_row_was_read_is_not_set_aside(lane: Lane, row: LaneRow) -> None:
    entry = under_way(lane)
    with lane.jobs.being_read():
        lane.jobs.settled(entry)
        lane.load(row, NOW)

    assert lane.jobs.deferred_subjects == set()
    assert lane.jobs.held_wanted == {SUBJECT}


def test_a_subject_whose_job_was_deferred_again_while_the_row_was_read_stays_set_aside(
    lane: Lane, row: LaneRow
) -> None:
    entry = under_way(lane)
    with lane.jobs.being_read():
        lane.jobs.deferred(entry, NOW + 60)
        lane.load(row, NOW)

    assert lane.jobs.deferred_subjects == {SUBJECT}
    assert lane.jobs.held_wanted == set()


def test_a_subject_whose_deferred_job_is_still_under_way_goes_on_when_that_ends(lane: Lane, row: LaneRow) -> None:
    entry = under_way(lane)
    with lane.jobs.being_read():
        lane.load(row, NOW)
    lane.jobs.settled(entry)

    assert lane.jobs.held_wanted == {SUBJECT}


class Database:
    """Does work at once, in place of a connection that comes back."""

    async def keep_trying(self, work: Callable[[None], Awaitable[object]]) -> object:
        return await work(None)


async def take_the_lane_away_while_held_jobs_are_read(lane: Lane, patch: pytest.MonkeyPatch) -> "asyncio.Task[None]":
    """Run an intake up to a read of held jobs, during which the lane is given back; return the intake's task."""
    desk = Desk(PoolId(1), SessionId(1), DatabaseClock())
    desk.add(lane, NOW)
    was_read = asyncio.Event()

    async def nothing(*_: object, **__: object) -> list[Job]:
        return []

    async def tail(_: object, __: PoolId, after: JobId, ___: SessionId, **____: int) -> tuple[list[Job], JobId, bool]:
        return [], after, False

    async def held(*_: object, **__: object) -> list[Job]:
        desk.remove(lane)
        was_read.set()
        return [Job(JobId(2), lane.id, RouteId(1), EventId(2), datetime(2026, 1, 1, tzinfo=UTC), SUBJECT, 0)]

    patch.setattr("delivery.intake.tail_jobs", tail)
    patch.setattr("delivery.intake.lane_jobs", nothing)
    patch.setattr("delivery.intake.load_events", nothing)
    patch.setattr("delivery.intake.held_jobs", held)
    task = asyncio.create_task(Intake(desk, Database(), WorkerMetrics(CollectorRegistry())).run())  # type: ignore[arg-type]
    desk.review_all()
    await was_read.wait()
    await asyncio.wait([task], timeout=0.05)
    desk.close()
    return task


def test_a_lane_that_was_given_back_while_its_held_jobs_were_read_does_not_end_the_worker(
    make_lane: Callable[..., Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = make_lane(held_subjects=frozenset({SUBJECT}))

    async def run() -> BaseException | None:
        task = await take_the_lane_away_while_held_jobs_are_read(lane, monkeypatch)
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        return ended

    assert isinstance(asyncio.run(run()), asyncio.CancelledError)
