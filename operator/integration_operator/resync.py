"""Comparing what is known with the API server and the database: at the beginning of a term, and now and then.

Watches can miss things: deletions in a gap, or everything, when something between them and the API server forgets a
connection. Whatever they missed is found here, by the next comparison at the latest, and the watches begin again.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Final
from uuid import UUID

from contracts.connection import DeletionPolicy
from contracts.ids import ConnectionUid, ReplayUid
from integration_operator.companions import BUDGET, SCALED_OBJECT, TRIGGER_AUTHENTICATION, Companion
from integration_operator.credentials import CredentialReview
from integration_operator.databases import Databases
from integration_operator.definition import is_ours
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
    REPLAY_PLURAL,
    ObjectKey,
)
from integration_operator.observed import key_of
from integration_operator.pool_keeper import PoolKeeper
from integration_operator.replay_resync import ReplayResync
from integration_operator.settings import OperatorSettings, Scaling
from integration_operator.watching import Watches
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, Kind, World
from store.errors import StoreError
from store.publication import connection_states, published_policies

log = logging.getLogger(__name__)

_CATCH_UP_SECONDS: Final = 60.0
_LATE_SECONDS: Final = 5.0
_MANY_NEW: Final = 50
_SECRETS_AT_ONCE: Final = 100
"""A page of them is in memory at once, and each may have a megabyte."""


class Resync:
    """Compares for one leader's term."""

    def __init__(
        self,
        kube: Kube,
        watches: Watches,
        world: World,
        queue: WorkQueue[Key],
        settings: OperatorSettings,
        metrics: OperatorMetrics,
        database: Databases,
        pools: PoolKeeper,
        review: CredentialReview,
    ) -> None:
        self._kube = kube
        self._watches = watches
        self._world = world
        self._queue = queue
        self._settings = settings
        self._metrics = metrics
        self._database = database
        self._pools = pools
        self._review = review
        self._replays = ReplayResync(kube, world, queue, database, settings.namespaces)
        self._random = Random()  # noqa: S311 -- jitter

    async def run(self) -> None:
        """Compare now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.resync.total_seconds() * self._random.uniform(0.9, 1.1))
            began = time.monotonic()
            try:
                await self._doubt_watches(await self.compare(first=False), began)
            except (OperatorError, StoreError) as error:
                log.warning("cannot compare with the API server", extra={"reason": str(error)})

    async def compare(self, *, first: bool) -> list[str]:
        """Find what no watch told of, and return of which resources; at first, have all there is reconciled."""
        existing = {key_of(item): item["metadata"] async for item in self._listed(API_VERSION, PLURAL)}
        listed = self._listed(API_VERSION, REPLAY_PLURAL)
        replays = {ReplayUid(UUID(item["metadata"]["uid"])): item async for item in listed}
        if first:
            secrets = {key_of(i) async for i in self._listed("v1", "secrets", labels=f"{CREDENTIALS_LABEL}=true")}
            await self._catch_up(existing, secrets, replays)
            await self._review_new()
        await self._look_at_definition()
        await self._look_for_keda()
        for companion in (BUDGET, SCALED_OBJECT, TRIGGER_AUTHENTICATION) if self._pools.keda else (BUDGET,):
            for pool in self._pools.note_companions(companion, await self._digests(companion)):
                self._queue.add(Key(Kind.POOL, pool), Lane.RESYNC)
        missed = {
            PLURAL: await self._compare_connections(existing, first=first),
            REPLAY_PLURAL: await self._replays.compare(replays, first=first),
        }
        self._metrics.missed.inc(sum(missed.values()))
        await self._find_gone({ConnectionUid(UUID(metadata["uid"])) for metadata in existing.values()})
        for pool in self._world.known_pools():
            self._queue.add(Key(Kind.POOL, pool), Lane.RESYNC)
        for name in self._pools.rows:
            self._queue.add(Key(Kind.POOL, ObjectKey(*name.split("/", 1))), Lane.RESYNC)
        return [plural for plural, number in missed.items() if number]

    async def _doubt_watches(self, missed: Sequence[str], asked_at: float) -> None:
        """Have the watches begin again unless those that missed something prove soon that they were only late."""
        if not missed:
            return
        await asyncio.sleep(_LATE_SECONDS)
        if any(self._watches.last_told(plural) < asked_at for plural in missed):
            log.warning("a watch did not tell of changes; the watches begin again")
            self._watches.begin_again()

    async def _look_at_definition(self) -> None:
        """Tell of a definition that is not ours; that it cannot be looked at stops nobody."""
        try:
            ours = await is_ours(self._kube)
        except OperatorError as error:
            log.warning("cannot look at the definition that is served", extra={"reason": str(error)})
            return
        self._metrics.definition_outdated.set(not ours)
        if not ours:
            log.warning("the definitions that are served are not those of this release; apply crds/ of it")

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

    async def _compare_connections(self, existing: dict[ObjectKey, Json], *, first: bool) -> int:
        """Take in what exists and no watch told of, and the other way round; return how much that was."""
        missed = 0
        for key, metadata in existing.items():
            known = self._world.connections.get(key)
            if known is None or str(known.uid) != metadata["uid"] or known.generation < metadata["generation"]:
                missed += 1
                await self._read(key)
        for key, known in list(self._world.connections.items()):
            if first:
                fresh = known.status.get("observedGeneration") != known.generation
                self._queue.add(Key(Kind.CONNECTION, key), Lane.CHANGED if fresh else Lane.RESYNC)
            if key not in existing and not await self._read(key):
                missed += 1
                body = {
                    "metadata": {
                        "namespace": key.namespace,
                        "name": key.name,
                        "uid": str(known.uid),
                        "resourceVersion": known.resource_version,
                    }
                }
                self._queue.add_all(self._world.see_connection(body, deleted=True))
        return missed

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

    async def _catch_up(
        self, connections: dict[ObjectKey, Json], secrets: set[ObjectKey], replays: dict[ReplayUid, Json]
    ) -> None:
        """Wait until the watches have told of everything that exists, lest it is read one by one."""
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        while time.monotonic() < deadline:
            seen_secrets = self._world.secrets.keys() | self._world.pool_secrets.keys()
            places = {*connections, *map(key_of, replays.values())}
            namespaces = set() if self._settings.namespaces else {key.namespace for key in places}
            if (
                connections.keys() <= self._world.connections.keys()
                and replays.keys() <= self._world.replays.keys()
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
