"""A lane waits for more to send at once only as long as that gains something."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from connectors.connector import BatchLimits
from contracts.ids import EventId, JobId, PoolId, RouteId, SessionId
from delivery.clock import DatabaseClock
from delivery.desk import Desk
from delivery.gathering import REMEMBERED_SECONDS, Gathering
from delivery.lane import Lane
from delivery.window import Entry
from store.jobs import Job

ITEMS, SIZE, DELAY = 4, 100_000, 2.0
NOW = 1_000.0


@pytest.fixture
def lane(make_lane: Callable[..., Lane]) -> Lane:
    lane = make_lane()
    lane.gathering = Gathering(BatchLimits(ITEMS, SIZE, timedelta(seconds=DELAY)))
    return lane


def feed(lane: Lane, number: int, subject: int | None = None, attempts: int = 0) -> Entry:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    entry = lane.jobs.feed(Job(JobId(number), lane.id, RouteId(1), EventId(number), at, subject, attempts))
    assert entry is not None
    entry.loaded = True
    return entry


def take(lane: Lane, number: int, *, by_size: bool = False) -> None:
    """Fill a request as `delivery.batching` does."""
    lane.start(NOW)
    for _ in range(number - 1):
        lane.jobs.start()
    assert lane.gathering is not None
    lane.gathering.taken(number, lane.jobs, by_size=by_size)


def test_a_few_jobs_wait_for_others_but_no_longer_than_the_delay(lane: Lane) -> None:
    feed(lane, 1)
    at_first = lane.may_start(NOW)
    feed(lane, 2)

    assert not at_first
    assert not lane.may_start(NOW + DELAY - 0.1)
    assert lane.seconds_until_start(NOW + DELAY - 0.5) == pytest.approx(0.5)
    assert lane.may_start(NOW + DELAY)


def test_a_full_request_waits_for_nothing(lane: Lane) -> None:
    for number in range(ITEMS):
        feed(lane, number)

    assert lane.may_start(NOW)
    assert lane.seconds_until_start(NOW) == 0


def test_what_has_others_of_its_subject_behind_it_waits_for_nothing(lane: Lane) -> None:
    feed(lane, 1, subject=7)
    feed(lane, 2, subject=7)

    assert lane.may_start(NOW)


def test_what_was_left_over_by_a_full_request_has_waited_since_it_came(lane: Lane) -> None:
    for number in range(ITEMS + 1):
        feed(lane, number)
    lane.may_start(NOW)
    take(lane, ITEMS)

    assert not lane.may_start(NOW + DELAY - 0.1)
    assert lane.may_start(NOW + DELAY)


def test_a_backlog_of_large_events_waits_for_nothing(lane: Lane) -> None:
    for number in range(ITEMS):
        feed(lane, number)
    take(lane, 2, by_size=True)

    assert lane.jobs.ready == 2
    assert lane.may_start(NOW)


def test_the_next_jobs_have_a_delay_of_their_own(lane: Lane) -> None:
    feed(lane, 1)
    lane.may_start(NOW)
    take(lane, 1)
    feed(lane, 2)

    assert not lane.may_start(NOW + 10 * DELAY)


def test_time_that_a_lane_is_paused_counts(lane: Lane) -> None:
    feed(lane, 1)
    lane.paused(NOW + 10 * DELAY, NOW)
    lane.may_start(NOW)

    assert lane.seconds_until_start(NOW + 1) == pytest.approx(10 * DELAY - 1)
    assert lane.may_start(NOW + 10 * DELAY + 1)


def test_a_lane_in_its_smallest_window_does_not_wait_for_what_has_no_room(lane: Lane) -> None:
    lane.jobs.size = 2
    for number in range(3):
        feed(lane, number)

    assert ITEMS > 3
    assert lane.may_start(NOW)


@pytest.mark.parametrize(("attempts", "companions"), [(0, 3), (1, 1), (2, 0), (60, 0)])
def test_a_job_has_half_as_many_companions_after_each_failed_attempt(
    lane: Lane, attempts: int, companions: int
) -> None:
    gathering = Gathering(BatchLimits(ITEMS, SIZE, timedelta()))

    assert gathering.companions(feed(lane, 1, attempts=attempts)) == companions


def test_the_last_attempt_of_a_job_is_made_alone(lane: Lane) -> None:
    gathering = Gathering(BatchLimits(1_000, SIZE, timedelta()))
    last = lane.delivery.retry.max_attempts - 1

    assert gathering.companions(feed(lane, 1, attempts=last)) == 0
    assert gathering.companions(feed(lane, 2, attempts=0)) == 999


def test_a_size_that_was_refused_is_halved_and_tried_again_later() -> None:
    gathering = Gathering(BatchLimits(ITEMS, SIZE, timedelta()))
    gathering.refused(60_000, NOW)
    gathering.refused(90_000, NOW + 1)  # was under way

    assert gathering.size(NOW + REMEMBERED_SECONDS) == 30_000
    assert gathering.size(NOW + 1 + REMEMBERED_SECONDS) == SIZE


def test_a_lane_that_is_full_while_it_waits_is_looked_at_when_it_has_a_token(make_lane: Callable[..., Lane]) -> None:
    lane = make_lane(throttle={"requestsPerSecond": 10.0, "burst": 1}, tokens=1.0)
    lane.gathering = Gathering(BatchLimits(ITEMS, SIZE, timedelta(seconds=DELAY)))
    lane.pace.bucket.take(0.0)

    async def alarms() -> tuple[float, float]:
        desk = Desk(PoolId(1), SessionId(1), DatabaseClock())
        desk.add(lane, 0.0)
        feed(lane, 1)
        desk.review(lane, 0.0)
        waiting = lane.start_alarm
        for number in range(2, ITEMS + 1):
            feed(lane, number)
        desk.review(lane, 0.0)
        desk.close()
        return waiting, lane.start_alarm

    assert asyncio.run(alarms()) == (DELAY, pytest.approx(0.1))
