"""What is to be reconciled next: each key once, new and changed objects before those that are only looked at again.

A key that is added while it is being worked on is worked on once more afterwards, so no change is missed. A key that
fails comes back after a delay that doubles, with jitter, and no sooner than whoever refused it asked for. A key that
comes back far too often is slowed down, never dropped: its last change is always reconciled.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable
from enum import IntEnum
from random import Random
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 300.0
_STORM_RUNS = 60
_STORM_WINDOW_SECONDS = 60.0
_STORM_DELAY_SECONDS = 15.0


class Lane(IntEnum):
    """How urgent a key is."""

    CHANGED = 0
    """Somebody waits for it: it is new, or was changed."""
    RESYNC = 1
    """It is looked at again to be sure."""


class WorkQueue(Generic[K]):
    """A de-duplicating queue with two lanes."""

    def __init__(
        self,
        random: Random,
        fatal: type[Exception] | tuple[()] = (),
        asked: Callable[[Exception], float | None] = lambda _: None,
    ) -> None:
        self._random = random
        self._fatal = fatal
        self._asked = asked
        self._waiting: tuple[dict[K, None], dict[K, None]] = ({}, {})
        self._delayed: dict[K, asyncio.TimerHandle] = {}
        self._working: set[K] = set()
        self._again: dict[K, Lane] = {}
        self._failures: dict[K, int] = {}
        self._runs: Counter[K] = Counter()
        self._counting_since = 0.0
        self._wake = asyncio.Event()

    def add(self, key: K, lane: Lane = Lane.CHANGED) -> None:
        """Have a key worked on as soon as possible."""
        if key in self._working:
            self._again[key] = min(lane, self._again.get(key, lane))
            return
        if lane is Lane.CHANGED:
            self._waiting[Lane.RESYNC].pop(key, None)
        elif key in self._waiting[Lane.CHANGED]:
            return
        self._waiting[lane].setdefault(key)
        self._wake.set()

    def add_all(self, keys: Iterable[K]) -> None:
        """Have each of the keys worked on as soon as possible."""
        for key in keys:
            self.add(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have a key worked on later; of several delays the shortest counts."""
        loop = asyncio.get_running_loop()
        pending = self._delayed.get(key)
        if pending is not None:
            if pending.when() <= loop.time() + seconds:
                return
            pending.cancel()
        self._delayed[key] = loop.call_later(seconds, self._due, key)

    def hurry(self) -> None:
        """Have what failed tried again now: what was in its way is there again."""
        for key in self._failures.keys() & self._delayed.keys():
            self._delayed.pop(key).cancel()
            self.add(key)

    def depth(self, lane: Lane) -> int:
        """Return how many keys wait in a lane."""
        return len(self._waiting[lane])

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is being worked on; delayed keys do not count."""
        return not (self._waiting[Lane.CHANGED] or self._waiting[Lane.RESYNC] or self._working)

    def clear(self) -> None:
        """Forget everything: another one leads now."""
        for handle in self._delayed.values():
            handle.cancel()
        for forgotten in (*self._waiting, self._delayed, self._again, self._failures, self._runs):
            forgotten.clear()

    async def work(self, handle: Callable[[K], Awaitable[None]]) -> None:
        """Take one key after the other until cancelled; what `handle` raises delays the key."""
        while True:
            key = await self._next()
            self._working.add(key)
            try:
                await handle(key)
            except self._fatal:
                raise
            except Exception as error:  # noqa: BLE001 -- `handle` has told of it; whatever it was, the key comes back
                self.add_after(key, self._delay(key, error))
            else:
                self._failures.pop(key, None)
            finally:
                self._working.discard(key)
                lane = self._again.pop(key, None)
                if lane is not None:
                    self.add(key, lane)

    def _delay(self, key: K, error: Exception) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        longest = min(_FIRST_DELAY_SECONDS * 2 ** min(failures, 20), _LONGEST_DELAY_SECONDS)
        asked = min(self._asked(error) or 0.0, _LONGEST_DELAY_SECONDS)
        return max(self._random.uniform(longest / 2, longest), asked * self._random.uniform(1, 1.5))

    async def _next(self) -> K:
        while True:
            for waiting in self._waiting:
                while waiting:
                    key = next(iter(waiting))
                    del waiting[key]
                    if not self._storms(key):
                        return key
                    self.add_after(key, self._random.uniform(_STORM_DELAY_SECONDS / 2, _STORM_DELAY_SECONDS))
            self._wake.clear()
            await self._wake.wait()

    def _storms(self, key: K) -> bool:
        """Note a run; say whether the key has come so often that it must wait."""
        now = time.monotonic()
        if now - self._counting_since > _STORM_WINDOW_SECONDS:
            self._counting_since = now
            self._runs.clear()
        if self._runs[key] >= _STORM_RUNS:
            return True
        self._runs[key] += 1
        return False

    def _due(self, key: K) -> None:
        del self._delayed[key]
        self.add(key)
