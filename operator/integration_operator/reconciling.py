"""Bringing one connection at a time to what its object says: routing, children, status, and its end.

Level-triggered: what is done depends only on what is observed now, so a key can be reconciled at any time, any number
of times, and a kill anywhere is healed by the next run. The order for a connection: its pool's row, its routing (from
then on events become jobs), its children, its status.

The end of a connection. With the policy Drain a finalizer keeps the object until its jobs are delivered, or until a
deadline that no failure can move: after it the finalizer goes, whatever else can be done. With Delete and Orphan there
is no finalizer; that the object is gone is seen by the watch, or by the resync.
"""

import logging
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from contracts.connection import DeletionPolicy
from contracts.ids import ConnectionUid
from integration_operator.conclusion import Facts, conclude
from integration_operator.conditions import status_patch
from integration_operator.credentials import UNWATCHED_SECONDS, CredentialReview
from integration_operator.databases import Databases
from integration_operator.endpoint_checks import EndpointChecks
from integration_operator.errors import ConflictError, ForbiddenError, NotFoundError, OperatorError
from integration_operator.kube import Json, Kube, path_to
from integration_operator.metrics import OperatorMetrics
from integration_operator.names import API_VERSION, DRAIN_FINALIZER, PLURAL, ObjectKey
from integration_operator.observed import ConnectionObject, connection_of
from integration_operator.pool_keeper import PoolKeeper
from integration_operator.posting import post, post_transitions
from integration_operator.publication import find_problems
from integration_operator.publisher import Publisher
from integration_operator.replay_reconciling import ReplayReconciler
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, Kind, World
from store.errors import StoreError, SupersededError
from store.leadership import Term
from store.publication import Publication, PublishedConnection, Refusal, RefusalCause, release, retire
from store.removal import remove, undelivered
from store.standing import AS_THE_SPEC_SAYS, Standing

log = logging.getLogger(__name__)

_DRAIN_POLL_SECONDS: Final = 2.0


class Reconciler:
    """Reconciles for one leader's term."""

    def __init__(
        self,
        kube: Kube,
        world: World,
        queue: WorkQueue[Key],
        database: Databases,
        publisher: Publisher,
        pools: PoolKeeper,
        review: CredentialReview,
        checks: EndpointChecks,
        metrics: OperatorMetrics,
        term: Term,
    ) -> None:
        self._kube = kube
        self._world = world
        self._queue = queue
        self._database = database
        self._publisher = publisher
        self._pools = pools
        self._review = review
        self._checks = checks
        self._metrics = metrics
        self._term = term
        self._replays = ReplayReconciler(kube, world, queue, database, term)
        self._published: dict[ConnectionUid, tuple[int, Publication | Refusal]] = {}
        self._counted: dict[ConnectionUid, tuple[str, str, str, str]] = {}
        self.standings: dict[ConnectionUid, Standing] = {}

    async def handle(self, key: Key) -> None:
        """Reconcile a key; log and raise what went wrong, so that it comes again."""
        begun = time.perf_counter()
        result = "error"
        try:
            match key.kind:
                case Kind.CONNECTION:
                    await self._connection(key.object)
                case Kind.POOL:
                    await self._pool(key.object)
                case Kind.REMOVAL:
                    await self._removal(key.object)
                case Kind.REPLAY:
                    await self._replays.reconcile(key.object)
            result = "done"
        except SupersededError:
            raise
        except (OperatorError, StoreError) as error:
            log.warning(
                "cannot reconcile yet", extra={"kind": key.kind, "object": str(key.object), "reason": str(error)}
            )
            raise
        except Exception:
            log.exception("reconciling failed by a defect", extra={"kind": key.kind, "object": str(key.object)})
            raise
        finally:
            self._metrics.reconciled.labels(key.kind.value, result).inc()
            self._metrics.reconcile_seconds.labels(key.kind.value).observe(time.perf_counter() - begun)

    # Connections -----------------------------------------------------------------------------------------------------

    async def _connection(self, key: ObjectKey) -> None:
        connection = self._world.connections.get(key)
        if connection is None:
            return
        if connection.deleted_at is not None:
            await self._drain(connection, connection.deleted_at)
            return
        claimed = self._world.is_claimed(connection)
        problems = connection.problems or (
            tuple(map(str, find_problems(connection.spec)))
            if connection.spec and not self._is_published(connection)
            else ()
        )
        if connection.spec is None or problems or not claimed:
            if not claimed:
                await self._withdraw(connection)
            await self._write_status(Facts(connection, claimed, problems, pool=self._world.pool_of(key)))
            return
        connection = await self._keep_finalizer(connection)
        await self._reconcile_valid(connection)

    async def _reconcile_valid(self, connection: ConnectionObject) -> None:
        assert connection.spec is not None  # noqa: S101 -- for the type checker
        pool = self._world.pool_of(connection.key)
        assert pool is not None  # noqa: S101 -- known since the spec could be read
        asked = connection.reconcile_at != connection.status.get("lastHandledReconcileAt")
        credentials = await self._review.review(connection, afresh=asked)
        epoch, refusal, failure = None, None, None
        try:
            answer = await self._publish(connection, pool)
            if isinstance(answer, Refusal):
                refusal = answer
            else:
                epoch = answer.epoch
            if connection.release_at and connection.release_at != connection.status.get("lastHandledReleaseAt"):
                await self._release(connection)
        except SupersededError:
            raise
        except StoreError as error:
            failure = error
        usable = not credentials.missing and not credentials.problems
        digest = credentials.digest if usable else None
        if self._pools.note_credentials(pool, connection.key, digest) or pool not in self._world.pools:
            self._queue.add(Key(Kind.POOL, pool), _urgency(connection, digest))
        if credentials.unwatched or credentials.missing:
            self._queue.add_after(Key(Kind.CONNECTION, connection.key), UNWATCHED_SECONDS)
        problems, immutable = _refused(refusal)
        facts = Facts(
            connection,
            claimed=True,
            problems=problems,
            credentials=credentials,
            pool=pool,
            epoch=epoch,
            refusal=immutable,
            database_error=str(failure) if failure else None,
            workers_problem=self._pools.problem(pool),
            standing=self._standing(connection),
            check=self._checks.ended(connection.uid),
        )
        await self._write_status(facts)
        if facts.check is not None:
            await self._checks.told(connection)
        if epoch is not None:
            self._checks.consider(connection, pool, facts.check)
        if failure is not None:
            raise failure

    def _standing(self, connection: ConnectionObject) -> Standing:
        return self.standings.get(connection.uid, AS_THE_SPEC_SAYS)

    def _is_published(self, connection: ConnectionObject) -> bool:
        """Whether this very spec was accepted and published in this term."""
        known = self._published.get(connection.uid)
        return known is not None and known[0] == connection.generation

    async def _publish(self, connection: ConnectionObject, pool: ObjectKey) -> Publication | Refusal:
        known = self._published.get(connection.uid)
        if known is not None and known[0] == connection.generation:
            return known[1]
        assert connection.spec is not None  # noqa: S101 -- callers have looked
        row = await self._pools.row(pool)
        wanted = PublishedConnection(
            connection.uid, connection.key.namespace, connection.key.name, connection.spec, row.id
        )
        answer = await self._publisher.publish(wanted)
        self._published[connection.uid] = (connection.generation, answer)
        if isinstance(answer, Publication) and answer.changed:
            self._queue.add(Key(Kind.POOL, pool))  # what the spec asks of the pool may have changed with it
        return answer

    async def _withdraw(self, connection: ConnectionObject) -> None:
        """Stop the intake of a connection whose namespace lost its claim to the tenant."""
        self._published.pop(connection.uid, None)
        await self._database.once(lambda database: retire(database, [connection.uid], term=self._term))

    async def _release(self, connection: ConnectionObject) -> None:
        namespace, name = connection.key.namespace, connection.key.name
        await self._database.once(lambda database: release(database, namespace, name, term=self._term))

    async def _keep_finalizer(self, connection: ConnectionObject) -> ConnectionObject:
        assert connection.spec is not None  # noqa: S101 -- callers have looked
        wanted = connection.spec.deletion_policy is DeletionPolicy.DRAIN
        if wanted == (DRAIN_FINALIZER in connection.finalizers):
            return connection
        body = await self._set_finalizer(connection, wanted=wanted)
        if body is None:
            return connection
        self._queue.add_all(self._world.see_connection(body))
        return connection_of(body)

    async def _set_finalizer(self, connection: ConnectionObject, *, wanted: bool) -> Json | None:
        """Put our finalizer on an object or take it off; None if it is gone. Raise ConflictError if it has changed."""
        others = [finalizer for finalizer in connection.finalizers if finalizer != DRAIN_FINALIZER]
        metadata = {
            "finalizers": [*others, DRAIN_FINALIZER] if wanted else others,
            "resourceVersion": connection.resource_version,
            "uid": str(connection.uid),
        }
        try:
            return await self._kube.merge(_path(connection.key), {"metadata": metadata})
        except NotFoundError:
            return None
        except ConflictError as error:
            raise ConflictError(f"the object has changed meanwhile, it is read again: {error}") from error

    async def _write_status(self, facts: Facts) -> None:
        connection = facts.connection
        status = conclude(facts, datetime.now(UTC))
        self._count(facts, status)
        patch = status_patch(connection.status, status)
        if patch is None:
            return
        try:
            # With the uid: a successor of the same name must not be told what was found out about this one.
            wanted = {"metadata": {"uid": str(connection.uid)}, "status": patch}
            body = await self._kube.merge(f"{_path(connection.key)}/status", wanted)
        except NotFoundError:
            return  # deleted meanwhile; the watch will tell
        self._queue.add_all(self._world.see_connection(body))
        await post_transitions(self._kube, connection, status, self._term.holder)

    def _count(self, facts: Facts, status: Json) -> None:
        connection = facts.connection
        if connection.spec is None:
            return
        labels = (connection.key.namespace, connection.key.name, connection.spec.tenant, connection.spec.provider.value)
        self._counted[connection.uid] = labels
        self._metrics.ready.labels(*labels).set(status["conditions"][0]["status"] == "True")
        self._metrics.quarantined.labels(*labels).set(facts.standing.quarantined_at is not None)

    def _count_no_more(self, uid: ConnectionUid) -> None:
        labels = self._counted.pop(uid, None)
        if labels is not None:
            self._metrics.ready.remove(*labels)
            self._metrics.quarantined.remove(*labels)

    # The end ---------------------------------------------------------------------------------------------------------

    async def _drain(self, connection: ConnectionObject, deleted_at: datetime) -> None:
        """Deliver what is left of a deleted connection, then let it go."""
        if DRAIN_FINALIZER not in connection.finalizers:
            return  # others keep it; when they let go, the watch tells
        spec = connection.spec
        seconds = spec.drain_timeout.total_seconds() if spec else 0.0
        deadline = deleted_at.timestamp() + seconds
        overdue = time.time() >= deadline or self._world.is_terminating(connection.key.namespace)
        try:
            if not overdue and not await self._is_drained(connection):
                facts = Facts(
                    connection,
                    claimed=True,
                    problems=(),
                    pool=self._world.pool_of(connection.key),
                    standing=self._standing(connection),
                    drain_deadline=datetime.fromtimestamp(deadline, UTC),
                )
                await self._write_status(facts)
                self._queue.add_after(Key(Kind.CONNECTION, connection.key), _DRAIN_POLL_SECONDS)
                return
            kept = await self._remove(connection.uid, keep=True, reason="deleted before it was delivered")
        except SupersededError:
            raise
        except StoreError:
            if not overdue:
                raise
            kept = 0  # the object must not hang on a database that is away; the resync of a later day ends its rows
        if kept:
            note = f"{kept} undelivered job(s) became dead letters when the time to drain was over"
            await post(self._kube, connection, "Warning", "DrainEnded", note, self._term.holder)
        await self._set_finalizer(connection, wanted=False)

    async def _is_drained(self, connection: ConnectionObject) -> bool:
        uid = connection.uid
        await self._database.once(lambda database: retire(database, [uid], term=self._term))
        left = await self._database.once(lambda database: undelivered(database, [uid]))
        return left[uid] == 0

    async def _removal(self, gone: ObjectKey) -> None:
        """End the rows of a connection whose object is gone."""
        uid = ConnectionUid(UUID(gone.name))
        policy = self._world.removed.get(uid)
        if policy is None:
            return
        if policy is not DeletionPolicy.ORPHAN:
            await self._remove(uid, keep=policy is DeletionPolicy.DRAIN, reason="deleted before it was delivered")
        self._world.removed.pop(uid, None)
        self._published.pop(uid, None)
        self._review.forget(uid)
        self._checks.forget(uid)
        self._count_no_more(uid)
        for pool in self._world.known_pools():
            if pool.namespace == gone.namespace and not self._world.members(pool):
                self._queue.add(Key(Kind.POOL, pool))

    async def _remove(self, uid: ConnectionUid, *, keep: bool, reason: str) -> int:
        ended = await self._database.once(
            lambda database: remove(database, [uid], keep=keep, reason=reason, term=self._term)
        )
        return ended.get(uid, 0)

    # Pools -----------------------------------------------------------------------------------------------------------

    async def _pool(self, pool: ObjectKey) -> None:
        try:
            again = await self._pools.reconcile(pool)
        except (ForbiddenError, NotFoundError):
            if self._world.is_terminating(pool.namespace):
                return
            raise
        if again is not None:
            for member in self._world.members(pool):
                self._queue.add_after(Key(Kind.CONNECTION, member.key), again)


def _refused(refusal: Refusal | None) -> tuple[tuple[str, ...], str | None]:
    """Return what is wrong with the spec, and what of it cannot be changed."""
    if refusal is None:
        return (), None
    if refusal.cause is RefusalCause.INVALID_SPEC:
        return (f"spec: {refusal.reason}",), None
    return (), refusal.reason


def _urgency(connection: ConnectionObject, digest: str | None) -> Lane:
    """Say how soon a connection's pool must be looked at: what the status tells already waits behind what is new."""
    status = connection.status
    known = status.get("observedGeneration") == connection.generation
    return Lane.RESYNC if known and digest in (None, status.get("observedSecretHash")) else Lane.CHANGED


def _path(key: ObjectKey) -> str:
    return path_to(API_VERSION, PLURAL, key.namespace, key.name)
