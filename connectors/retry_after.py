"""The Retry-After header (RFC 9110, section 10.2.3), read without trust.

It comes from outside and decides how long we wait, so nothing in it may raise, overflow or turn time back.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

RETRY_AFTER_LIMIT: Final = timedelta(days=30)
"""What longer waits are cut to; a connection's own `retryAfterMax` is far below."""

_SECONDS = re.compile(r"\s*([0-9]+)(?:\.[0-9]*)?\s*", re.ASCII)
_DIGITS_LIMIT = 9


def parse_retry_after(value: str | None, date: str | None, now: datetime) -> timedelta | None:
    """Read how long to wait: from seconds, or from a moment, which counts from the answer's own `Date`.

    Counting from `date` (`now`, aware, if there is none) makes a wrong clock at either end harmless. A moment that
    has passed is zero; what cannot be read is None.
    """
    if value is None:
        return None
    seconds = _SECONDS.fullmatch(value)
    if seconds is not None:
        digits = seconds[1].lstrip("0") or "0"
        return RETRY_AFTER_LIMIT if len(digits) > _DIGITS_LIMIT else min(timedelta(0, int(digits)), RETRY_AFTER_LIMIT)
    moment = parse_date(value)
    if moment is None:
        return None
    return min(max(moment - (parse_date(date) or now), timedelta(0)), RETRY_AFTER_LIMIT)


def parse_date(value: str | None) -> datetime | None:
    """Read a date of HTTP; None if it is none."""
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
