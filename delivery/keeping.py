"""Keeping: the lease, the share of lanes, and the published configuration of one worker session.

Lanes divide evenly over the sessions of a pool. A session with too few takes free ones; one with too many stops
starting jobs on the surplus and gives each back once nothing of it is under way. So a lane is never in two hands.
"""

import asyncio
import logging
import time

from contracts.connection import secret_references
from contracts.errors import InvalidSpecError
from contracts.ids import ConnectionId
from delivery.credentials import Changes
from delivery.desk import Desk
from delivery.health import Actor
from delivery.lane import Lane
from delivery.metrics import WorkerMetrics
from delivery.opening import Opening
from delivery.settings import WorkerSettings
from programs.reconnect import Reconnecting
from store import lanes as store
from store.database import Database
from store.dispatch import read_epoch

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LEASE_MARGIN = 0.8
"""Part of the lease during which a worker sends; the rest is for a request that began at its end, and for pauses."""


class Keeping:
    """Lease and lanes of one session."""

    def __init__(
        self,
        desk: Desk,
        database: Reconnecting,
        settings: WorkerSettings,
        opening: Opening,
        metrics: WorkerMetrics,
    ) -> None:
        self._desk = desk
        self._database = database
        self._settings = settings
        self._opening = opening
        self._metrics = metrics
        self._epoch = -1
        self._unreadable: set[ConnectionId] = set()
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Look at once whether the configuration changed."""
        self._nudged.set()

    async def run(self) -> None:
        """Keep until cancelled; raise LeaseLostError."""
        while True:
            await self._database.keep_trying(self._tick)
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._nudged.wait()
            except TimeoutError:
                pass
            self._nudged.clear()

    async def give_back(self) -> None:
        """Give all lanes back, with their tokens, and end the session."""
        await self._database.once(self._give_back)

    def secrets_changed(self, changes: Changes) -> None:
        """Have connectors use changed Secrets, and probe quarantined lanes that refer to them."""
        now = time.monotonic()
        for lane in self._desk.lanes.values():
            used = {reference.name for reference in secret_references(lane.connection.spec)}
            secrets = changes.get(lane.connection.namespace, {})
            changed = {secret: former for secret, former in secrets.items() if secret in used}
            if not changed:
                continue
            for problem in self._opening.renew_credentials(lane.connection, lane.connector, changed):
                name = f"{lane.connection.namespace}/{lane.connection.name}"
                detail = {"connection": name, "reason": problem}
                log.warning("a changed credential cannot be used; the former one stays in use", extra=detail)
            if lane.health.quarantine_reason is not None:
                lane.health.ask_probe(now, Actor.CREDENTIAL)
                self._desk.set_alarm(lane, now)
        self._count()

    async def _tick(self, database: Database) -> None:
        await self._renew(database)
        await store.reap_sessions(database, self._desk.pool)
        epoch = await read_epoch(database)
        if epoch != self._epoch:
            await self._refresh(database)
            self._epoch = epoch
        await self._share(database)
        self._desk.review_all()
        self._count()

    async def _renew(self, database: Database) -> None:
        asked = time.monotonic()
        database_seconds = await store.heartbeat(database, self._desk.session, self._settings.lease)
        self._desk.clock.set(database_seconds, asked, time.monotonic())
        self._desk.lease_until = asked + self._settings.lease.total_seconds() * LEASE_MARGIN
        self._desk.start_jobs()

    async def _refresh(self, database: Database) -> None:
        """Take over what was published since: changed specs, and lanes that somebody else has written."""
        changed: list[ConnectionId] = []
        self._desk.ask_again()
        versions = await store.lane_versions(database, self._desk.session)
        owned = {connection for connection, _, _ in versions}
        for gone in self._desk.lanes.keys() - owned:
            self._forget(self._desk.lanes[gone])  # its connection ended for good
        for connection, generation, revision in versions:
            lane = self._desk.lanes.get(connection)
            if lane is not None and (lane.generation != generation or lane.revision != revision):
                changed.append(connection)
        if changed:
            self._desk.route_names = await store.read_route_names(database, self._desk.session)
            for row in await store.read_lanes(database, self._desk.session, changed):
                await self._reconfigure(self._desk.lanes[row.connection], row)

    async def _reconfigure(self, lane: Lane, row: store.LaneRow) -> None:
        now = time.monotonic()
        if lane.generation != row.generation:
            former = lane.connector
            lane.reconfigure(*self._opening.open(row), row.generation, now)
            self._opening.close(former)
        if lane.revision != row.revision:
            # Intake loads it, between its own reads: what it reads for a lane belongs to what the lane knew before.
            lane.reload_wanted = True
        self._desk.review(lane, now)

    async def _share(self, database: Database) -> None:
        desk = self._desk
        share = await store.count_share(database, desk.pool, desk.session)
        if share.owned != len(desk.lanes) + len(self._unreadable):
            await self._reconcile(database)
        if share.owned < share.fair:
            taken = await store.acquire_lanes(database, desk.pool, desk.session, limit=share.fair - share.owned)
            await self._take(database, taken)
        now = time.monotonic()
        for number, lane in enumerate(desk.lanes.values()):
            if lane.releasing != (number >= share.fair):
                lane.releasing = number >= share.fair
                desk.review(lane, now)
        await self._release(
            database, [lane for lane in desk.lanes.values() if lane.releasing and lane.can_change_hands]
        )

    async def _reconcile(self, database: Database) -> None:
        """Take what the database says is ours: the answer to an acquisition or a release may have been lost."""
        owned = {row[0] for row in await store.lane_versions(database, self._desk.session)}
        self._unreadable &= owned
        await self._take(database, [lane for lane in owned if lane not in self._desk.lanes])
        for lane in [lane for lane in self._desk.lanes.values() if lane.id not in owned]:
            self._forget(lane)

    async def _take(self, database: Database, taken: list[ConnectionId]) -> None:
        if not taken:
            return
        self._desk.route_names = await store.read_route_names(database, self._desk.session)
        rows = await store.read_lanes(database, self._desk.session, taken)
        await store.take_tokens(database, self._desk.session, taken)
        now = time.monotonic()
        for row in rows:
            try:
                lane = Lane(*self._opening.open(row), row, now)
            except InvalidSpecError:
                if row.connection not in self._unreadable:
                    self._unreadable.add(row.connection)
                    name = f"{row.namespace}/{row.name}"
                    log.exception("this release cannot read the spec", extra={"connection": name})
            else:
                self._desk.add(lane, now)

    async def _release(self, database: Database, lanes: list[Lane]) -> None:
        """Give lanes back. They are forgotten first: should the answer be lost, another may own them already."""
        now = time.monotonic()
        tokens = [(lane.id, lane.pace.bucket.available(now)) for lane in lanes]
        for lane in lanes:
            self._forget(lane)
        await store.release_lanes(database, self._desk.session, tokens)

    def _forget(self, lane: Lane) -> None:
        lane.releasing = True
        self._desk.remove(lane)
        self._opening.close(lane.connector)

    async def _give_back(self, database: Database) -> None:
        await self._release(database, list(self._desk.lanes.values()))
        await store.close_session(database, self._desk.session)

    def _count(self) -> None:
        states: dict[str, int] = {"Open": 0, "Quarantined": 0, "Suspended": 0}
        for lane in self._desk.lanes.values():
            states["Suspended" if lane.suspended else lane.health.state.value] += 1
        for state, count in states.items():
            self._metrics.lanes.labels(state).set(count)
        outdated = sum(self._opening.is_outdated(lane.connection) for lane in self._desk.lanes.values())
        self._metrics.credentials_rejected.set(outdated)
        self._metrics.loop_lag.set(self._desk.lag.seconds)
        self._metrics.under_way.set(sum(lane.under_way for lane in self._desk.lanes.values()))
