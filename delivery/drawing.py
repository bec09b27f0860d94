"""Drawing: brings permits to lanes whose limits are not theirs alone, and tells what became of those they had.

One statement at a time, for all lanes that have something to say. Lanes without a scope never come here; a worker
without lanes under a scope opens no connection for it.
"""

import asyncio
import time

from delivery.desk import Desk
from delivery.lane import Lane
from delivery.permits import Permits
from programs.reconnect import Reconnecting
from store.database import Database
from store.errors import DatabaseUnreachableError
from store.scopes import Draw, draw_permits

SPACING_SECONDS = 0.002
"""The least time between two draws: at load one serves many requests."""


class Drawing:
    """Draws for one session."""

    def __init__(self, desk: Desk, database: Reconnecting) -> None:
        self._desk = desk
        self._database = database

    async def run(self) -> None:
        """Draw whenever something is wanted, until cancelled; raise LeaseLostError."""
        while True:
            await self._desk.permits_wanted.wait()
            self._desk.permits_wanted.clear()
            await self._database.keep_trying(self._draw)
            self._desk.start_jobs()
            await asyncio.sleep(SPACING_SECONDS)

    async def _draw(self, database: Database) -> None:
        desk = self._desk
        wanting = self._take()
        if not wanting:
            return
        asked_at = time.monotonic()
        draws = [self._draw_of(lane, permits, asked_at) for lane, permits in wanting]
        try:
            answers = {drawn.connection: drawn for drawn in await draw_permits(database, desk.session, draws)}
        except DatabaseUnreachableError:
            now = time.monotonic()
            for lane, permits in wanting:
                permits.not_drawn(now)
                desk.review(lane, now)
            raise
        now = time.monotonic()
        for (lane, permits), draw in zip(wanting, draws, strict=True):
            got = answers.get(lane.id)
            permits.drawn(got, asked_at, now)
            if got is not None and got.crowded and got.granted < draw.wanted:
                desk.crowded.add(lane)
            desk.review(lane, now)

    def _take(self) -> list[tuple[Lane, Permits]]:
        """Take the lanes that want something, and those that may get a place which one of them has left."""
        desk = self._desk
        scopes = {lane.permits.scope for lane in desk.drawing if lane.permits is not None}
        waiting = {lane for lane in desk.crowded if lane.permits is not None and lane.permits.scope in scopes}
        lanes = desk.drawing | waiting
        desk.drawing -= lanes
        desk.crowded -= lanes
        return [(lane, lane.permits) for lane in lanes if lane.permits is not None and not lane.permits.drawing]

    def _draw_of(self, lane: Lane, permits: Permits, now: float) -> Draw:
        startable = 0 if self._desk.draining else lane.startable(now)
        return permits.draw(lane.id, lane.delivery.weight, startable, lane.under_way, now)
