"""What is read at once is divided evenly between tenants."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from contracts.ids import EventId, JobId, RouteId
from delivery.lane import Lane
from delivery.portions import JOBS_AT_ONCE, LANES_AT_ONCE, MEMORY_JOBS, WINDOW_AT_LEAST, portions
from delivery.window import WINDOW
from store.jobs import Job

MakeLane = Callable[..., Lane]


def by_tenant(wanted: dict[Lane, int]) -> Counter[str]:
    jobs: Counter[str] = Counter()
    for lane, number in wanted.items():
        jobs[lane.connection.tenant] += number
    return jobs


def fed(lane: Lane, jobs: int = 1) -> Lane:
    for number in range(1, jobs + 1):
        at = datetime(2026, 11, 20, tzinfo=UTC)
        entry = lane.jobs.feed(Job(JobId(number), lane.id, RouteId(1), EventId(number), at, None, 0))
        if entry is not None:
            entry.loaded = True
    return lane


def test_a_tenant_with_500_lanes_gets_as_many_jobs_as_one_with_a_single_one(make_lane: MakeLane) -> None:
    large = [make_lane(number, "large") for number in range(1, 501)]
    small = [make_lane(number, f"small-{number}") for number in range(501, 521)]

    jobs = by_tenant(portions([*large, *small], [], 0.0))

    assert len(jobs) == 21
    assert max(jobs.values()) - min(jobs.values()) < WINDOW_AT_LEAST


def test_a_tenant_that_has_jobs_in_memory_keeps_its_share(make_lane: MakeLane) -> None:
    large = [make_lane(number, "large") for number in range(1, 501)]
    small = [fed(make_lane(number, f"small-{number}")) for number in range(501, 504)]

    assert by_tenant(portions(large, [*large, *small], 0.0)).total() <= JOBS_AT_ONCE // 4


def test_a_tenant_that_has_its_share_ready_waits(make_lane: MakeLane) -> None:
    busy = [fed(make_lane(number, "large"), WINDOW_AT_LEAST) for number in range(1, 501)]
    hungry, other = make_lane(501, "large"), make_lane(502, "small")

    assert portions([hungry, other], [*busy, hungry, other], 0.0).keys() == {other}


@pytest.mark.parametrize("state", [{"paused_for_seconds": 60.0}, {"tokens": None}], ids=["paused", "throttled"])
def test_what_cannot_be_sent_now_keeps_no_other_lane_waiting(make_lane: MakeLane, state: dict[str, object]) -> None:
    stopped = [fed(make_lane(number, "large", **state), WINDOW_AT_LEAST) for number in range(1, 1001)]
    hungry = make_lane(1001, "large")

    assert portions([hungry], [*stopped, hungry], 0.0) == {hungry: WINDOW}


def test_lanes_that_come_first_are_served_first(make_lane: MakeLane) -> None:
    lanes = [make_lane(number, "large") for number in range(1, 501)]

    assert list(portions(lanes, lanes, 0.0)) == lanes[:LANES_AT_ONCE]


def test_a_lane_alone_has_the_largest_window(make_lane: MakeLane) -> None:
    lane = make_lane()

    assert portions([lane], [lane], 0.0) == {lane: WINDOW}


def test_many_lanes_have_small_windows(make_lane: MakeLane) -> None:
    lanes = [make_lane(number) for number in range(1, 101)]
    portions(lanes, lanes, 0.0)

    assert {lane.jobs.size for lane in lanes} == {MEMORY_JOBS // 100}
