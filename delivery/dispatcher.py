"""The dispatcher: undispatched events in, jobs out, one transaction a batch.

Any number may run; the cursor lets one write at a time (see `store.dispatch`). Who loses a batch to another stands
by for a second and then looks again, so one of them does the work and the next takes over when it dies.

When events come slowly, each one's transaction notifies the dispatcher. Above some hundreds a second the dispatcher
says that it is awake, producers stop notifying, and it looks for events every few milliseconds instead. A producer
that read "awake" and committed after the dispatcher's last look is found by a poll, which never stops.
"""

import asyncio
import logging
import time

from prometheus_client import CollectorRegistry

from delivery.horizon import Horizon
from delivery.metrics import DispatcherMetrics
from delivery.replaying import Replaying
from delivery.routing import RoutingTable
from delivery.settings import DispatcherSettings
from delivery.upkeep import Upkeep
from programs.health import HealthServer
from programs.reconnect import Reconnecting
from store.database import Database, Listener
from store.dispatch import (
    CHANNEL,
    NewEvent,
    NewJob,
    RoutingFailure,
    read_batch,
    read_cursor,
    read_epoch,
    read_routes,
    set_asleep,
    write_jobs,
)
from store.publication import CHANNEL as ROUTING_CHANNEL
from store.scopes import read_budgets
from store.upkeep import read_backlog
from store.watching import watch

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
STANDBY_SECONDS = 1.0
RATE_WINDOW_SECONDS = 0.25
BUSY_EVENTS_PER_SECOND = 400
CALM_EVENTS_PER_SECOND = 150
PACE_SECONDS = 0.004
"""Between two looks while busy: one batch then serves many events, at the price of half of it in latency."""

JOBS_AT_ONCE = 20_000
"""Jobs in one statement, give or take one event's: a tenant may have hundreds of connections."""

EVENTS_WITH_DATA = 250
"""Events in one batch when filters need their data, which may be 256 KiB each."""

WATCH_SECONDS = 15.0
WATCH_SHARE = 0.02
"""Part of the time that counting the backlog may take of one connection."""


class Dispatcher:
    """A dispatcher process."""

    def __init__(self, settings: DispatcherSettings) -> None:
        self._settings = settings
        self._dsn = settings.connection_string()
        self._registry = CollectorRegistry()
        self._metrics = DispatcherMetrics(self._registry)
        self._work = Reconnecting(self._dsn, "dispatcher", self._metrics.database_up.set, queue=True)
        self._upkeep = Reconnecting(self._dsn, "dispatcher-upkeep")
        self._replays = Reconnecting(self._dsn, "dispatcher-replays", queue=True)
        self._woken = asyncio.Event()
        self._routing: RoutingTable | None = None
        self._busy = False
        self._asleep: bool | None = None
        self._window_began = 0.0
        self._window_events = 0
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until `stop` is set; a batch under way is finished."""
        self._stop = stop
        health = HealthServer(self._registry, lambda: None if self._routing else "no routing read yet")
        server = None
        if self._settings.health_port is not None:
            server = await health.start(self._settings.health_host, self._settings.health_port)
        listener = Listener(self._dsn, "dispatcher", lambda _: self._woken.set())
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(listener.run([CHANNEL, ROUTING_CHANNEL])),
                    group.create_task(Upkeep(self._upkeep, self._settings, self._metrics).run()),
                    group.create_task(self._watch()),
                    group.create_task(Replaying(self._replays, self._settings.dead_letters_kept()).run()),
                    group.create_task(self._wake_on_stop()),
                ]
                while not stop.is_set():
                    await self._work.keep_trying(self._dispatch)
                for task in background:
                    task.cancel()
        finally:
            for database in (self._work, self._upkeep, self._replays):
                await database.close()
            if server is not None:
                server.close()

    async def _dispatch(self, database: Database) -> None:
        cursor = await read_cursor(database)
        self._asleep = None
        while not self._stop.is_set():
            routing = self._routing or await self._read_routing(database)
            limit = min(self._settings.batch, EVENTS_WITH_DATA) if routing.reads_data else self._settings.batch
            batch = await read_batch(database, cursor, limit=limit, with_data=routing.reads_data)
            if batch is not None and batch.epoch != routing.epoch:
                self._routing = None
                continue
            if batch is None and cursor.upper is None:
                self._count(0)
                await self._rest(database)
                continue
            jobs: list[NewJob] = []
            failures: list[RoutingFailure] = []
            if batch is not None:
                routed, jobs, failures = routing.route(batch.events, JOBS_AT_ONCE)
                batch = batch if routed == len(batch.events) else batch.first(routed)
            after = cursor.window_closed() if batch is None else batch.next_cursor(cursor)
            if not await write_jobs(database, cursor, after, jobs, failures):
                self._metrics.batches.labels("lost").inc()
                if await read_epoch(database) == routing.epoch:
                    await asyncio.sleep(STANDBY_SECONDS)
                return  # or a connection ended, and the batch is routed anew
            cursor = after
            self._note(batch.events if batch else [], jobs, failures)
            if self._busy:
                if self._asleep is not False:
                    await set_asleep(database, asleep=False)
                    self._asleep = False
                if cursor.upper is None:
                    await asyncio.sleep(PACE_SECONDS)

    def _note(self, events: list[NewEvent], jobs: list[NewJob], failures: list[RoutingFailure]) -> None:
        self._count(len(events))
        self._metrics.batches.labels("written").inc()
        self._metrics.events.inc(len(events))
        self._metrics.jobs.inc(len(jobs))
        self._metrics.failures.inc(len(failures))
        for failure in failures:
            names = {"connection": failure.connection, "route": failure.route, "event": failure.event}
            log.warning("a filter failed; the job is a dead letter", extra={**names, "reason": failure.detail})

    async def _read_routing(self, database: Database) -> RoutingTable:
        epoch, rows = await read_routes(database)
        self._routing = RoutingTable(epoch, rows)
        self._metrics.epoch.set(epoch)
        return self._routing

    def _count(self, events: int) -> None:
        """Measure the rate of events; between the two limits the mode stays as it is."""
        now = time.monotonic()
        self._window_events += events
        elapsed = now - self._window_began
        if elapsed < RATE_WINDOW_SECONDS:
            return
        rate = self._window_events / elapsed
        self._window_began, self._window_events = now, 0
        if rate > BUSY_EVENTS_PER_SECOND:
            self._busy = True
        elif rate < CALM_EVENTS_PER_SECOND:
            self._busy = False

    async def _rest(self, database: Database) -> None:
        """Wait for the next events; if producers do not know that they should notify, tell them and look once more."""
        if self._busy:
            await asyncio.sleep(PACE_SECONDS)
        elif self._asleep is not True:
            await set_asleep(database, asleep=True)
            self._asleep = True
        else:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def _wake_on_stop(self) -> None:
        await self._stop.wait()
        self._woken.set()

    async def _watch(self) -> None:
        horizon = Horizon()
        while True:
            began = time.monotonic()
            self._metrics.backlog(await self._upkeep.keep_trying(read_backlog))
            self._metrics.budgets(await self._upkeep.keep_trying(read_budgets))
            seen = await self._upkeep.keep_trying(watch)
            age = horizon.age(time.monotonic(), seen.next_transaction, seen.oldest_transaction)
            self._metrics.watched(seen, age)
            took = time.monotonic() - began
            await asyncio.sleep(max(WATCH_SECONDS, took / WATCH_SHARE))
