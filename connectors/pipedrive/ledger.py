"""What a connection spends of Pipedrive's daily tokens.

All of a company share a budget: 30,000 times the plan's factor times its seats, and each call costs some of it
(Pipedrive's token-based rate limits). Headers tell of bursts only, and both refusals look alike. So we keep our own
account: what this connection has spent today, whichever worker did, and no more than its share, if the spec gives it
one. It is written down every hundred tokens or so; a worker that is killed in between has spent that much unseen.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors.api_client import NothingAskedError
from connectors.context import Facts
from connectors.errors import NoStateError, StateUnavailableError
from contracts.outcomes import QuotaExhausted, Report

FACT: Final = "tokens"
WRITTEN_EVERY: Final = 100
"""Tokens between two writes."""


class TokenLedger:
    """Today's account of one connection; days are UTC's. `share` is None where the spec names none."""

    def __init__(self, facts: Facts, share: int | None, clock: Callable[[], float]) -> None:
        self._facts = facts
        self._share = share
        self._clock = clock
        self._day = ""
        self._spent = 0
        self._written = 0

    async def spend(self, tokens: int) -> None:
        """Count a call that costs so many; raise AttemptEndedError, with nothing asked, if the share is used up."""
        await self._open_day()
        if self._share is not None and self._spent + tokens > self._share:
            report = Report(
                QuotaExhausted(self._midnight()),
                detail=f"the connection has spent {self._spent:,} of its {self._share:,} tokens of today; nothing was "
                "asked of Pipedrive. Raise spec.pipedrive.dailyTokens if the company has more",
            )
            raise NothingAskedError(report)
        self._spent += tokens
        if self._spent - self._written >= WRITTEN_EVERY:
            await self.write()

    async def write(self) -> None:
        """Write down what was spent; where nothing is kept, or not now, it stays in memory."""
        if self._spent != self._written:
            with suppress(StateUnavailableError, NoStateError):
                await self._facts.write(FACT, {"day": self._day, "spent": self._spent})
                self._written = self._spent

    async def _open_day(self) -> None:
        today = datetime.fromtimestamp(self._clock(), UTC).date().isoformat()
        if today == self._day:
            return
        known: Any = None
        if not self._day:
            with suppress(NoStateError):
                fact = await self._facts.read(FACT)
                known = fact.value if fact else None
        of_today = isinstance(known, dict) and known.get("day") == today
        self._spent = self._written = int(known["spent"]) if of_today else 0
        self._day = today

    def _midnight(self) -> datetime:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
