"""A lane's limits fall when the partner says so or slows down, and rise again; they never exceed the spec's."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.concurrency import FLOOR, SLOW_SECONDS, ConcurrencyLimit
from delivery.lane import Lane

MakeLane = Callable[..., Lane]
THROTTLE = {"requestsPerSecond": 100, "burst": 20, "concurrency": 16}


@pytest.fixture
def lane(make_lane: MakeLane) -> Lane:
    return make_lane(throttle=THROTTLE)


def rate_at(lane: Lane, now: float) -> float:
    lane.turn(now)
    return lane.pace.bucket.rate


# The rate ---------------------------------------------------------------------------------------------------------


def test_a_refusal_halves_the_rate(lane: Lane) -> None:
    lane.paused(10.0, 0.0)

    assert lane.pace.effective_rps == 50.0


def test_refusals_that_come_together_count_once(lane: Lane) -> None:
    for now in (0.0, 0.1, 0.5):
        lane.paused(1.0, now)

    assert lane.pace.effective_rps == 50.0


def test_refusals_lower_the_rate_no_further_than_to_its_floor(lane: Lane) -> None:
    for number in range(20):
        lane.paused(10.0 * number, 10.0 * number)

    assert lane.pace.effective_rps == 10.0


def test_a_floor_of_all_keeps_the_rate_as_it_is(make_lane: MakeLane) -> None:
    lane = make_lane(throttle={**THROTTLE, "floorPercent": 100})

    lane.paused(10.0, 0.0)

    assert lane.pace.effective_rps is None


def test_the_rate_rises_evenly_once_the_pause_is_over_and_stops_at_the_spec_s(lane: Lane) -> None:
    lane.paused(10.0, 0.0)

    assert [rate_at(lane, now) for now in (10.0, 11.0, 20.0, 60.0, 500.0)] == pytest.approx([50, 51, 60, 100, 100])


def test_no_burst_follows_a_pause(lane: Lane) -> None:
    lane.paused(60.0, 0.0)

    assert lane.pace.bucket.available(60.0) == 0.0
    assert lane.pace.bucket.available(60.1) == pytest.approx(5.0)


def test_the_next_owner_goes_on_with_the_rate_that_was_learned(make_lane: MakeLane) -> None:
    lane = make_lane(throttle=THROTTLE, effective_rps=40.0)

    assert rate_at(lane, 0.0) == 40.0


def test_the_next_owner_of_a_lane_on_a_ramp_knows_both(make_lane: MakeLane) -> None:
    lane = make_lane(throttle=THROTTLE, effective_rps=10.0, ramp_percent=25)

    lane.health.ramp_percent = None
    lane.pace.allow(lane.health.part, 0.0)

    assert rate_at(lane, 0.0) == 40.0


def test_a_lower_ceiling_holds_at_once_and_a_higher_one_is_risen_to(lane: Lane) -> None:
    lane.paused(0.0, 0.0)
    pace, spec = lane.pace, lane.delivery.throttle

    pace.reconfigure(spec.model_copy(update={"requests_per_second": 20}), 0.0)
    lowered = pace.bucket.rate
    pace.reconfigure(spec.model_copy(update={"requests_per_second": 200}), 0.0)

    assert (lowered, pace.bucket.rate) == (20, 200)


def test_a_limit_is_written_when_it_has_moved_and_not_with_every_step(lane: Lane) -> None:
    lane.paused(0.0, 0.0)
    written = 0
    for now in range(61):
        lane.turn(float(now))
        if lane.changed:
            lane.change(float(now))
            lane.changed = False
            written += 1

    assert lane.pace.effective_rps is None
    assert written <= 12


# Requests at once -------------------------------------------------------------------------------------------------


def answers(limit: ConcurrencyLimit, seconds: float, times: int, start: float = 0.0) -> float:
    """Let a partner answer one request after the other; return when it was done."""
    for _ in range(times):
        start += seconds
        limit.answered(seconds, start)
    return start


def test_a_partner_that_becomes_slow_gets_fewer_requests_at_once_down_to_the_floor() -> None:
    limit = ConcurrencyLimit(16)
    end = answers(limit, 0.05, 100)

    answers(limit, 5.0, 20, end)

    assert limit.is_slow
    assert limit.limit == 16 * FLOOR


def test_a_partner_that_is_fast_again_gets_them_back() -> None:
    limit = ConcurrencyLimit(16)
    end = answers(limit, 5.0, 10, answers(limit, 0.05, 100))

    answers(limit, 0.05, 300, end)

    assert (limit.is_slow, limit.limit) == (False, 16)


def test_a_partner_that_was_never_faster_is_not_slow() -> None:
    limit = ConcurrencyLimit(16)

    answers(limit, 5.0, 200)

    assert limit.limit == 16


def test_a_partner_that_has_become_slower_for_good_gets_its_requests_back() -> None:
    limit = ConcurrencyLimit(16)

    answers(limit, 1.0, 2_000, answers(limit, 0.1, 100))

    assert limit.limit == 16


@given(st.integers(1, 1000), st.lists(st.floats(0, 100), max_size=100))
def test_the_limit_stays_between_floor_and_ceiling(ceiling: int, times: list[float]) -> None:
    limit, now = ConcurrencyLimit(ceiling), 0.0
    for seconds in times:
        now += seconds
        limit.answered(seconds, now)

        assert max(1.0, ceiling * FLOOR) <= limit.limit <= ceiling


def test_answers_below_a_quarter_of_a_second_are_never_slow() -> None:
    limit = ConcurrencyLimit(16)

    answers(limit, SLOW_SECONDS * 0.99, 100, answers(limit, 0.001, 100))

    assert limit.limit == 16
