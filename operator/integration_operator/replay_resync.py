"""What no watch told of replays, and what goes on in the database for objects that are gone."""

from collections.abc import Mapping

from contracts.ids import ReplayUid
from integration_operator.databases import Databases
from integration_operator.errors import NotFoundError, OperatorError
from integration_operator.kube import Json, Kube, path_to
from integration_operator.names import API_VERSION, REPLAY_PLURAL, ObjectKey
from integration_operator.observed import key_of
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, Kind, World, replay_key
from store.replay_resources import unfinished_resources


class ReplayResync:
    """Compares for one leader's term."""

    def __init__(
        self, kube: Kube, world: World, queue: WorkQueue[Key], database: Databases, namespaces: tuple[str, ...]
    ) -> None:
        self._kube = kube
        self._world = world
        self._queue = queue
        self._database = database
        self._namespaces = namespaces

    async def compare(self, existing: Mapping[ReplayUid, Json], *, first: bool) -> int:
        """Take in what exists and no watch told of, and the other way round; return how much that was.

        At first, have all there are reconciled. `existing` are the items of a list that was read before.
        """
        missed = 0
        for uid, item in existing.items():
            known = self._world.replays.get(uid)
            if known is None or known.generation < item["metadata"]["generation"]:
                missed += await self._read(item)
        for uid, known in list(self._world.replays.items()):
            if first:
                fresh = known.status.get("observedGeneration") != known.generation
                self._queue.add(replay_key(known), Lane.CHANGED if fresh else Lane.RESYNC)
            if uid not in existing:
                metadata = {"namespace": known.key.namespace, "name": known.key.name, "uid": str(uid)}
                missed += await self._read({"metadata": {**metadata, "resourceVersion": known.resource_version}})
        await self._find_gone(existing)
        return missed

    async def _read(self, item: Json) -> bool:
        """Read a replay and take it in, or that it is gone; say whether that was news."""
        key, uid = key_of(item), item["metadata"]["uid"]
        try:
            body = await self._kube.get(path_to(API_VERSION, REPLAY_PLURAL, key.namespace, key.name))
        except NotFoundError:
            body = None
        except OperatorError:
            return False  # as far as anybody can tell
        news = list(self._world.see_replay(body)) if body else []
        if body is None or body["metadata"]["uid"] != uid:
            news += self._world.see_replay(item, deleted=True)
        self._queue.add_all(news)
        return bool(news)

    async def _find_gone(self, existing: Mapping[ReplayUid, Json]) -> None:
        """Cancel what goes on for objects that are gone, where this operator looks after the namespace."""
        for uid, namespace, _ in await self._database.once(unfinished_resources):
            mine = not self._namespaces or namespace in self._namespaces
            if mine and uid not in existing and uid not in self._world.replays:
                self._queue.add(Key(Kind.REPLAY, ObjectKey(namespace, str(uid))), Lane.RESYNC)
