"""The operator program: watches always, leads when elected, answers for its health.

Any number of replicas may run; all watch, one leads. Whatever ends, ends in an order that loses nothing: leading stops,
the Lease is given back, then the watches.
"""

import asyncio
import hashlib
import logging
import time
from random import Random
from typing import Final

from prometheus_client import CollectorRegistry

from integration_operator.definition import wait_until_served
from integration_operator.election import Elector
from integration_operator.errors import asked_delay
from integration_operator.kube import Json, Kube, load_configuration
from integration_operator.leader import Leader
from integration_operator.metrics import OperatorMetrics
from integration_operator.names import ObjectKey
from integration_operator.settings import OperatorSettings
from integration_operator.watching import Watches
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, World
from programs.health import HealthServer
from store.errors import SupersededError
from store.leadership import Term

log = logging.getLogger(__name__)

BLIND_SECONDS: Final = 120.0
"""After so long without any news the watches count as broken: the leader's Lease changes every two seconds.

An operator that looks after some namespaces only has no right to watch the Lease, so its silence proves nothing; there
the resync alone finds what the watches do not tell, and has them begin again."""


class Operator:
    """An operator process."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._metrics = OperatorMetrics(self._registry)
        self._digest_key = _digest_key(settings)
        self._world = World(self._digest_key, sees_namespaces=not settings.namespaces)
        self._queue: WorkQueue[Key] = WorkQueue(Random(), SupersededError, asked_delay)  # noqa: S311 -- jitter
        self._leader: Leader | None = None
        self._watching = False
        self._started = time.monotonic()
        self._told_at: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; raise OperatorError if there is no way to the API server."""
        settings = self._settings
        health = HealthServer(self._registry, self._not_ready, self._not_alive)
        server = None
        if settings.health_port is not None:
            server = await health.start(settings.health_host, settings.health_port)
        configuration = await load_configuration()
        kube = Kube(configuration, self._metrics)
        try:
            await wait_until_served(kube, stop)
            self._watching = not stop.is_set()
            watches = Watches(settings, configuration, self._see)
            watching = asyncio.create_task(watches.run())
            elector = Elector(kube, ObjectKey(settings.lease_namespace, settings.lease_name), settings.identity)
            await elector.run(lambda term: self._lead(kube, watches, term), stop)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        finally:
            await kube.close()
            if server is not None:
                server.close()

    async def _lead(self, kube: Kube, watches: Watches, term: Term) -> None:
        self._leader = Leader(
            kube, watches, self._world, self._queue, self._settings, self._metrics, self._digest_key, term
        )
        try:
            await self._leader.lead()
        finally:
            self._leader = None

    def _see(self, resource: str, body: Json, deleted: bool) -> None:
        """Take in what a watch tells."""
        self._told_at = time.monotonic()
        self._metrics.event_came()
        match resource:
            case "integrationconnections":
                concerned = self._world.see_connection(body, deleted=deleted)
            case "integrationreplays":
                concerned = self._world.see_replay(body, deleted=deleted)
            case "secrets":
                concerned = self._world.see_secret(body, deleted=deleted)
            case "deployments":
                concerned = self._world.see_pool(body, deleted=deleted)
            case "namespaces":
                concerned = self._world.see_namespace(body, deleted=deleted)
            case _:
                return
        leader = self._leader
        # What a new leader is told of first is what exists; which of it is new, its own look at everything finds out.
        lane = Lane.CHANGED if leader is not None and leader.has_seen_everything else Lane.RESYNC
        for key in concerned:
            if leader is not None:
                self._queue.add(key, lane)

    def _not_ready(self) -> str | None:
        return None if self._watching else "waiting for the custom resource definitions"

    def _not_alive(self) -> str | None:
        if self._settings.namespaces:
            return None
        silent = time.monotonic() - (self._told_at or self._started)
        return f"the watches are silent for {silent:.0f} s" if silent > BLIND_SECONDS else None


def _digest_key(settings: OperatorSettings) -> bytes:
    """Derive the key of all credentials' digests from the one secret that only operators of this layer know.

    So nobody who reads a status can check a guess against it. Another connection string gives other digests; every
    connection's credentials are then checked and recorded once more, and nothing else happens.
    """
    return hashlib.sha256(b"digests of credentials\n" + settings.connection_string()().encode()).digest()
