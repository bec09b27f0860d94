"""The limits of one simulated HubSpot account, of every kind, told as HubSpot tells them.

Rolling windows of ten seconds and of a day that ends at midnight of the account's zone, with headers that say what is
left; and the search's own limit for each second, which no header mentions.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

TEN_SECONDS: Final = 10.0
SEARCH_SECONDS: Final = 1.0


@dataclass(slots=True)
class Limits:
    """What an account may do, and what it did."""

    clock: Callable[[], float]
    zone: str = "UTC"
    per_ten_seconds: int = 190
    per_day: int = 625_000
    searches_per_second: int = 5
    refused: Counter[str] = field(default_factory=Counter)
    allowed: int = 0
    _calls: deque[float] = field(default_factory=deque)
    _searches: deque[float] = field(default_factory=deque)
    _day: str = ""
    _today: int = 0

    def admit(self, *, search: bool) -> tuple[dict[str, str], dict[str, Any] | None]:
        """Count a call; return the headers of its answer, and a refusal's body if it is over a limit."""
        now = self.clock()
        today = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(self.zone)).date().isoformat()
        if today != self._day:
            self._day, self._today = today, 0
        _forget(self._calls, now - TEN_SECONDS)
        _forget(self._searches, now - SEARCH_SECONDS)
        if self._today >= self.per_day:
            return self._headers(), self._refusal("DAILY", "You have reached your daily limit.")
        if search and len(self._searches) >= self.searches_per_second:
            return {}, self._refusal("SECONDLY", "You have reached your secondly limit.")
        if len(self._calls) >= self.per_ten_seconds:
            return self._headers(), self._refusal("TEN_SECONDLY_ROLLING", "You have reached your ten_secondly limit.")
        self._calls.append(now)
        self._today += 1
        self.allowed += 1
        if search:
            self._searches.append(now)
            return {}, None
        return self._headers(), None

    def seconds_to_midnight(self) -> float:
        """How long the account's day goes on."""
        local = datetime.fromtimestamp(self.clock(), UTC).astimezone(ZoneInfo(self.zone))
        return (datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), local.tzinfo) - local).seconds

    def _headers(self) -> dict[str, str]:
        return {
            "X-HubSpot-RateLimit-Max": str(self.per_ten_seconds),
            "X-HubSpot-RateLimit-Remaining": str(self.per_ten_seconds - len(self._calls)),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(TEN_SECONDS * 1000)),
            "X-HubSpot-RateLimit-Daily": str(self.per_day),
            "X-HubSpot-RateLimit-Daily-Remaining": str(self.per_day - self._today),
        }

    def _refusal(self, policy: str, message: str) -> dict[str, Any]:
        self.refused[policy] += 1
        return {
            "status": "error",
            "message": message,
            "errorType": "RATE_LIMIT",
            "correlationId": "00000000-0000-4000-8000-000000000000",
            "policyName": policy,
        }


def _forget(moments: deque[float], before: float) -> None:
    while moments and moments[0] <= before:
        moments.popleft()
