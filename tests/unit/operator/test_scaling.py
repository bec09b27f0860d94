"""Workers follow what can be delivered, never what cannot."""

from hypothesis import given
from hypothesis import strategies as st

from integration_operator.scaling import TARGET_SECONDS, WORKER_RATE, wanted_workers
from store.pools import LaneDemand, PoolDemand

LANES = st.lists(
    st.builds(LaneDemand, st.integers(1, 10_000), st.floats(0.001, 100_000), st.integers(1, 1_000)), max_size=40
)
BOUNDS = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda pair: (min(pair), max(pair)))


def demand(lanes: list[LaneDemand]) -> PoolDemand:
    return PoolDemand("team/pool", 1.0, tuple(lanes))


@given(LANES, BOUNDS)
def test_the_number_stays_within_its_bounds(lanes: list[LaneDemand], bounds: tuple[int, int]) -> None:
    assert bounds[0] <= wanted_workers(demand(lanes), *bounds) <= bounds[1]


@given(LANES, BOUNDS, st.integers(0, 39), st.integers(1, 10_000))
def test_more_backlog_never_means_fewer_workers(
    lanes: list[LaneDemand], bounds: tuple[int, int], chosen: int, more: int
) -> None:
    grown = [
        LaneDemand(lane.backlog + more * (number == chosen), lane.requests_per_second, lane.concurrency)
        for number, lane in enumerate(lanes)
    ]

    assert wanted_workers(demand(grown), *bounds) >= wanted_workers(demand(lanes), *bounds)


@given(LANES, BOUNDS, st.builds(LaneDemand, st.integers(1, 10_000), st.floats(0.001, 1e5), st.integers(1, 9)))
def test_one_more_connection_never_means_fewer_workers(
    lanes: list[LaneDemand], bounds: tuple[int, int], lane: LaneDemand
) -> None:
    assert wanted_workers(demand([*lanes, lane]), *bounds) >= wanted_workers(demand(lanes), *bounds)


@given(LANES)
def test_there_are_never_more_workers_than_connections_with_something_to_deliver(lanes: list[LaneDemand]) -> None:
    assert wanted_workers(demand(lanes), 0, 50) <= len(lanes)


@given(LANES, st.integers(1, 50))
def test_whoever_has_something_to_deliver_gets_a_worker(lanes: list[LaneDemand], most: int) -> None:
    assert (wanted_workers(demand(lanes), 0, most) > 0) == bool(lanes)


def test_no_demand_needs_no_more_than_the_least() -> None:
    assert [wanted_workers(None, least, 4) for least in (0, 2)] == [0, 2]
    assert [wanted_workers(demand([]), least, 4) for least in (0, 2)] == [0, 2]


def test_a_throttled_backlog_counts_only_as_far_as_its_throttle_lets_it_through() -> None:
    slow = [LaneDemand(10_000, 9.0, 8)] * 40
    fast = [LaneDemand(10_000, WORKER_RATE, 8)] * 40

    assert wanted_workers(demand(slow), 0, 50) == 1
    assert wanted_workers(demand(fast), 0, 50) == -(-40 * 10_000 // int(WORKER_RATE * TARGET_SECONDS))
