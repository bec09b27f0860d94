"""How many calls a partner takes in any so many seconds, kept so that it never has to refuse one.

The partner counts calls when they arrive, by a clock that is not ours. A call arrives after we begin it and before its
answer is here; so if one is counted until its time is over *after its answer*, then however long it travelled, the
partner has never more of them in a window than it allows. That costs the time a call takes of every window, a
hundredth at 100 ms in 10 s, and no margin for clocks.

What others spend of the same limit is learned from what the partner says is left. Of a limit that others may just have
used, by a worker that had this connection before, one call is made until the partner has said so.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

LONGEST_NAP_SECONDS = 0.05


class BudgetSpentError(Exception):
    """No call may be made for `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the partner takes no more calls for {seconds:.1f} s")
        self.seconds = seconds


class UnusedCallError(Exception):
    """A call that was allowed was not made: it counts for nothing."""


class CallBudget:
    """At most `limit` calls in any `seconds`; with `told_by_partner`, one call until the partner says what is left."""

    def __init__(
        self,
        limit: int,
        seconds: float,
        *,
        told_by_partner: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.limit = limit
        self.seconds = seconds
        self._clock = clock
        self._unknown = told_by_partner
        self._under_way = 0
        self._ended: deque[float] = deque()
        self._others = 0
        self._others_until = 0.0
        self._closed_until = 0.0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def call(self, patience: float) -> AsyncIterator[None]:
        """Make one call within; wait for it at most `patience` seconds, or raise BudgetSpentError.

        An UnusedCallError from within says that none was made.
        """
        await self._take(patience)
        made = True
        try:
            yield
        except UnusedCallError:
            made = False
            raise
        finally:
            self._under_way -= 1
            if made:
                self._ended.append(self._clock())

    def told(self, limit: int | None, remaining: int) -> None:
        """Take note of what the partner says is left in its window, and of its limit if it says that."""
        self.limit = limit or self.limit
        self._unknown = False
        self._forget()
        others = self.limit - remaining - len(self._ended) - self._under_way
        now = self._clock()
        if others >= self._others or now >= self._others_until:
            self._others, self._others_until = max(0, others), now + self.seconds

    def refused(self, seconds: float | None = None) -> None:
        """Take note that the partner refused a call, for so long if it said so."""
        self._closed_until = max(self._closed_until, self._clock() + (self.seconds if seconds is None else seconds))

    def wait_seconds(self) -> float:
        """Return how long it will be until a call may be made; 0 if it may be now.

        While all that is allowed is under way nobody knows: then it is a short time, after which to ask again.
        """
        now = self._clock()
        if now < self._closed_until:
            return self._closed_until - now
        self._forget()
        limit = 1 if self._unknown else self.limit
        others = self._others if now < self._others_until else 0
        over = len(self._ended) + self._under_way + others - limit + 1
        if over <= 0:
            return 0.0
        if over <= len(self._ended):
            return max(0.0, self._ended[over - 1] + self.seconds - now)
        if others and over <= len(self._ended) + others:
            return max(0.0, self._others_until - now)
        return LONGEST_NAP_SECONDS

    async def _take(self, patience: float) -> None:
        give_up_at = self._clock() + patience
        async with self._turn:
            while (wait := self.wait_seconds()) > 0:
                if self._clock() + wait > give_up_at:
                    raise BudgetSpentError(wait)
                await asyncio.sleep(wait)
            self._under_way += 1

    def _forget(self) -> None:
        before = self._clock() - self.seconds
        while self._ended and self._ended[0] < before:
            self._ended.popleft()
