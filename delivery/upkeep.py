"""The dispatcher's upkeep: partitions, retention, and what is deleted for tenants with a retention of their own."""

import asyncio
import logging
import time

from delivery.metrics import DispatcherMetrics
from delivery.settings import DispatcherSettings
from programs.reconnect import Reconnecting
from store.retention import Relation, Retention, sweep
from store.upkeep import maintain

log = logging.getLogger(__name__)

ROUND_SECONDS = 600.0
REST = 4.0
"""A sweep rests for so many times as long as each batch took: the database has other work."""


class Upkeep:
    """The upkeep of one dispatcher; of two at once one sweeps."""

    def __init__(self, database: Reconnecting, settings: DispatcherSettings, metrics: DispatcherMetrics) -> None:
        self._database = database
        self._events = settings.events_kept()
        self._attempts = settings.attempts_kept()
        self._dead_letters = settings.dead_letters_kept()
        self._metrics = metrics

    async def run(self) -> None:
        """Look after the tables until cancelled; the next round goes on where one was interrupted."""
        while True:
            await self.once()
            await asyncio.sleep(ROUND_SECONDS)

    async def once(self) -> None:
        """Do all that is to be done now."""
        done = await self._database.keep_trying(
            lambda database: maintain(
                database, events=self._events, attempts=self._attempts, dead_letters=self._dead_letters
            )
        )
        for action, relation in done:
            log.info("upkeep", extra={"action": action, "relation": relation})
        await self._sweep("event", self._events)
        await self._sweep("event_dedupe", self._events)
        await self._sweep("attempt", self._attempts)

    async def _sweep(self, relation: Relation, kept: Retention) -> None:
        began = time.monotonic()
        while swept := await self._database.keep_trying(lambda database: sweep(database, relation, kept)):
            self._metrics.swept.labels(relation).inc(swept.deleted)
            if swept.finished:
                log.info("upkeep", extra={"action": "swept", "relation": relation, "day": swept.day.isoformat()})
            await asyncio.sleep(REST * (time.monotonic() - began))
            began = time.monotonic()
