"""A failing lane stops, and comes back step by step; every change of its state is noted."""

from collections.abc import Callable

import pytest

from delivery.health import Actor, LaneState
from delivery.lane import Lane

MakeLane = Callable[..., Lane]
RAMP = {"successes": 3, "duration": "60s"}


def make(make_lane: MakeLane, **rules: object) -> Lane:
    return make_lane(quarantine={"ramp": RAMP, **rules}, throttle={"requestsPerSecond": 100, "burst": 50})


@pytest.fixture
def recovering(make_lane: MakeLane) -> Lane:
    """Return a lane that a probe has just brought back."""
    lane = make(make_lane)
    lane.quarantine(0.0, "Gone", probing=True)
    lane.reopen(0.0, "a probe was delivered")
    return lane


def steps(lane: Lane) -> list[str]:
    return [transition.after for transition in lane.health.transitions]


def test_a_lane_that_comes_back_has_a_tenth_of_its_limits(recovering: Lane) -> None:
    pace = recovering.pace

    assert (pace.bucket.rate, pace.bucket.burst, pace.concurrency) == (10.0, 5.0, 100)


def test_successes_take_it_up_step_by_step(recovering: Lane) -> None:
    rates = []
    for _ in range(9):
        recovering.succeeded(0.0)
        rates.append(recovering.pace.bucket.rate)

    assert rates == [10.0, 10.0, 25.0, 25.0, 25.0, 50.0, 50.0, 50.0, 100.0]


def test_time_without_a_failure_takes_it_up_as_well(recovering: Lane) -> None:
    rates = []
    for now in (59.0, 60.0, 119.0, 120.0, 180.0, 240.0):
        recovering.turn(now)
        rates.append(recovering.pace.bucket.rate)

    assert rates == [10.0, 25.0, 25.0, 50.0, 100.0, 100.0]


def test_a_failure_while_recovering_stops_it_at_once(recovering: Lane) -> None:
    recovering.failed(0.0, "HTTP 500")

    assert recovering.health.state is LaneState.QUARANTINED
    assert steps(recovering) == ["Quarantined", "Recovering at 10 %", "Quarantined"]


def test_probes_go_on_as_rarely_as_they_had_become(make_lane: MakeLane) -> None:
    lane = make(make_lane, probeInterval="5m")
    lane.quarantine(0.0, "Gone", probing=True)
    lane.probe_failed(0.0, "still failing", probing=True)
    lane.reopen(0.0, "a probe was delivered")

    lane.failed(0.0, "HTTP 500")

    assert lane.health.probe_at == 1200.0


def test_a_second_reason_to_stop_changes_nothing_of_that(recovering: Lane) -> None:
    recovering.health.probes = 4
    recovering.failed(0.0, "HTTP 500")

    recovering.quarantine(0.0, "Misconfigured", probing=True)

    assert recovering.health.probes == 5


def test_a_finished_ramp_forgets_how_rarely_probes_came(recovering: Lane) -> None:
    recovering.health.probes = 4
    for _ in range(9):
        recovering.succeeded(0.0)

    recovering.quarantine(0.0, "Gone", probing=True)

    assert recovering.health.probe_at == 300.0


def test_who_asked_for_the_probe_brought_the_lane_back(make_lane: MakeLane) -> None:
    lane = make(make_lane)
    lane.quarantine(0.0, "Gone", probing=False)
    lane.health.ask_probe(0.0, Actor.CREDENTIAL)
    lane.reopen(0.0, "a probe was delivered")

    assert [transition.actor for transition in lane.health.transitions] == ["Worker", "Credential"]


def test_a_quarantined_lane_that_is_told_to_stop_again_changes_nothing(make_lane: MakeLane) -> None:
    lane = make(make_lane)
    lane.quarantine(0.0, "Gone", probing=True)

    lane.quarantine(0.0, "Gone", probing=True)

    assert steps(lane) == ["Quarantined"]


def attempts(lane: Lane, outcomes: str, seconds_between: float = 0.0) -> None:
    for number, outcome in enumerate(outcomes):
        now = number * seconds_between
        if outcome == "f":
            lane.failed(now, "HTTP 500")
        else:
            lane.succeeded(now)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [("sf" * 9 + "s", "Open"), ("sf" * 10, "Quarantined"), ("ssf" * 30, "Open"), ("f" + "s" * 50, "Open")],
)
def test_a_rate_of_failures_stops_a_lane_once_there_are_enough_attempts(
    make_lane: MakeLane, outcomes: str, state: str
) -> None:
    lane = make(make_lane, failureRate={"percent": 50, "minimumAttempts": 20, "window": "60s"})

    attempts(lane, outcomes)

    assert lane.health.state == state


def test_what_is_older_than_the_window_does_not_count(make_lane: MakeLane) -> None:
    lane = make(make_lane, failureRate={"percent": 50, "minimumAttempts": 20, "window": "60s"})

    attempts(lane, "sf" * 30, seconds_between=4.0)

    assert lane.health.state is LaneState.OPEN


def test_failures_before_a_quarantine_do_not_count_after_it(make_lane: MakeLane) -> None:
    lane = make(make_lane, failureRate={"percent": 50, "minimumAttempts": 4, "window": "60s"})
    attempts(lane, "sfsf")
    lane.reopen(0.0, "a probe was delivered")
    attempts(lane, "s" * 9)

    attempts(lane, "f")

    assert lane.health.state is LaneState.OPEN
