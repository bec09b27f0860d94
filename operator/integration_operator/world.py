"""Everything that the watches told, by object and by what refers to what.

Each `see_` function takes one observation and returns the keys of what it may concern. It is the one place that knows,
for instance, that a Secret concerns the connections that refer to it. A resync feeds the same functions.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from contracts.connection import DeletionPolicy, secret_references
from contracts.ids import ConnectionUid, ReplayUid
from integration_operator.kube import Json
from integration_operator.names import ObjectKey, pool_key
from integration_operator.observed import (
    ConnectionObject,
    NamespaceObject,
    PoolObject,
    PoolSecret,
    SecretObject,
    connection_of,
    is_pool_secret,
    key_of,
    namespace_of,
    pool_of,
    pool_secret_of,
    secret_of,
)
from integration_operator.replay_objects import ReplayObject, replay_of

_TOMBSTONES: Final = 10_000
"""Objects whose end is remembered, so that no late answer brings them back."""


class Kind(StrEnum):
    """What is reconciled."""

    CONNECTION = "connection"
    POOL = "pool"
    REMOVAL = "removal"
    """A connection whose object is gone; its name is the object's uid."""
    REPLAY = "replay"
    """A replay, there or gone; its name is the object's uid."""


class Key(NamedTuple):
    """Something to be reconciled."""

    kind: Kind
    object: ObjectKey


class World:
    """The observed state."""

    def __init__(self, digest_key: bytes, *, sees_namespaces: bool) -> None:
        self._digest_key = digest_key
        self._sees_namespaces = sees_namespaces
        self.connections: dict[ObjectKey, ConnectionObject] = {}
        self.by_uid: dict[ConnectionUid, ObjectKey] = {}
        self.secrets: dict[ObjectKey, SecretObject] = {}
        self.pool_secrets: dict[ObjectKey, PoolSecret] = {}
        self.pools: dict[ObjectKey, PoolObject] = {}
        self.namespaces: dict[str, NamespaceObject] = {}
        self.removed: dict[ConnectionUid, DeletionPolicy] = {}
        self.replays: dict[ReplayUid, ReplayObject] = {}
        self._tombstones: dict[UUID, None] = {}
        self._unreadable: set[ObjectKey] = set()
        self._pool_of: dict[ObjectKey, ObjectKey] = {}
        self._members: defaultdict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self._users: defaultdict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        self._uses: dict[ObjectKey, frozenset[ObjectKey]] = {}

    # Questions -------------------------------------------------------------------------------------------------------

    def pool_of(self, connection: ObjectKey) -> ObjectKey | None:
        """Return the pool that delivers for a connection; None if no spec of it could ever be read."""
        return self._pool_of.get(connection)

    def members(self, pool: ObjectKey) -> list[ConnectionObject]:
        """Return the connections of a pool whose specs can be read, by name."""
        found = (self.connections[key] for key in sorted(self._members.get(pool, ())))
        return [connection for connection in found if connection.spec is not None]

    def known_pools(self) -> set[ObjectKey]:
        """Return every pool that has members or a Deployment."""
        return {pool for pool, members in self._members.items() if members} | set(self.pools)

    def unreadable_in(self, namespace: str) -> bool:
        """Whether a connection of the namespace cannot be read: what its pools need is not known then."""
        return any(key.namespace == namespace for key in self._unreadable)

    def is_claimed(self, seen: ConnectionObject | ReplayObject) -> bool:
        """Whether an object's namespace may hold objects of its tenant, as far as we may look."""
        if not self._sees_namespaces or seen.spec is None:
            return True
        namespace = self.namespaces.get(seen.key.namespace)
        return namespace is None or seen.spec.tenant in namespace.tenants

    def knows_claims(self, namespace: str) -> bool:
        """Whether it is known by now which tenants' objects a namespace may hold, as far as we may look."""
        return not self._sees_namespaces or namespace in self.namespaces

    def is_terminating(self, namespace: str) -> bool:
        """Whether a namespace is being deleted."""
        found = self.namespaces.get(namespace)
        return found is not None and found.terminating

    def users(self, secrets: Iterable[ObjectKey]) -> list[ConnectionObject]:
        """Return the connections that refer to any of these Secrets."""
        found = {user for secret in secrets for user in self._users.get(secret, ())}
        return [self.connections[key] for key in sorted(found)]

    # Observations ----------------------------------------------------------------------------------------------------

    def see_connection(self, body: Json, *, deleted: bool = False) -> Iterator[Key]:
        """Take in an IntegrationConnection."""
        seen = connection_of(body)
        former = self.connections.get(seen.key)
        if former is not None and former.uid != seen.uid:
            if deleted:
                return  # news of an object whose successor we know already
            yield from self._forget(former)
            former = None  # the successor is new, even if it looks like the object before it
        if deleted:
            yield from self._forget(former or seen)
            return
        # The answer to a request of ours may come after the watch has told of something newer.
        if seen.uid in self._tombstones or (former is not None and not _is_newer(seen, former)):
            return
        self._index(seen)
        if former is None or _is_news(former, seen):
            yield Key(Kind.CONNECTION, seen.key)

    def see_secret(self, body: Json, *, deleted: bool = False) -> Iterator[Key]:
        """Take in a Secret: a partner's credentials, or one that we made for a pool."""
        key = key_of(body)
        if is_pool_secret(body):
            yield from self._see_pool_secret(key, body, deleted=deleted)
            return
        former = self.secrets.get(key)
        if deleted:
            self.secrets.pop(key, None)
        else:
            self.secrets[key] = secret_of(body, self._digest_key)
        if deleted or former is None or former.digests != self.secrets[key].digests:
            for user in sorted(self._users.get(key, ())):
                yield Key(Kind.CONNECTION, user)

    def see_pool(self, body: Json, *, deleted: bool = False) -> Iterator[Key]:
        """Take in a pool's Deployment."""
        key = key_of(body)
        former = self.pools.get(key)
        if deleted:
            self.pools.pop(key, None)
        else:
            seen = pool_of(body)
            self.pools[key] = seen
            if former is not None and former == seen:
                return
        yield Key(Kind.POOL, key)
        if _trouble(former) != _trouble(self.pools.get(key)):
            for member in sorted(self._members.get(key, ())):
                yield Key(Kind.CONNECTION, member)

    def see_namespace(self, body: Json, *, deleted: bool = False) -> Iterator[Key]:
        """Take in a namespace."""
        name = body["metadata"]["name"]
        former = self.namespaces.get(name)
        if deleted:
            self.namespaces.pop(name, None)
            return
        seen = self.namespaces[name] = namespace_of(body)
        # At first sight too: a connection may be seen before its namespace, and nobody has asked for its claim then.
        if former != seen:
            for key in sorted(key for key in self.connections if key.namespace == name):
                yield Key(Kind.CONNECTION, key)
            yield from (replay_key(each) for each in self.replays.values() if each.key.namespace == name)

    def see_replay(self, body: Json, *, deleted: bool = False) -> Iterator[Key]:
        """Take in an IntegrationReplay."""
        seen = replay_of(body)
        former = self.replays.get(seen.uid)
        if deleted:
            self.replays.pop(seen.uid, None)
            self._bury(seen.uid)
            yield replay_key(seen)
        elif seen.uid not in self._tombstones and (former is None or _is_newer(seen, former)):
            self.replays[seen.uid] = seen
            if former is None or (former.generation, former.deleted) != (seen.generation, seen.deleted):
                yield replay_key(seen)

    # Within ----------------------------------------------------------------------------------------------------------

    def _index(self, seen: ConnectionObject) -> None:
        self.connections[seen.key] = seen
        self.by_uid[seen.uid] = seen.key
        self.removed.pop(seen.uid, None)
        if seen.spec is None:
            self._unreadable.add(seen.key)
            return  # what it referred to when it could be read is still in force
        self._unreadable.discard(seen.key)
        self._unindex(seen.key)
        pool = pool_key(seen.key.namespace, seen.key.name, seen.spec)
        self._pool_of[seen.key] = pool
        self._members[pool].add(seen.key)
        uses = frozenset(ObjectKey(seen.key.namespace, each.name) for each in secret_references(seen.spec))
        self._uses[seen.key] = uses
        for secret in uses:
            self._users[secret].add(seen.key)

    def _unindex(self, connection: ObjectKey) -> None:
        pool = self._pool_of.pop(connection, None)
        if pool is not None:
            _discard(self._members, pool, connection)
        for secret in self._uses.pop(connection, ()):
            _discard(self._users, secret, connection)

    def _forget(self, gone: ConnectionObject) -> Iterator[Key]:
        known = self.connections.get(gone.key)
        if known is not None and known.uid == gone.uid:
            pool = self._pool_of.get(gone.key)
            self._unindex(gone.key)
            del self.connections[gone.key]
            self._unreadable.discard(gone.key)
            if pool is not None:
                yield Key(Kind.POOL, pool)
        self.by_uid.pop(gone.uid, None)
        self._bury(gone.uid)
        policy = gone.spec.deletion_policy if gone.spec else DeletionPolicy.DRAIN
        self.removed[gone.uid] = policy
        yield Key(Kind.REMOVAL, ObjectKey(gone.key.namespace, str(gone.uid)))

    def _bury(self, uid: UUID) -> None:
        self._tombstones[uid] = None
        while len(self._tombstones) > _TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _see_pool_secret(self, key: ObjectKey, body: Json, *, deleted: bool) -> Iterator[Key]:
        former = self.pool_secrets.pop(key, None)
        seen = None if deleted else pool_secret_of(body)
        if seen is not None:
            self.pool_secrets[key] = seen
        if seen != former:
            yield Key(Kind.POOL, key)


def replay_key(replay: ReplayObject) -> Key:
    """Name a replay by its uid: a successor of the same name is another one."""
    return Key(Kind.REPLAY, ObjectKey(replay.key.namespace, str(replay.uid)))


def _trouble(pool: PoolObject | None) -> tuple[datetime | None, str | None]:
    """Return what the connections of a pool tell of its workers; a pool without a Deployment is in no trouble."""
    return (pool.unavailable_since, pool.failure) if pool else (None, None)


def _is_newer(seen: ConnectionObject | ReplayObject, former: ConnectionObject | ReplayObject) -> bool:
    """Whether a sight of an object is newer than the former one; versions are numbers, as Kubernetes 1.35 promises."""
    if seen.resource_version.isdigit() and former.resource_version.isdigit():
        return int(seen.resource_version) > int(former.resource_version)
    return seen.resource_version != former.resource_version and seen.generation >= former.generation


def _is_news(former: ConnectionObject, seen: ConnectionObject) -> bool:
    """Whether anything but our own status and the like has changed."""
    return (
        former.generation != seen.generation
        or former.deleted_at != seen.deleted_at
        or former.reconcile_at != seen.reconcile_at
        or former.release_at != seen.release_at
        or former.test_at != seen.test_at
        or former.finalizers != seen.finalizers
    )


def _discard(index: defaultdict[ObjectKey, set[ObjectKey]], at: ObjectKey, member: ObjectKey) -> None:
    members = index.get(at)
    if members is not None:
        members.discard(member)
        if not members:
            del index[at]
