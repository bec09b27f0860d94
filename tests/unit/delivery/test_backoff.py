"""Retries spread out, grow to their limit, and obey the partner within reason."""

from datetime import timedelta
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.delivery_spec import RetrySpec
from delivery.backoff import obeyed, pause, retry_delay

LONGEST = timedelta(hours=168)


class Highest(Random):
    """Draws the upper end, so that a delay shows its bound."""

    def random(self) -> float:
        return 1.0


class Lowest(Random):
    def random(self) -> float:
        return 0.0


@st.composite
def retries(draw: st.DrawFn) -> RetrySpec:
    initial = draw(st.timedeltas(timedelta(milliseconds=100), timedelta(hours=1)))
    return RetrySpec.model_construct(
        initial_delay=initial,
        max_delay=draw(st.timedeltas(initial, LONGEST)),
        retry_after_max=draw(st.timedeltas(timedelta(seconds=1), LONGEST)),
    )


def bound(retry: RetrySpec, times: int) -> timedelta:
    seconds = retry.initial_delay.total_seconds() * 2.0 ** min(times - 1, 60)
    return retry.max_delay if seconds >= retry.max_delay.total_seconds() else timedelta(seconds=seconds)


counts = st.integers(1, 10_000)
asked_waits = st.timedeltas(timedelta(0), timedelta(days=365))


@given(retries(), counts, st.integers())
def test_a_delay_is_never_negative_and_never_above_its_bound(retry: RetrySpec, made: int, seed: int) -> None:
    delay = retry_delay(retry, made, Random(seed))

    assert timedelta(0) <= delay <= bound(retry, made) + timedelta(microseconds=1)


@given(retries(), counts)
def test_the_bound_doubles_up_to_the_longest_delay(retry: RetrySpec, made: int) -> None:
    this, following = (retry_delay(retry, number, Highest()) for number in (made, made + 1))

    assert following == min(this * 2, retry.max_delay)


@given(retries())
def test_the_first_bound_is_the_initial_delay(retry: RetrySpec) -> None:
    assert retry_delay(retry, 1, Highest()) == retry.initial_delay


def test_delays_are_half_their_bound_on_average() -> None:
    retry, random = RetrySpec(), Random(1)

    mean = fmean(retry_delay(retry, 5, random).total_seconds() for _ in range(20_000))

    assert mean == pytest.approx(bound(retry, 5).total_seconds() / 2, rel=0.02)


@given(retries(), counts, asked_waits, st.integers())
def test_a_retry_comes_no_sooner_than_the_partner_asked_for(
    retry: RetrySpec, made: int, asked: timedelta, seed: int
) -> None:
    delay = retry_delay(retry, made, Random(seed), asked)

    assert delay >= min(asked, retry.retry_after_max)


@given(retries(), counts, asked_waits)
def test_a_partner_cannot_delay_a_retry_beyond_retry_after_max(retry: RetrySpec, made: int, asked: timedelta) -> None:
    delay = retry_delay(retry, made, Lowest(), asked)

    assert delay <= retry.retry_after_max


@given(retries(), counts, asked_waits, st.integers())
def test_a_pause_is_exactly_what_was_asked_for_up_to_retry_after_max(
    retry: RetrySpec, times: int, asked: timedelta, seed: int
) -> None:
    assert pause(retry, times, Random(seed), asked) == min(asked, retry.retry_after_max)


@given(retries(), counts, st.integers())
def test_a_guessed_pause_is_at_least_half_its_bound(retry: RetrySpec, times: int, seed: int) -> None:
    rest = pause(retry, times, Random(seed))

    assert rest >= bound(retry, times) / 2 - timedelta(microseconds=1)


@given(retries(), counts, st.integers())
def test_a_guessed_pause_is_at_most_its_bound(retry: RetrySpec, times: int, seed: int) -> None:
    rest = pause(retry, times, Random(seed))

    assert rest <= bound(retry, times) + timedelta(microseconds=1)


@given(retries(), st.timedeltas(max_value=timedelta(0)))
def test_a_wait_in_the_past_is_no_wait(retry: RetrySpec, asked: timedelta) -> None:
    assert obeyed(retry, asked) == timedelta(0)


SCHEDULED = RetrySpec(schedule=(timedelta(seconds=5), timedelta(minutes=5), timedelta(hours=2)))


@pytest.mark.parametrize(("made", "minutes"), [(1, 5 / 60), (2, 5), (3, 120), (4, 120), (99, 120)])
def test_a_schedule_s_delays_come_in_turn_and_the_last_one_goes_on(made: int, minutes: float) -> None:
    assert retry_delay(SCHEDULED, made, Lowest()) == timedelta(minutes=minutes)


@given(st.integers(1, 100), st.integers())
def test_a_scheduled_delay_is_lengthened_by_a_tenth_at_most(made: int, seed: int) -> None:
    least = retry_delay(SCHEDULED, made, Lowest())

    assert least <= retry_delay(SCHEDULED, made, Random(seed)) <= least * 1.1


def test_a_partner_that_asks_for_more_than_the_schedule_gets_it() -> None:
    assert retry_delay(SCHEDULED, 1, Lowest(), timedelta(minutes=3)) == timedelta(minutes=3)
