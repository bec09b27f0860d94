"""One term of office: from being elected to losing the Lease.

The watches run in every replica, so a new leader knows the world already. It records its term in the database, waits
until it has seen everything that exists, reconciles all of it (what is published already costs next to nothing), and
then what changes. Beside that it looks at the database, once a second, for what delivery has to say, and compares
everything with the API server once in a while.
"""

import asyncio
import logging
import time
from typing import Final

from integration_operator.children import replica_bounds
from integration_operator.credentials import CredentialReview
from integration_operator.databases import Databases
from integration_operator.endpoint_checks import EndpointChecks
from integration_operator.errors import OperatorError
from integration_operator.kube import Kube
from integration_operator.metrics import OperatorMetrics
from integration_operator.names import ObjectKey
from integration_operator.pool_keeper import PoolKeeper
from integration_operator.publisher import Publisher
from integration_operator.reconciling import Reconciler
from integration_operator.resync import Resync
from integration_operator.scaling import wanted_workers
from integration_operator.settings import OperatorSettings
from integration_operator.watching import Watches
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, Kind, World
from programs.reconnect import Reconnecting
from store.database import Database
from store.errors import StoreError
from store.leadership import Term, begin_term
from store.pools import PoolDemand, read_demand
from store.standing import read_standings

log = logging.getLogger(__name__)

_CONNECTIONS: Final = 4
_LOOK_SECONDS: Final = 1.0


class Leader:
    """Does a leader's work for one term."""

    def __init__(
        self,
        kube: Kube,
        watches: Watches,
        world: World,
        queue: WorkQueue[Key],
        settings: OperatorSettings,
        metrics: OperatorMetrics,
        digest_key: bytes,
        term: Term,
    ) -> None:
        dsn = settings.connection_string()
        up = metrics.database_up.set
        self._world = world
        self._queue = queue
        self._settings = settings
        self._metrics = metrics
        self._term = term
        self._publishing = Reconnecting(dsn, "operator-publisher", up)
        self._database = Databases(dsn, "operator", up, size=_CONNECTIONS)
        self._looking = Reconnecting(dsn, "operator-looking", up, queue=True)
        self._publisher = Publisher(self._publishing, term)
        self._pools = PoolKeeper(kube, world, self._database, settings, term)
        review = CredentialReview(kube, world, digest_key)
        self._resync = Resync(kube, watches, world, queue, settings, metrics, self._database, self._pools, review)
        self._checks = EndpointChecks(kube, world, queue, settings)
        self._reconciler = Reconciler(
            kube, world, queue, self._database, self._publisher, self._pools, review, self._checks, metrics, term
        )
        self._busy_at: dict[ObjectKey, float] = {}
        self.has_seen_everything = False

    async def lead(self) -> None:
        """Lead until cancelled; raise SupersededError if a newer leader has written."""
        self._metrics.leader.set(1)
        try:
            await self._database.keep_trying(lambda database: begin_term(database, self._term))
            await self._database.keep_trying(self._pools.begin)
            log.info("term begun", extra={"pools": len(self._pools.rows)})
            await self._resync.compare(first=True)
            self.has_seen_everything = True
            log.info("everything seen", extra={"connections": len(self._world.connections)})
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publisher.run())
                for _ in range(self._settings.reconcilers):
                    group.create_task(self._queue.work(self._reconciler.handle))
                group.create_task(self._look())
                group.create_task(self._resync.run())
                group.create_task(self._checks.run())
        finally:
            self._metrics.leader.set(0)
            self._metrics.forget()
            self._queue.clear()
            for database in (self._publishing, self._database, self._looking):
                await database.close()

    # What delivery says ----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        away = False
        while True:
            try:
                await self._looking.once(self._look_once)
                if away:
                    self._queue.hurry()
                away = False
            except StoreError as error:
                away = True
                log.warning("cannot look at the database", extra={"reason": str(error)})
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look_once(self, database: Database) -> None:
        found = await read_standings(database)
        former, self._reconciler.standings = self._reconciler.standings, found
        for uid in found.keys() | former.keys():
            if found.get(uid) != former.get(uid) and uid in self._world.by_uid:
                self._queue.add(Key(Kind.CONNECTION, self._world.by_uid[uid]))
        demands = {demand.pool: demand for demand in await read_demand(database)}
        await self._scale(demands)
        self._metrics.queued.labels("changed").set(self._queue.depth(Lane.CHANGED))
        self._metrics.queued.labels("resync").set(self._queue.depth(Lane.RESYNC))

    async def _scale(self, demands: dict[str, PoolDemand]) -> None:
        now = time.monotonic()
        self._metrics.oldest_job.clear()
        self._metrics.wanted_workers.clear()
        for pool, observed in list(self._world.pools.items()):
            demand = demands.get(str(pool))
            age = demand.oldest_age_seconds if demand else 0.0
            self._metrics.oldest_job.labels(pool.namespace, pool.name).set(age)
            if self._pools.keda or not observed.replicas_are_ours:
                continue
            wanted = wanted_workers(demand, *replica_bounds(self._world.members(pool)))
            self._metrics.wanted_workers.labels(pool.namespace, pool.name).set(wanted)
            if wanted >= observed.replicas:
                self._busy_at[pool] = now
            if wanted > observed.replicas or (wanted < observed.replicas and self._is_quiet(pool, now)):
                try:
                    await self._pools.scale(pool, wanted)
                except OperatorError as error:
                    log.warning("cannot set the number of workers", extra={"pool": str(pool), "reason": str(error)})

    def _is_quiet(self, pool: ObjectKey, now: float) -> bool:
        """Whether the pool has needed no more than fewer workers for a while."""
        return now - self._busy_at.setdefault(pool, now) >= self._settings.quiet.total_seconds()
