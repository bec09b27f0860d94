"""A lane draws what it can use, tells what it has used, and knows when to ask again."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from contracts.ids import ConnectionId, EventId, JobId, RouteId, ScopeId
from delivery.lane import Lane
from delivery.permits import LONGEST_WAIT_SECONDS, TELL_SECONDS, Permits
from store.jobs import Job
from store.scopes import Draw, Drawn

AT = datetime(2026, 11, 20, tzinfo=UTC)
LANE = ConnectionId(1)


@pytest.fixture
def permits() -> Permits:
    return Permits(ScopeId(7))


@pytest.fixture
def lane(make_lane: Callable[..., Lane]) -> Lane:
    """Give a lane under a scope, with five jobs that can start."""
    lane = make_lane(scope=ScopeId(7), throttle={"concurrency": 4})
    for number in range(1, 6):
        entry = lane.jobs.feed(Job(JobId(number), LANE, RouteId(1), EventId(number), AT, None, 0))
        assert entry is not None
        entry.loaded = True
    return lane


def draw(permits: Permits, startable: int, under_way: int = 0, now: float = 0.0) -> Draw:
    return permits.draw(LANE, 1, startable, under_way, now)


def drawn(permits: Permits, granted: int, wait: float = 0.0, now: float = 0.0, **more: object) -> None:
    answer = Drawn(LANE, granted, wait, None, crowded=False)._replace(**more)
    permits.drawn(answer, now, now)


def test_a_lane_under_a_scope_starts_nothing_without_a_permit(lane: Lane) -> None:
    before = lane.may_start(0.0)
    assert lane.permits is not None
    drawn(lane.permits, 1)
    lane.start(0.0)

    assert (before, lane.permits.in_hand, lane.may_start(0.0)) == (False, 0, False)


def test_a_lane_wants_no_more_than_its_own_limits_let_start(lane: Lane) -> None:
    assert lane.startable(0.0) == 4


def test_a_lane_that_stands_still_wants_nothing_but_its_probe(lane: Lane) -> None:
    lane.quarantine(0.0, "Gone", probing=False)
    still = lane.startable(0.0)
    lane.health.probe_at = 5.0

    assert (still, lane.startable(4.0), lane.startable(5.0)) == (0, 0, 1)


def test_a_probe_waits_for_a_permit(lane: Lane) -> None:
    lane.quarantine(0.0, "x", probing=True)
    probe = Job(JobId(9), LANE, RouteId(1), EventId(9), AT, None, 0)
    before = lane.feed_probe(probe, 0.0)
    assert lane.permits is not None
    drawn(lane.permits, 1)

    assert before is None
    assert lane.feed_probe(probe, 0.0) is not None
    assert lane.permits.in_hand == 0


def test_a_job_that_is_not_sent_leaves_its_permit(lane: Lane) -> None:
    assert lane.permits is not None
    drawn(lane.permits, 1)
    lane.not_sent(lane.start(0.0), 0.0)

    assert lane.permits.in_hand == 1


def test_it_asks_at_once_for_what_can_start_and_says_nothing_twice(permits: Permits) -> None:
    first = permits.next_draw(3, 0, 5.0)
    told = draw(permits, 3)

    assert (first, told.wanted, permits.next_draw(3, 0, 5.0)) == (0.0, 3, None)


def test_it_asks_again_when_it_was_told_to(permits: Permits) -> None:
    draw(permits, 3)
    drawn(permits, 0, wait=40.0)

    assert permits.next_draw(3, 0, 1.0) == 40.0


def test_with_nothing_to_start_and_nothing_new_it_says_nothing(permits: Permits) -> None:
    assert permits.next_draw(0, 0, 0.0) is None


def test_what_cannot_be_used_is_given_back(permits: Permits) -> None:
    drawn(permits, 5)
    at = permits.next_draw(2, 0, 1.0)
    told = draw(permits, 2)

    assert (at, told.unused, told.in_hand, told.wanted) == (1.0, 3, 2, 0)


def test_uses_are_told_with_the_age_of_the_latest(permits: Permits) -> None:
    drawn(permits, 5)
    permits.use(1.0)
    permits.use(3.0)
    first, second = draw(permits, 3, 2, 10.0), draw(permits, 3, 2, 11.0)

    assert (first.used_ago_seconds, second.used_ago_seconds, first.in_hand) == (7.0, None, 3)


@pytest.mark.parametrize(("crowded", "at"), [(False, 5.0 + TELL_SECONDS), (True, 5.0)])
def test_an_end_is_told_soon_and_at_once_if_others_may_wait_for_the_place(
    permits: Permits, crowded: bool, at: float
) -> None:
    drawn(permits, 1)
    permits.use(0.0)
    draw(permits, 0, 1)
    drawn(permits, 0, crowded=crowded)

    assert permits.next_draw(0, 1, 5.0) is None
    assert permits.next_draw(0, 0, 5.0) == at


def test_what_is_drawn_when_a_day_has_begun_does_not_revive_what_is_left_of_the_former(permits: Permits) -> None:
    drawn(permits, 3, day_ends_in_seconds=5.0)
    draw(permits, 5, now=4.9)
    drawn(permits, 2, now=5.1, day_ends_in_seconds=1000.0)

    assert permits.in_hand == 2


def test_one_that_waits_long_looks_sooner_for_what_others_gave_back(permits: Permits) -> None:
    draw(permits, 3)
    drawn(permits, 0, wait=10_000.0)

    assert permits.next_draw(3, 0, 1.0) == LONGEST_WAIT_SECONDS


def test_a_lane_changes_hands_only_when_it_holds_nothing_of_its_scope(lane: Lane) -> None:
    permits = lane.permits
    assert permits is not None
    drawn(permits, 1)
    holding = lane.can_change_hands
    entry = lane.start(0.0)
    lane.under_way -= 1
    lane.jobs.settled(entry)
    untold = lane.can_change_hands
    draw(permits, 0)
    telling = lane.can_change_hands
    drawn(permits, 0)

    assert (holding, untold, telling, lane.can_change_hands) == (False, False, False, True)


def test_what_is_left_when_a_day_ends_is_not_given_to_the_next(permits: Permits) -> None:
    drawn(permits, 3, day_ends_in_seconds=1000.0)
    early = draw(permits, 2, now=900.0)
    late = draw(permits, 0, now=950.0)

    assert (early.unused, late.unused, permits.in_hand) == (1, 0, 0)


def test_silence_that_the_partner_asked_for_is_told_once_and_again_if_no_answer_came(permits: Permits) -> None:
    permits.rest(30.0)
    at = permits.next_draw(0, 0, 10.0)
    first = draw(permits, 0, now=10.0)
    permits.not_drawn(11.0)
    second = draw(permits, 0, now=12.0)
    drawn(permits, 0)

    assert (at, first.rests_seconds, second.rests_seconds) == (10.0, 20.0, 18.0)
    assert draw(permits, 0, now=13.0).rests_seconds is None


def test_a_lane_whose_partner_asks_for_silence_tells_its_scope(lane: Lane) -> None:
    lane.rest(30.0)
    assert lane.permits is not None

    assert draw(lane.permits, 0).rests_seconds == 30.0


def test_a_permit_is_lost_with_the_day_it_was_counted_in(permits: Permits) -> None:
    drawn(permits, 3, now=10.0, day_ends_in_seconds=5.0)
    usable = [permits.usable(at) for at in (14.9, 15.0)]
    permits.next_draw(3, 0, 15.0)

    assert (usable, permits.in_hand) == ([True, False], 0)


def test_a_draw_without_answer_is_told_again_and_gives_nothing_back_twice(permits: Permits) -> None:
    drawn(permits, 5)
    lost = draw(permits, 2)
    permits.not_drawn(0.0)
    at = permits.next_draw(2, 0, 0.0)

    assert (lost.unused, at, draw(permits, 2).unused) == (3, TELL_SECONDS, 0)


def test_a_lane_that_got_no_answer_asks_no_more_until_it_knows_better(permits: Permits) -> None:
    draw(permits, 3)
    permits.drawn(None, 0.0, 10.0)

    assert permits.next_draw(3, 0, 10.0) == 11.0
