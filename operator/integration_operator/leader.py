"""One term of office: from being elected to losing the Lease.

The watches run in every replica, so a new leader knows the world already. It records its term in the database, waits
until it has seen everything that exists, reconciles all of it (what is published already costs next to nothing), and
then what changes. Beside that it looks at the database, once a second, for what delivery has to say, and compares
everything with the API server once in a while.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Final
from uuid import UUID

from contracts.connection import DeletionPolicy
from contracts.ids import ConnectionUid
from integration_operator.children import replica_bounds
from integration_operator.companions import BUDGET, SCALED_OBJECT, TRIGGER_AUTHENTICATION, Companion
from integration_operator.credentials import CredentialReview
from integration_operator.databases import Databases
from integration_operator.errors import NotFoundError, OperatorError
from integration_operator.kube import Json, Kube, path_to
from integration_operator.metrics import OperatorMetrics
from integration_operator.names import (
    API_VERSION,
    CREDENTIALS_LABEL,
    HASH,
    MANAGED_BY_LABEL,
    OPERATOR,
    PLURAL,
    ObjectKey,
)
from integration_operator.observed import key_of
from integration_operator.pool_keeper import PoolKeeper
from integration_operator.publisher import Publisher
from integration_operator.reconciling import Reconciler
from integration_operator.scaling import wanted_workers
from integration_operator.settings import OperatorSettings, Scaling
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, Kind, World
from programs.reconnect import Reconnecting
from store.database import Database
from store.errors import StoreError
from store.leadership import Term, begin_term
from store.pools import PoolDemand, read_demand
from store.publication import connection_states, published_policies, quarantined

log = logging.getLogger(__name__)

_CONNECTIONS: Final = 4
_LOOK_SECONDS: Final = 1.0
_CATCH_UP_SECONDS: Final = 60.0
_MANY_NEW: Final = 50
_SECRETS_AT_ONCE: Final = 100
"""A page of them is in memory at once, and each may have a megabyte."""


class Leader:
    """Does a leader's work for one term."""

    def __init__(
        self,
        kube: Kube,
        world: World,
        queue: WorkQueue[Key],
        settings: OperatorSettings,
        metrics: OperatorMetrics,
        digest_key: bytes,
        term: Term,
    ) -> None:
        dsn = settings.connection_string()
        up = metrics.database_up.set
        self._kube = kube
        self._world = world
        self._queue = queue
        self._settings = settings
        self._metrics = metrics
        self._term = term
        self._random = Random()  # noqa: S311 -- jitter
        self._publishing = Reconnecting(dsn, "operator-publisher", up)
        self._database = Databases(dsn, "operator", up, size=_CONNECTIONS)
        self._looking = Reconnecting(dsn, "operator-looking", up, queue=True)
        self._publisher = Publisher(self._publishing, term)
        self._pools = PoolKeeper(kube, world, self._database, settings, term)
        review = CredentialReview(kube, world, digest_key)
        self._review = review
        self._reconciler = Reconciler(
            kube, world, queue, self._database, self._publisher, self._pools, review, metrics, term
        )
        self._busy_at: dict[ObjectKey, float] = {}

    async def lead(self) -> None:
        """Lead until cancelled; raise SupersededError if a newer leader has written."""
        self._metrics.leader.set(1)
        try:
            await self._database.keep_trying(lambda database: begin_term(database, self._term))
            await self._database.keep_trying(self._pools.begin)
            log.info("term begun", extra={"pools": len(self._pools.rows)})
            await self._resync(first=True)
            log.info("everything seen", extra={"connections": len(self._world.connections)})
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publisher.run())
                for _ in range(self._settings.reconcilers):
                    group.create_task(self._queue.work(self._reconciler.handle))
                group.create_task(self._look())
                group.create_task(self._resync_for_ever())
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
        found = await quarantined(database)
        former, self._reconciler.quarantined = self._reconciler.quarantined, found
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

    # Comparing with the API server -----------------------------------------------------------------------------------

    async def _resync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync.total_seconds() * self._random.uniform(0.9, 1.1))
            try:
                await self._resync(first=False)
            except (OperatorError, StoreError) as error:
                log.warning("cannot compare with the API server", extra={"reason": str(error)})

    async def _resync(self, *, first: bool) -> None:
        """Find what no watch told of; at first, reconcile everything there is."""
        existing = {key_of(item): item["metadata"] async for item in self._listed(API_VERSION, PLURAL)}
        if first:
            secrets = {key_of(i) async for i in self._listed("v1", "secrets", labels=f"{CREDENTIALS_LABEL}=true")}
            await self._catch_up(existing, secrets)
            await self._review_new()
        await self._look_for_keda()
        for companion in (BUDGET, SCALED_OBJECT, TRIGGER_AUTHENTICATION) if self._pools.keda else (BUDGET,):
            for pool in self._pools.note_companions(companion, await self._digests(companion)):
                self._queue.add(Key(Kind.POOL, pool), Lane.RESYNC)
        await self._compare(existing, first=first)
        await self._find_gone({ConnectionUid(UUID(metadata["uid"])) for metadata in existing.values()})
        for pool in self._world.known_pools():
            self._queue.add(Key(Kind.POOL, pool), Lane.RESYNC)
        for name in self._pools.rows:
            self._queue.add(Key(Kind.POOL, ObjectKey(*name.split("/", 1))), Lane.RESYNC)

    async def _look_for_keda(self) -> None:
        """Hand the number of workers to KEDA if that is wanted and possible."""
        if self._settings.scaling is not Scaling.KEDA:
            return
        try:
            await self._kube.get(f"/apis/{SCALED_OBJECT.api_version}")
            self._pools.keda = True
        except NotFoundError:
            self._pools.keda = False
            log.warning("KEDA is not installed; the operator sizes pools by itself until it is")

    async def _digests(self, companion: Companion) -> dict[ObjectKey, str]:
        ours = f"{MANAGED_BY_LABEL}={OPERATOR}"
        found = self._listed(companion.api_version, companion.plural, labels=ours)
        return {key_of(item): (item["metadata"].get("annotations") or {}).get(HASH, "") async for item in found}

    async def _compare(self, existing: dict[ObjectKey, Json], *, first: bool) -> None:
        for key, metadata in existing.items():
            known = self._world.connections.get(key)
            if known is None or str(known.uid) != metadata["uid"] or known.generation < metadata["generation"]:
                self._metrics.missed.inc()
                await self._read(key)
            if first:
                known = self._world.connections.get(key)
                fresh = known is None or known.status.get("observedGeneration") != known.generation
                self._queue.add(Key(Kind.CONNECTION, key), Lane.CHANGED if fresh else Lane.RESYNC)
        for key, known in list(self._world.connections.items()):
            if key not in existing and not await self._read(key):
                self._metrics.missed.inc()
                body = {
                    "metadata": {
                        "namespace": key.namespace,
                        "name": key.name,
                        "uid": str(known.uid),
                        "resourceVersion": known.resource_version,
                    }
                }
                self._queue.add_all(self._world.see_connection(body, deleted=True))

    async def _read(self, key: ObjectKey) -> bool:
        """Read a connection and take it in; say whether it exists."""
        try:
            body = await self._kube.get(path_to(API_VERSION, PLURAL, key.namespace, key.name))
        except NotFoundError:
            return False
        except OperatorError:
            return True  # as far as anybody can tell
        self._queue.add_all(self._world.see_connection(body))
        return True

    async def _find_gone(self, existing: set[ConnectionUid]) -> None:
        """End what the database still has of objects that are gone, where this operator looks after the namespace."""
        states = await self._database.once(connection_states)
        policies = await self._database.once(published_policies)
        for state in states:
            mine = not self._settings.namespaces or state.namespace in self._settings.namespaces
            if mine and state.uid not in existing and state.uid not in self._world.by_uid:
                self._world.removed.setdefault(state.uid, policies.get(state.uid, DeletionPolicy.DRAIN))
                self._queue.add(Key(Kind.REMOVAL, ObjectKey(state.namespace, str(state.uid))), Lane.RESYNC)

    async def _catch_up(self, connections: dict[ObjectKey, Json], secrets: set[ObjectKey]) -> None:
        """Wait until the watches have told of everything that exists, lest it is read one by one."""
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while time.monotonic() < deadline:
            seen_secrets = self._world.secrets.keys() | self._world.pool_secrets.keys()
            namespaces = set() if self._settings.namespaces else {key.namespace for key in connections}
            if (
                connections.keys() <= self._world.connections.keys()
                and secrets <= seen_secrets
                and namespaces <= self._world.namespaces.keys()
            ):
                return
            await asyncio.sleep(0.1)
        log.warning("the watches have not told of everything in time; going on with what is known")

    async def _review_new(self) -> None:
        """Where many connections are new, read their Secrets by the page instead of one by one."""
        new = sum("observedSecretHash" not in known.status for known in self._world.connections.values())
        if new >= _MANY_NEW:
            await self._review.review_new(self._pages_of_credentials())

    async def _pages_of_credentials(self) -> AsyncIterator[Sequence[Json]]:
        for namespace in self._settings.namespaces or (None,):
            path, labels = path_to("v1", "secrets", namespace), f"{CREDENTIALS_LABEL}=true"
            async for page in self._kube.pages(path, labels=labels, size=_SECRETS_AT_ONCE):
                yield page

    async def _listed(self, api_version: str, plural: str, *, labels: str = "") -> AsyncIterator[Json]:
        for namespace in self._settings.namespaces or (None,):
            async for item in self._kube.list(
                path_to(api_version, plural, namespace), labels=labels, metadata_only=True
            ):
                yield item
