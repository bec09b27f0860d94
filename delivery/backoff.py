"""When to try again: exponential backoff with full jitter.

Full jitter (a delay drawn evenly between zero and the exponential bound) spreads the retries of many jobs that failed
together; see Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from datetime import timedelta
from random import Random

from contracts.connection import RetrySpec


def retry_delay(retry: RetrySpec, attempts_made: int, random: Random, asked: timedelta | None = None) -> timedelta:
    """Return the delay before the next attempt; never less than the partner `asked` for, capped at retryAfterMax."""
    delay = _bound(retry, attempts_made) * random.random()
    return max(delay, obeyed(retry, asked)) if asked is not None else delay


def pause(retry: RetrySpec, throttled_in_a_row: int, random: Random, asked: timedelta | None = None) -> timedelta:
    """Return how long a lane rests after being told to slow down: as asked, or a guess that grows.

    The guess has a floor of half its bound: a pause that may be zero would be none.
    """
    if asked is not None:
        return obeyed(retry, asked)
    return _bound(retry, throttled_in_a_row) * (0.5 + random.random() / 2)


def obeyed(retry: RetrySpec, asked: timedelta) -> timedelta:
    """Return the wait a partner asked for, within the connection's retryAfterMax."""
    return min(max(asked, timedelta()), retry.retry_after_max)


def _bound(retry: RetrySpec, times: int) -> timedelta:
    doublings = min(times - 1, 24)  # 2**24 of the smallest initial delay exceeds the largest maximum
    factor: int = 2**doublings
    return min(retry.initial_delay * factor, retry.max_delay)
