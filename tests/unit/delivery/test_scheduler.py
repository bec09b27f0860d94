"""The next job is the fairest one, and lanes that cannot start cost nothing."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ids import EventId, JobId, RouteId
from delivery.lane import Lane
from delivery.scheduler import Scheduler
from delivery.window import Entry
from store.jobs import Job

MakeLane = Callable[..., Lane]
FREE = 100_000
AT = datetime(2026, 11, 20, tzinfo=UTC)


def fed(lane: Lane, jobs: int = 200) -> Lane:
    for number in range(1, jobs + 1):
        entry = lane.jobs.feed(Job(JobId(number), lane.id, RouteId(1), EventId(number), AT, None, 0))
        if entry is not None:
            entry.loaded = True
    return lane


def offered(lanes: Iterable[Lane]) -> Scheduler:
    scheduler = Scheduler()
    for lane in lanes:
        scheduler.offer(lane, 0.0)
    return scheduler


def starts(scheduler: Scheduler, number: int) -> list[Entry]:
    entries = [scheduler.next(0.0, FREE)[0] for _ in range(number)]
    return [entry for entry in entries if entry is not None]


def test_a_tenant_with_500_lanes_gets_the_share_of_one_with_one_lane(make_lane: MakeLane) -> None:
    lanes = [fed(make_lane(number, "large"), 5) for number in range(1, 501)] + [fed(make_lane(501, "small"))]

    counts = Counter(entry.lane.connection.tenant for entry in starts(offered(lanes), 200))

    assert counts == {"large": 100, "small": 100}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 60))
def test_shares_of_tenants_never_differ_by_more_than_one(make_lane: MakeLane, sizes: list[int], number: int) -> None:
    lanes = [
        fed(make_lane(100 * tenant + each, f"tenant-{tenant}"), 60)
        for tenant, size in enumerate(sizes)
        for each in range(size)
    ]

    counts = Counter(entry.lane.connection.tenant for entry in starts(offered(lanes), number))
    shares = [counts[lane.connection.tenant] for lane in lanes]

    assert max(shares) - min(shares) <= 1


def test_the_lanes_of_a_tenant_share_alike(make_lane: MakeLane) -> None:
    lanes = [fed(make_lane(number), size) for number, size in ((1, 200), (2, 20), (3, 20))]

    counts = Counter(entry.lane.id for entry in starts(offered(lanes), 60))

    assert counts == {1: 20, 2: 20, 3: 20}


def test_jobs_of_a_lane_start_in_order(make_lane: MakeLane) -> None:
    scheduler = offered([fed(make_lane(), 20)])

    assert [entry.job.id for entry in starts(scheduler, 20)] == list(range(1, 21))


@pytest.mark.parametrize(
    "state",
    [
        {"state": "Quarantined"},
        {"suspended": True},
        {"paused_for_seconds": 1.0},
        {"tokens": None},
    ],
    ids=["quarantined", "suspended", "paused", "throttled"],
)
def test_a_lane_that_cannot_start_is_not_in_the_ring(make_lane: MakeLane, state: dict[str, object]) -> None:
    scheduler = offered([fed(make_lane(**state))])

    assert not scheduler.has_lanes


def test_an_empty_lane_is_not_in_the_ring(make_lane: MakeLane) -> None:
    assert not offered([make_lane()]).has_lanes


def test_a_lane_offered_twice_is_in_the_ring_once(make_lane: MakeLane) -> None:
    twice, once = fed(make_lane(1)), fed(make_lane(2))

    counts = Counter(entry.lane.id for entry in starts(offered([twice, twice, once, twice]), 40))

    assert counts == {1: 20, 2: 20}


def test_a_lane_leaves_the_ring_with_its_last_job(make_lane: MakeLane) -> None:
    lane = fed(make_lane(), 1)
    scheduler = offered([lane])

    _, left = scheduler.next(0.0, FREE)

    assert left == [lane]
    assert not scheduler.has_lanes


def test_a_lane_at_its_concurrency_leaves_the_ring(make_lane: MakeLane) -> None:
    scheduler = offered([fed(make_lane(throttle={"concurrency": 3}))])

    assert len(starts(scheduler, 10)) == 3


def test_a_lane_without_tokens_leaves_the_ring(make_lane: MakeLane) -> None:
    scheduler = offered([fed(make_lane(throttle={"burst": 4}))])

    assert len(starts(scheduler, 10)) == 4


def test_a_lane_that_left_can_be_offered_again(make_lane: MakeLane) -> None:
    lane = fed(make_lane(throttle={"concurrency": 1}))
    scheduler = offered([lane])
    scheduler.next(0.0, FREE)

    lane.under_way -= 1
    scheduler.offer(lane, 0.0)

    assert [entry.job.id for entry in starts(scheduler, 1)] == [2]


def test_a_lane_that_was_stopped_in_the_ring_starts_nothing(make_lane: MakeLane) -> None:
    stopped, other = fed(make_lane(1, "acme")), fed(make_lane(2, "globex"))
    scheduler = offered([stopped, other])

    stopped.quarantine(0.0, "Gone", probing=False)

    assert {entry.lane.id for entry in starts(scheduler, 10)} == {2}


def test_a_lane_that_was_stopped_in_the_ring_is_told_to_have_left(make_lane: MakeLane) -> None:
    stopped, other = fed(make_lane(1, "acme")), fed(make_lane(2, "globex"))
    scheduler = offered([stopped, other])
    stopped.quarantine(0.0, "Gone", probing=False)

    _, left = scheduler.next(0.0, FREE)

    assert left == [stopped]


def test_an_empty_ring_gives_nothing() -> None:
    assert Scheduler().next(0.0, FREE) == (None, [])


# Weights ----------------------------------------------------------------------------------------------------------


def test_lanes_of_a_tenant_share_by_their_weights(make_lane: MakeLane) -> None:
    lanes = [fed(make_lane(number, weight=weight)) for number, weight in ((1, 1), (2, 2), (3, 5))]

    counts = Counter(entry.lane.id for entry in starts(offered(lanes), 80))

    assert counts == {1: 10, 2: 20, 3: 50}


def test_a_weight_takes_nothing_from_another_tenant(make_lane: MakeLane) -> None:
    lanes = [fed(make_lane(1, "acme", weight=100)), fed(make_lane(2, "globex"))]

    counts = Counter(entry.lane.id for entry in starts(offered(lanes), 80))

    assert counts == {1: 40, 2: 40}


# Senders ----------------------------------------------------------------------------------------------------------


def hang(scheduler: Scheduler, senders: int) -> Counter[int]:
    """Start whatever may start while no job ends; return how many senders each lane occupies."""
    busy: Counter[int] = Counter()
    while (entry := scheduler.next(0.0, senders - busy.total())[0]) is not None:
        busy[entry.lane.id] += 1
    return busy


def test_a_lane_that_hangs_occupies_half_of_the_senders(make_lane: MakeLane) -> None:
    assert hang(offered([fed(make_lane())]), 64) == {1: 32}


@pytest.mark.parametrize("hanging", [1, 5, 30, 60])
def test_a_lane_finds_a_sender_however_many_others_hang(make_lane: MakeLane, hanging: int) -> None:
    scheduler = offered([fed(make_lane(number)) for number in range(1, hanging + 1)])
    busy = hang(scheduler, 64).total()

    scheduler.offer(fed(make_lane(100)), 0.0)
    entry, _ = scheduler.next(0.0, 64 - busy)

    assert entry is not None
    assert entry.lane.id == 100


def test_a_lane_without_a_sender_starts_when_there_is_one(make_lane: MakeLane) -> None:
    lane = fed(make_lane())
    scheduler = offered([lane])
    hang(scheduler, 64)

    lane.under_way -= 10

    assert scheduler.next(0.0, 42)[0] is not None


def test_a_lane_that_is_stopped_while_it_waits_for_a_sender_leaves(make_lane: MakeLane) -> None:
    lane = fed(make_lane())
    scheduler = offered([lane])
    hang(scheduler, 64)
    lane.quarantine(0.0, "Gone", probing=False)

    assert scheduler.next(0.0, 64) == (None, [lane])
    assert not scheduler.has_lanes


def test_slow_lanes_leave_a_reserve(make_lane: MakeLane) -> None:
    slow = fed(make_lane())
    slow.under_way, slow.pace.silent_since = 1, -10.0
    scheduler = offered([slow])
    scheduler.reserve = 8

    assert [scheduler.next(0.0, free)[0] is not None for free in (9, 11)] == [False, True]
