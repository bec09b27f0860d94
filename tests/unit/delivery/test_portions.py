"""What is read at once is divided evenly between tenants."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

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


def with_a_job(lane: Lane) -> Lane:
    lane.jobs.feed(Job(JobId(1), lane.id, RouteId(1), EventId(1), datetime(2026, 11, 20, tzinfo=UTC), None, 0))
    return lane


def test_a_tenant_with_500_lanes_gets_as_many_jobs_as_one_with_a_single_one(make_lane: MakeLane) -> None:
    large = [make_lane(number, "large") for number in range(1, 501)]
    small = [make_lane(number, f"small-{number}") for number in range(501, 521)]

    jobs = by_tenant(portions([*large, *small], []))

    assert len(jobs) == 21
    assert max(jobs.values()) - min(jobs.values()) < WINDOW_AT_LEAST


def test_a_tenant_that_has_jobs_in_memory_keeps_its_share(make_lane: MakeLane) -> None:
    large = [make_lane(number, "large") for number in range(1, 501)]
    fed = [with_a_job(make_lane(number, f"small-{number}")) for number in range(501, 504)]

    assert by_tenant(portions(large, [*large, *fed])).total() <= JOBS_AT_ONCE // 4


def test_lanes_that_come_first_are_served_first(make_lane: MakeLane) -> None:
    lanes = [make_lane(number, "large") for number in range(1, 501)]

    assert list(portions(lanes, lanes)) == lanes[:LANES_AT_ONCE]


def test_a_lane_alone_has_the_largest_window(make_lane: MakeLane) -> None:
    lane = make_lane()

    assert portions([lane], [lane]) == {lane: WINDOW}


def test_many_lanes_have_small_windows(make_lane: MakeLane) -> None:
    lanes = [make_lane(number) for number in range(1, 101)]
    portions(lanes, lanes)

    assert {lane.jobs.size for lane in lanes} == {MEMORY_JOBS // 100}
