"""Bringing one replay at a time to what its object says: asked for once, cancelled, told of, and deleted in its time.

Its key is the object's uid, and so is its name in the database: whatever is killed, to ask for it again is to ask for
the same replay. There is no finalizer, so nothing hangs when the operator is away; an object that is gone is seen by
the watch, or by the comparison with the API server at the latest, and its replay is cancelled then. A replay that has
ended, as its status says, is never asked for again, also when the database has forgotten it.

How far a replay is, the database is asked every two seconds until it ends, less often if that takes long; the status is
written if that says something new.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from contracts.ids import ReplayUid
from integration_operator.conditions import status_patch
from integration_operator.databases import Databases
from integration_operator.errors import NotFoundError
from integration_operator.kube import Json, Kube, path_to
from integration_operator.names import API_VERSION, OPERATOR, REPLAY_PLURAL, ObjectKey
from integration_operator.posting import post_transitions
from integration_operator.replay_conclusion import ReplayFacts, conclude_replay, renewed
from integration_operator.replay_objects import ReplayObject
from integration_operator.work_queue import WorkQueue
from integration_operator.world import Key, Kind, World
from store.database import Database
from store.errors import StoreError, SupersededError
from store.leadership import Term
from store.replay_resources import (
    ReplayResource,
    ResourceProgress,
    cancel_resource,
    hand_on,
    read_progress,
)

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 2.0
_LOOKS_AT_MOST: Final = 0.05
"""Part of the time that one replay is looked at: to count a million delivered jobs takes a third of a second."""

_LONGEST_WAIT_SECONDS: Final = 3600.0


class ReplayReconciler:
    """Reconciles replays for one leader's term."""

    def __init__(self, kube: Kube, world: World, queue: WorkQueue[Key], database: Databases, term: Term) -> None:
        self._kube = kube
        self._world = world
        self._queue = queue
        self._database = database
        self._term = term

    async def reconcile(self, key: ObjectKey) -> None:
        """Reconcile the replay whose uid is the key's name; raise OperatorError or StoreError."""
        uid = ReplayUid(UUID(key.name))
        replay = self._world.replays.get(uid)
        if replay is None:
            why = "its IntegrationReplay was deleted"
            await self._database.once(
                lambda database: cancel_resource(database, uid, by=OPERATOR, why=why, term=self._term)
            )
        elif replay.finished_at is not None:
            await self._keep(key, replay, replay.finished_at)
        elif self._world.knows_claims(replay.key.namespace):
            await self._carry_on(key, replay)

    async def _carry_on(self, key: ObjectKey, replay: ReplayObject) -> None:
        claimed = self._world.is_claimed(replay)
        began = time.monotonic()
        progress, failure = None, None
        try:
            progress = await self._database.once(lambda database: self._settle(database, replay, claimed=claimed))
        except SupersededError:
            raise
        except StoreError as error:
            failure = error
        looked = time.monotonic() - began
        facts = ReplayFacts(replay, claimed, _who(replay), progress, str(failure) if failure else None)
        status = conclude_replay(facts, datetime.now(UTC))
        written = await self._write_status(replay, status)
        if failure is not None:
            raise failure
        if "finishedAt" not in status and progress is not None:
            self._queue.add_after(Key(Kind.REPLAY, key), max(_LOOK_SECONDS, looked / _LOOKS_AT_MOST))
        elif "finishedAt" in status and written:
            self._queue.add(Key(Kind.REPLAY, key))  # from now on it is kept for its time

    async def _settle(self, database: Database, replay: ReplayObject, *, claimed: bool) -> ResourceProgress | None:
        """Ask for a replay, or cancel it, where that is not done; return how far it is, None if it never was asked for.

        Killed between two statements, the next run finds the same difference and does the rest.
        """
        found = await read_progress(database, replay.uid)
        cancelled = _reason_to_cancel(replay, claimed=claimed)
        is_new = found is None and claimed and not replay.has_started
        if replay.spec is None or not (is_new or (found and cancelled)):
            return found
        resource = _resource(replay)
        await hand_on(database, resource, cancelled=cancelled, term=self._term)
        return await read_progress(database, replay.uid)

    async def _keep(self, key: ObjectKey, replay: ReplayObject, finished_at: datetime) -> None:
        """Keep a finished replay for as long as its spec says, then delete it."""
        if replay.status.get("observedGeneration") != replay.generation:
            await self._write_status(replay, renewed(replay.status, replay.generation))
        if replay.spec is None or replay.spec.ttl_after_finished is None or replay.deleted:
            return
        left = finished_at.timestamp() + replay.spec.ttl_after_finished.total_seconds() - time.time()
        if left > 0:
            self._queue.add_after(Key(Kind.REPLAY, key), min(left, _LONGEST_WAIT_SECONDS))
            return
        await self._kube.delete(_path(replay.key), uid=str(replay.uid))
        log.info("a replay was deleted, its time is over", extra={"replay": str(replay.key)})

    async def _write_status(self, replay: ReplayObject, status: Json) -> bool:
        """Write a status if it says something new; False if there is nothing to write, or to write it to."""
        patch = status_patch(replay.status, status)
        if patch is None:
            return False
        try:
            wanted = {"metadata": {"uid": str(replay.uid)}, "status": patch}
            body = await self._kube.merge(f"{_path(replay.key)}/status", wanted)
        except NotFoundError:
            return False  # deleted meanwhile; the watch will tell
        self._queue.add_all(self._world.see_replay(body))
        await post_transitions(self._kube, replay, status, self._term.holder)
        return True


def _reason_to_cancel(replay: ReplayObject, *, claimed: bool) -> str | None:
    if replay.deleted:
        return "its IntegrationReplay was deleted"
    if replay.spec and replay.spec.cancel:
        return "spec.cancel is true"
    return None if claimed else "its namespace is no longer labelled for the tenant"


def _resource(replay: ReplayObject) -> ReplayResource:
    assert replay.spec is not None  # noqa: S101 -- callers have looked
    spec = replay.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ReplayResource(replay.uid, replay.spec.tenant, replay.key.namespace, replay.key.name, spec)


def _who(replay: ReplayObject) -> str | None:
    if replay.spec is None:
        return None
    return replay.spec.requested_by or _resource(replay).title


def _path(key: ObjectKey) -> str:
    return path_to(API_VERSION, REPLAY_PLURAL, key.namespace, key.name)
