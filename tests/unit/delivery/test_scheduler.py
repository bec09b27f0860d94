"""The next job is the fairest one, and lanes that cannot start cost nothing."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
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

    assert not scheduler.may_start(FREE)


def test_an_empty_lane_is_not_in_the_ring(make_lane: MakeLane) -> None:
    assert not offered([make_lane()]).may_start(FREE)


def test_a_lane_offered_twice_is_in_the_ring_once(make_lane: MakeLane) -> None:
    twice, once = fed(make_lane(1)), fed(make_lane(2))

    counts = Counter(entry.lane.id for entry in starts(offered([twice, twice, once, twice]), 40))

    assert counts == {1: 20, 2: 20}


def test_a_lane_leaves_the_ring_with_its_last_job(make_lane: MakeLane) -> None:
    lane = fed(make_lane(), 1)
    scheduler = offered([lane])

    _, left = scheduler.next(0.0, FREE)

    assert left == [lane]
    assert not scheduler.may_start(FREE)


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


class Senders:
    """So many senders, with what each lane occupies."""

    def __init__(self, scheduler: Scheduler, number: int) -> None:
        self.scheduler = scheduler
        self.number = number
        self.busy: Counter[int] = Counter()

    @property
    def free(self) -> int:
        return self.number - self.busy.total()

    def start(self) -> Lane | None:
        """Let one sender start whatever is next."""
        if not self.free:
            return None
        entry, _ = self.scheduler.next(0.0, self.free)
        if entry is None:
            return None
        self.busy[entry.lane.id] += 1
        return entry.lane

    def start_all(self) -> Counter[int]:
        """Start whatever may start while no request ends; return how many senders each lane occupies."""
        while self.start():
            pass
        return self.busy

    def end(self, lane: Lane) -> None:
        """End one of a lane's requests."""
        self.busy[lane.id] -= 1
        lane.under_way -= 1
        self.scheduler.offer(lane, 0.0)


def test_a_lane_alone_leaves_a_reserve_for_other_tenants_and_one_for_its_own(make_lane: MakeLane) -> None:
    assert Senders(offered([fed(make_lane())]), 64).start_all() == {1: 64 - 8 - 3}


@pytest.mark.parametrize(("tenant", "occupied"), [("acme", 2), ("globex", 4)])
def test_a_lane_that_comes_later_finds_the_reserve(make_lane: MakeLane, tenant: str, occupied: int) -> None:
    senders = Senders(offered([fed(make_lane(1, "acme"))]), 64)
    senders.start_all()
    senders.scheduler.offer(fed(make_lane(2, tenant)), 0.0)

    assert senders.start_all() == {1: 53, 2: occupied}


@pytest.mark.parametrize("hanging", [1, 5, 30, 60])
def test_a_lane_finds_a_sender_however_many_others_hang(make_lane: MakeLane, hanging: int) -> None:
    senders = Senders(offered([fed(make_lane(number, f"tenant-{number}")) for number in range(1, hanging + 1)]), 64)
    senders.start_all()

    senders.scheduler.offer(fed(make_lane(100)), 0.0)

    assert senders.start() is not None


@settings(max_examples=30)
@given(data=st.data())
def test_tenants_occupy_alike_whatever_has_ended(make_lane: MakeLane, data: st.DataObject) -> None:
    lanes = [fed(make_lane(number, "large"), 10) for number in range(1, 17)]
    lanes += [fed(make_lane(number, f"small-{number}"), 80) for number in range(17, 20)]
    by_id = {lane.id: lane for lane in lanes}
    senders = Senders(offered(lanes), 64)
    senders.start_all()

    for _ in range(data.draw(st.integers(1, 60))):
        senders.end(by_id[data.draw(st.sampled_from([lane for lane, busy in senders.busy.items() if busy]))])
        senders.start_all()

    occupied = Counter({lane.connection.tenant: 0 for lane in lanes})
    for lane_id, busy in senders.busy.items():
        occupied[by_id[lane_id].connection.tenant] += busy
    assert max(occupied.values()) - min(occupied.values()) <= 1


def test_one_tenant_with_500_lanes_and_20_with_one_occupy_alike(make_lane: MakeLane) -> None:
    lanes = [fed(make_lane(number, "large"), 5) for number in range(1, 501)]
    lanes += [fed(make_lane(number, f"small-{number}")) for number in range(501, 521)]
    senders = Senders(offered(lanes), 256)

    busy = senders.start_all()

    assert {busy[number] for number in range(501, 521)} == {10}
    assert sum(busy[number] for number in range(1, 501)) == 10


@settings(max_examples=30)
@given(data=st.data())
def test_no_sender_rests_while_a_lane_may_have_it(make_lane: MakeLane, data: st.DataObject) -> None:
    lanes = [fed(make_lane(number, f"tenant-{number % 3}", throttle={"concurrency": 4}), 60) for number in range(1, 13)]
    by_id = {lane.id: lane for lane in lanes}
    senders = Senders(offered(lanes), 16)
    senders.start_all()

    for _ in range(data.draw(st.integers(1, 60))):
        if occupying := [lane for lane, busy in senders.busy.items() if busy]:
            senders.end(by_id[data.draw(st.sampled_from(occupying))])
        senders.start_all()

    assert senders.free <= 2 + 2  # the reserve, and what would be left by the next of the most modest lane


def test_a_tenant_s_lanes_occupy_by_their_weights(make_lane: MakeLane) -> None:
    lanes = [fed(make_lane(number, weight=weight)) for number, weight in ((1, 1), (2, 2), (3, 4))]

    assert Senders(offered(lanes), 64).start_all() == {1: 8, 2: 16, 3: 29}


def test_a_lane_without_a_sender_starts_when_one_of_its_requests_ends(make_lane: MakeLane) -> None:
    lane = fed(make_lane())
    senders = Senders(offered([lane]), 64)
    senders.start_all()

    senders.end(lane)

    assert senders.start() is lane


def test_a_lane_without_a_sender_starts_when_others_leave_enough(make_lane: MakeLane) -> None:
    early, late = fed(make_lane(1)), fed(make_lane(2))
    senders = Senders(offered([early]), 64)
    senders.start_all()
    senders.scheduler.offer(late, 0.0)
    senders.start_all()
    early.jobs.forget_waiting()

    for _ in range(10):
        senders.end(early)

    assert senders.start() is late


def test_a_lane_that_is_stopped_while_it_waits_for_a_sender_leaves(make_lane: MakeLane) -> None:
    lane = fed(make_lane())
    senders = Senders(offered([lane]), 64)
    senders.start_all()
    lane.quarantine(0.0, "Gone", probing=False)

    senders.end(lane)

    assert senders.scheduler.next(0.0, senders.free) == (None, [lane])
    assert not senders.scheduler.may_start(FREE)


def test_a_lane_that_is_given_back_takes_its_requests_out_of_the_sums(make_lane: MakeLane) -> None:
    given_back, other = fed(make_lane(1)), fed(make_lane(2))
    senders = Senders(offered([given_back]), 64)
    senders.start_all()

    senders.scheduler.forget(given_back)
    senders.scheduler.offer(other, 0.0)
    senders.number, senders.busy = 16, Counter()

    assert senders.start_all() == {2: 14}


@pytest.mark.parametrize(("is_slow", "occupied"), [(False, 53), (True, 27)])
def test_a_slow_lane_does_not_touch_the_reserve(make_lane: MakeLane, is_slow: bool, occupied: int) -> None:
    lane = fed(make_lane())
    senders = Senders(offered([lane]), 64)
    senders.start()
    lane.pace.silent_since = -10.0 if is_slow else 0.0

    assert senders.start_all() == {1: occupied}
