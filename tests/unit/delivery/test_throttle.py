"""A token bucket lets nothing through that its limits forbid, however it is used."""

from itertools import accumulate, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.throttle import TokenBucket

ROUNDING = 1e-6

rates = st.floats(0.001, 1000)
bursts = st.integers(1, 100).map(float)
gaps = st.lists(st.one_of(st.just(0.0), st.floats(0, 5)), max_size=60)


@given(rates, bursts, gaps, st.floats(0, 1000))
def test_no_interval_sees_more_than_the_burst_and_what_accrues_in_it(
    rate: float, burst: float, waits: list[float], tokens: float
) -> None:
    bucket = TokenBucket(rate, burst, 0.0, tokens)

    taken = [now for now in accumulate(waits) if bucket.take(now)]

    assert all(
        last - first + 1 <= burst + rate * (taken[last] - taken[first]) + 1
        for first, last in combinations(range(len(taken)), 2)
    )


@given(rates, bursts, gaps)
def test_tokens_are_never_negative(rate: float, burst: float, waits: list[float]) -> None:
    bucket = TokenBucket(rate, burst, 0.0, burst)
    seen: list[float] = []

    for now in accumulate(waits):
        bucket.take(now)
        seen.append(bucket.available(now))

    assert all(tokens >= 0 for tokens in seen)


@given(rates, bursts, gaps)
def test_tokens_never_exceed_the_burst(rate: float, burst: float, waits: list[float]) -> None:
    bucket = TokenBucket(rate, burst, 0.0, 10 * burst)

    seen = [bucket.available(now) for now in accumulate(waits)]

    assert all(tokens <= burst for tokens in seen)


@given(rates, bursts, st.floats(0, 100))
def test_a_token_is_there_after_the_wait_that_was_told(rate: float, burst: float, tokens: float) -> None:
    bucket = TokenBucket(rate, burst, 0.0, tokens)

    wait = bucket.seconds_until_next(0.0)

    assert bucket.available(wait) >= 1 - ROUNDING


@given(rates, bursts, st.floats(1, 100))
def test_there_is_no_wait_while_there_is_a_token(rate: float, burst: float, tokens: float) -> None:
    assert TokenBucket(rate, burst, 0.0, tokens).seconds_until_next(0.0) == 0.0


def test_what_is_owed_is_waited_for() -> None:
    bucket = TokenBucket(1.0, 5.0, 0.0, 0.0)

    bucket.owe(0.0)

    assert bucket.seconds_until_next(0.0) == 2.0


def test_an_empty_bucket_gives_nothing() -> None:
    assert not TokenBucket(1.0, 5.0, 0.0, 0.0).take(0.0)


def test_a_clock_that_goes_back_neither_gives_nor_takes_tokens() -> None:
    bucket = TokenBucket(1.0, 5.0, 100.0, 2.0)

    assert bucket.available(0.0) == 2.0


def test_a_smaller_burst_takes_what_does_not_fit_at_once() -> None:
    bucket = TokenBucket(1.0, 100.0, 0.0, 100.0)

    bucket.resize(1.0, 3.0, 0.0)

    assert bucket.available(0.0) == 3.0


def test_a_larger_burst_gives_no_tokens_at_once() -> None:
    bucket = TokenBucket(1.0, 3.0, 0.0, 3.0)

    bucket.resize(1.0, 100.0, 0.0)

    assert bucket.available(0.0) == 3.0


def test_a_new_rate_does_not_count_for_the_time_before_it() -> None:
    bucket = TokenBucket(1.0, 1000.0, 0.0, 0.0)

    bucket.resize(100.0, 1000.0, 4.0)

    assert bucket.available(5.0) == pytest.approx(104.0)
