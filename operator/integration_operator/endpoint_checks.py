"""Tests of partners' endpoints that people ask for by an annotation, a few at once, beside all reconciling.

The operator itself calls nobody: it may have no way out, and it holds what no partner should come near. Each request
gets a pod beside the workers, which sends the test from where deliveries come from. The pod is named after connection
and request, and never restarted, so a request sends one test event. What a kill leaves behind:

- before the pod is made: the request, which the next leader finds unanswered;
- before the status is written: the pod, which the next leader finds by its name, and reads;
- after it: the pod, which the next leader deletes when its term begins.

A leader that was frozen for so long that another has answered and deleted the pod makes it once more. That is the one
way in which a request is carried out twice.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from contracts.ids import ConnectionUid
from contracts.status import EndpointCheck
from integration_operator.check_pods import check_pod, failed_check, hindrance, pod_name, read_pod
from integration_operator.conclusion import EndedCheck
from integration_operator.errors import (
    ApiServerUnreachableError,
    ConflictError,
    KubernetesError,
    NotFoundError,
    OperatorError,
    OverloadedError,
)
from integration_operator.kube import Json, Kube, path_to
from integration_operator.names import CHECK_LABEL, TEST_AT, ObjectKey
from integration_operator.observed import ConnectionObject
from integration_operator.settings import OperatorSettings
from integration_operator.work_queue import WorkQueue
from integration_operator.world import Key, Kind, World

log = logging.getLogger(__name__)

AT_ONCE: Final = 4
LOOK_SECONDS: Final = 1.0
LONGEST: Final = 120.0
"""Seconds for all of it: a node has to be found and the image to be there; the test itself is bounded by the spec."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that is to be answered."""

    connection: ConnectionObject
    request: str
    pool: ObjectKey


class EndpointChecks:
    """Carries requests out for one leader's term."""

    def __init__(self, kube: Kube, world: World, queue: WorkQueue[Key], settings: OperatorSettings) -> None:
        self._kube = kube
        self._world = world
        self._queue = queue
        self._settings = settings
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue()
        self._under_way: set[ConnectionUid] = set()
        self._ended: dict[ConnectionUid, EndedCheck] = {}

    def ended(self, connection: ConnectionUid) -> EndedCheck | None:
        """Return the check that has ended and is not in the status yet."""
        return self._ended.get(connection)

    def consider(self, connection: ConnectionObject, pool: ObjectKey, answered: EndedCheck | None) -> None:
        """Take a connection's request, unless it was `answered` just now or before, or one is under way."""
        handled = answered.request if answered else connection.status.get("lastHandledTestAt")
        if connection.test_at in (None, handled) or connection.uid in self._under_way | self._ended.keys():
            return
        assert connection.test_at is not None  # noqa: S101 -- for the type checker
        self._under_way.add(connection.uid)
        self._waiting.put_nowait(_Asked(connection, connection.test_at, pool))

    async def told(self, connection: ConnectionObject) -> None:
        """Take note that the status tells of the check that has ended, and delete its pod."""
        ended = self._ended.get(connection.uid)
        if ended is not None:
            await self._kube.delete(_path(connection.key.namespace, pod_name(connection.uid, ended.request)))
            del self._ended[connection.uid]

    def forget(self, connection: ConnectionUid) -> None:
        """Forget a connection that is gone; its pod goes with it."""
        self._ended.pop(connection, None)

    async def run(self) -> None:
        """Carry requests out until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._clear_up())
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            asked = await self._waiting.get()
            connection = asked.connection
            try:
                result = await self._check(asked)
            except Exception:  # a defect must not end the term; whoever asked is told
                log.exception("a test of an endpoint failed by a defect", extra={"connection": str(connection.key)})
                result = failed_check("the test failed by a defect; see the operator's log", datetime.now(UTC))
            self._under_way.discard(connection.uid)
            self._ended[connection.uid] = EndedCheck(asked.request, result)
            self._queue.add(Key(Kind.CONNECTION, connection.key))

    async def _check(self, asked: _Asked) -> EndpointCheck:
        body = check_pod(asked.connection, asked.request, asked.pool, self._settings)
        path = _path(asked.pool.namespace, body["metadata"]["name"])
        pod: Json = {}
        try:
            async with asyncio.timeout(LONGEST):
                await self._make(body)
                while True:
                    pod = await self._read(path) or pod
                    result = read_pod(pod, datetime.now(UTC))
                    if result is not None:
                        return result
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            return failed_check(f"no result within {LONGEST:.0f} s: {hindrance(pod)}", datetime.now(UTC))
        except NotFoundError:
            return failed_check("somebody deleted the test's pod before it had ended", datetime.now(UTC))
        except KubernetesError as error:
            return failed_check(f"the test's pod cannot be made: {error}", datetime.now(UTC))

    async def _make(self, body: Json) -> None:
        """Make the pod if it is not there yet, as soon as the API server answers."""
        while True:
            try:
                await self._kube.create(path_to("v1", "pods", body["metadata"]["namespace"]), body)
            except ConflictError:
                return
            except (ApiServerUnreachableError, OverloadedError):
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return

    async def _read(self, path: str) -> Json | None:
        try:
            return await self._kube.get(path)
        except (ApiServerUnreachableError, OverloadedError):
            return None

    async def _clear_up(self) -> None:
        """Delete what a former leader has answered and left."""
        for namespace in self._settings.namespaces or (None,):
            try:
                pods = self._kube.list(
                    path_to("v1", "pods", namespace), labels=f"{CHECK_LABEL}=true", metadata_only=True
                )
                async for pod in pods:
                    if self._is_answered(pod["metadata"]):
                        await self._kube.delete(_path(pod["metadata"]["namespace"], pod["metadata"]["name"]))
            except OperatorError as error:
                log.warning("cannot clear up after tests of endpoints", extra={"reason": str(error)})

    def _is_answered(self, metadata: Json) -> bool:
        """Whether the request that a pod answers is no longer the one that a connection waits for."""
        request = (metadata.get("annotations") or {}).get(TEST_AT)
        owners = {ConnectionUid(UUID(owner["uid"])) for owner in metadata.get("ownerReferences") or ()}
        for uid in owners & self._world.by_uid.keys():
            connection = self._world.connections[self._world.by_uid[uid]]
            return request != connection.test_at or request == connection.status.get("lastHandledTestAt")
        return False


def _path(namespace: str, name: str) -> str:
    return path_to("v1", "pods", namespace, name)
