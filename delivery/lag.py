"""How late the event loop does what is due.

A worker that is short of CPU finds an answer some time after it has come. That time is the worker's, and must not make
its partners look slow: they would be given fewer requests, which helps nobody.
"""

import asyncio
import time

TICK_SECONDS = 0.1
DECAY = 0.9
"""What is kept of the lag from tick to tick: a lag of a moment ago still explains the answers of that moment."""

WAITS = 3
"""How often an attempt waits for its turn on the loop: it is sent, the head of the answer comes, the body comes."""


class LoopLag:
    """The lag of one event loop, seen by sleeping: zero until `run` runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.seconds = max(time.monotonic() - due, self.seconds * DECAY)

    def beyond(self, seconds: float) -> float:
        """Return what of an attempt's time was surely not spent waiting for this loop."""
        return max(0.0, seconds - WAITS * self.seconds)
