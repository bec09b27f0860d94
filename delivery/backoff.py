"""When to try again: exponential backoff with full jitter, or a schedule.

Full jitter (a delay drawn evenly between zero and the exponential bound) spreads the retries of many jobs that failed
together; see Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Who writes a schedule wants those
delays, so they are only lengthened a little.
"""

from datetime import timedelta
from random import Random

from contracts.delivery_spec import RetrySpec

SCHEDULE_JITTER = 0.1
"""Part of a scheduled delay by which it is lengthened at most."""


def retry_delay(retry: RetrySpec, attempts_made: int, random: Random, asked: timedelta | None = None) -> timedelta:
    """Return the delay before the next attempt; never less than the partner `asked` for, capped at retryAfterMax."""
    bound = _bound(retry, attempts_made)
    delay = bound * (random.random() if retry.schedule is None else 1 + SCHEDULE_JITTER * random.random())
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
    if retry.schedule is not None:
        return retry.schedule[min(times, len(retry.schedule)) - 1]
    doublings = min(times - 1, 24)  # 2**24 of the smallest initial delay exceeds the largest maximum
    factor: int = 2**doublings
    return min(retry.initial_delay * factor, retry.max_delay)
