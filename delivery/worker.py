"""The delivery worker of one pool: claims by owning lanes, sends, settles, and drains when told to stop.

A worker lives in sessions. Losing the lease (a hang longer than the lease, a partition from the database) ends a
session: everything in memory is dropped, requests under way are abandoned, and a new session begins with nothing.
A database that is away ends nothing: results wait, and sending stops by itself when the lease can no longer be sure.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol

from prometheus_client import CollectorRegistry

from connectors.connector import ConnectorFactory
from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp
from connectors.registry import open_connector
from delivery.clock import DatabaseClock
from delivery.connecting import Connecting
from delivery.consequences import Consequences
from delivery.credentials import MountedSecrets
from delivery.desk import Desk
from delivery.drawing import Drawing
from delivery.intake import Intake
from delivery.keeping import Keeping
from delivery.memory import Memory
from delivery.metrics import WorkerMetrics
from delivery.opening import Opening
from delivery.sending import Sending
from delivery.settings import WorkerSettings
from delivery.settling import Settling
from programs.health import HealthServer
from programs.key_ring import read_key_file
from programs.reconnect import Reconnecting
from store.database import Database, Listener
from store.dispatch import pool_channel
from store.errors import DatabaseUnreachableError, LeaseLostError, StoreError
from store.lanes import find_pool, open_session
from store.publication import CHANNEL as ROUTING_CHANNEL
from store.scopes import CHANNEL as PERMITS_CHANNEL

log = logging.getLogger(__name__)


class SetReady(Protocol):
    """Tells the health server whether this worker is ready."""

    def __call__(self, *, ready: bool) -> None:
        """Set it."""


class NoPoolError(StoreError):
    """The database role of this worker belongs to no pool."""


class Worker:
    """A worker process."""

    def __init__(self, settings: WorkerSettings, factory: ConnectorFactory = open_connector) -> None:
        self._settings = settings
        self._factory = factory
        self._registry = CollectorRegistry()
        self._metrics = WorkerMetrics(self._registry)
        self._ready = False

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set, then drain; raise NoPoolError or NotMigratedError if it cannot begin."""
        settings = self._settings
        health = HealthServer(self._registry, lambda: None if self._ready else "no session yet")
        server = None
        if settings.health_port is not None:
            server = await health.start(settings.health_host, settings.health_port)
        secrets = MountedSecrets(settings.secrets_directory)
        policy = EgressPolicy(settings.egress_allow, setting="INTEGRATIONS_EGRESS_ALLOW")
        async with GuardedHttp(policy, idle_connections=settings.senders) as http:
            database = Reconnecting(settings.connection_string(), "worker-memory", queue=True)
            clock, memory = DatabaseClock(), Memory(database)
            keys = partial(read_key_file, settings.oauth_keys_file)
            opening = Opening(self._factory, http, secrets, memory, keys, clock.now)
            connecting = partial(Connecting, memory=memory, keys=keys)
            try:
                while not stop.is_set():
                    await self._session(_Session(settings, self._metrics, secrets, opening, connecting, clock), stop)
            finally:
                await opening.closed()
                await database.close()
        if server is not None:
            server.close()

    async def _session(self, session: "_Session", stop: asyncio.Event) -> None:
        try:
            await session.run(stop, self._set_ready)
        except* LeaseLostError as lost:
            log.warning("session lost", extra={"reason": str(lost.exceptions[0])})
        self._set_ready(ready=False)

    def _set_ready(self, *, ready: bool) -> None:
        self._ready = ready


class _Session:
    """From opening a session row to its loss or to the end of the drain."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        secrets: MountedSecrets,
        opening: Opening,
        connecting: Callable[[Desk], Connecting],
        clock: DatabaseClock,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._secrets = secrets
        self._opening = opening
        self._connecting = connecting
        self._clock = clock
        self._dsn = settings.connection_string()
        up = metrics.database_up.set
        self._reading = Reconnecting(self._dsn, "worker-intake", up, queue=True)
        self._writing = Reconnecting(self._dsn, "worker-settling", up, queue=True)
        self._drawing = Reconnecting(self._dsn, "worker-permits", up, queue=True)
        self._leasing = Reconnecting(self._dsn, "worker-lease", up)

    async def run(self, stop: asyncio.Event, set_ready: SetReady) -> None:
        """Work until `stop`; raise LeaseLostError in a group."""
        desk: Desk | None = None
        try:
            desk = await self._opened(stop)
            if desk is not None:
                self._metrics.sessions.inc()
                await self._work(desk, stop, set_ready)
        finally:
            if desk is not None:
                desk.close()
            for database in (self._reading, self._writing, self._drawing, self._leasing):
                await database.close()

    async def _opened(self, stop: asyncio.Event) -> Desk | None:
        """Open a session as soon as the database answers; None if told to stop before."""
        opening = asyncio.create_task(self._leasing.keep_trying(self._open))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
            return opening.result() if opening.done() else None
        finally:
            opening.cancel()
            stopping.cancel()
            await asyncio.gather(opening, stopping, return_exceptions=True)

    async def _open(self, database: Database) -> Desk:
        pool = await find_pool(database)
        if pool is None:
            raise NoPoolError("this database role belongs to no pool; the operator creates pools and their roles")
        pool_id, name = pool
        asked = time.monotonic()
        session = await open_session(database, pool_id, self._settings.worker_name, self._settings.lease)
        log.info("session opened", extra={"pool": name, "session": session})
        desk = Desk(pool_id, session, self._clock)
        desk.lease_until = asked
        return desk

    async def _work(self, desk: Desk, stop: asyncio.Event, set_ready: SetReady) -> None:
        settling = Settling(desk, self._writing, self._metrics)
        consequences = Consequences(desk, settling, self._metrics, Random())  # noqa: S311 -- jitter
        sending = Sending(desk, settling, self._reading, consequences, self._settings.senders)
        intake = Intake(desk, self._reading, self._metrics)
        keeping = Keeping(desk, self._leasing, self._settings, self._opening, self._metrics)
        listener = Listener(self._dsn, "worker", lambda channel: _wake(channel, desk, keeping))
        await intake.start()
        async with asyncio.TaskGroup() as group:
            senders = group.create_task(sending.run())
            tasks = [
                group.create_task(intake.run()),
                group.create_task(keeping.run()),
                group.create_task(desk.lag.run()),
                group.create_task(Drawing(desk, self._drawing).run()),
                group.create_task(self._connecting(desk).run()),
                group.create_task(listener.run([pool_channel(desk.pool), ROUTING_CHANNEL, PERMITS_CHANNEL])),
                group.create_task(self._secrets.watch(keeping.secrets_changed)),
            ]
            settler = group.create_task(settling.run())
            set_ready(ready=True)
            await stop.wait()
            set_ready(ready=False)
            log.info("draining", extra={"under_way": sending.busy})
            desk.draining = True
            await self._drain(sending, settling)
            for task in (senders, settler, *tasks):
                task.cancel()
        try:
            await keeping.give_back()
            log.info("drained and gave its connections back")
        except (DatabaseUnreachableError, LeaseLostError) as error:
            log.warning("could not give its connections back; the lease will", extra={"reason": str(error)})

    async def _drain(self, sending: Sending, settling: Settling) -> None:
        """Wait for requests under way and their results; what is not done in time is sent again by the next owner."""
        try:
            async with asyncio.timeout(self._settings.drain.total_seconds()):
                await sending.idle()
                await settling.drained()
        except TimeoutError:
            log.warning("drain took too long", extra={"under_way": sending.busy})


def _wake(channel: str, desk: Desk, keeping: Keeping) -> None:
    if channel == ROUTING_CHANNEL:
        keeping.nudge()
    elif channel == PERMITS_CHANNEL:
        desk.place_free()
    else:
        desk.tail_grew = True
        desk.jobs_wanted.set()
