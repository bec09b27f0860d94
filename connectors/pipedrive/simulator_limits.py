"""The limits of one simulated Pipedrive company: tokens a day by what a call costs, and requests in two seconds.

Refusals for either look alike. Traffic that goes on after refusals is answered with 403 and a page of HTML for a while,
as if the credential were wrong.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

BURST_SECONDS: Final = 2.0
BAN_AFTER: Final = 10
BAN_SECONDS: Final = 60.0
BAN_PAGE: Final = b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body>Forbidden</body></html>"


@dataclass(slots=True)
class Limits:
    """What a company's token may do, and what it did."""

    clock: Callable[[], float]
    per_burst: int = 80
    searches_per_burst: int = 10
    tokens_per_day: int = 30_000
    allowed: int = 0
    refused: int = 0
    banned: int = 0
    tokens_today: int = 0
    _day: str = ""
    _calls: deque[float] = field(default_factory=deque)
    _searches: deque[float] = field(default_factory=deque)
    _ignored: int = 0
    _banned_until: float = 0.0

    def admit(self, cost: int, *, search: bool) -> tuple[int, dict[str, str]]:
        """Count a call; return 0, 429 or 403, and the headers of its answer."""
        now = self.clock()
        if now < self._banned_until:
            self.banned += 1
            return 403, {}
        today = datetime.fromtimestamp(now, UTC).date().isoformat()
        if today != self._day:
            self._day, self.tokens_today = today, 0
        for calls in (self._calls, self._searches):
            while calls and calls[0] <= now - BURST_SECONDS:
                calls.popleft()
        over_day = self.tokens_today + cost > self.tokens_per_day
        over_burst = len(self._calls) >= self.per_burst or (search and len(self._searches) >= self.searches_per_burst)
        if over_day or over_burst:
            return self._refuse(now, self._seconds_left(now) if over_day else BURST_SECONDS)
        self._ignored = 0
        self.allowed += 1
        self.tokens_today += cost
        self._calls.append(now)
        if search:
            self._searches.append(now)
        return 0, self._headers(self.per_burst - len(self._calls), BURST_SECONDS)

    def _refuse(self, now: float, reset: float) -> tuple[int, dict[str, str]]:
        self.refused += 1
        self._ignored += 1
        if self._ignored >= BAN_AFTER:
            self._banned_until = now + BAN_SECONDS
        return 429, self._headers(0, reset)

    def _headers(self, remaining: int, reset: float) -> dict[str, str]:
        return {
            "x-ratelimit-limit": str(self.per_burst),
            "x-ratelimit-remaining": str(remaining),
            "x-ratelimit-reset": str(int(reset) or 1),
        }

    def _seconds_left(self, now: float) -> float:
        moment = datetime.fromtimestamp(now, UTC)
        return (datetime.combine(moment.date() + timedelta(days=1), datetime.min.time(), UTC) - moment).total_seconds()
