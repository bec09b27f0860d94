"""Lanes and the worker sessions that own them.

A lane has at most one owner, a worker session whose lease is renewed by heartbeats. It changes hands only when the
owner gives it back, or when the owner's session row is deleted: because its lease ran out, or because the same worker
(by name: a pod, a slot of a supervisor) started again, which proves the former one dead. A foreign key frees the lanes
of a deleted session in the same transaction and lets no dead session take one. Deleting the row waits for any
settlement in progress, and every later one finds it gone: see `store.settlement`.

Times are the database's throughout; a worker's wrong clock changes nothing here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg.errors import ForeignKeyViolation

from contracts.ids import ConnectionId, ConnectionUid, JobId, PoolId, RouteId, ScopeId, SessionId, TenantId
from store.database import Database, run, transaction
from store.errors import LeaseLostError
from store.statement import statement

END_FORMER_SESSION = statement(
    "end_former_session",
    "End the session that a worker of this name had. $1 pool, $2 name.",
    "delete from integration.worker_session where pool_id = $1::int and name = $2::text",
)

OPEN_SESSION = statement(
    "open_session",
    "Begin a worker's session. $1 pool, $2 name, $3 lease in seconds.",
    """
    insert into integration.worker_session (pool_id, name, lease_until)
    values ($1::int, $2::text, now() + make_interval(secs => $3::float8)) returning id
    """,
)

NOTE_WORKER = statement(
    "note_worker",
    "Keep a session's worker by name for the attempts, which outlive the session. $1 session, $2 pool, $3 name.",
    "insert into integration.worker (session, pool_id, name) values ($1::bigint, $2::int, $3::text)",
)

CLOSE_SESSION = statement(
    "close_session",
    "End a session; its lanes are free at once. $1 session.",
    "delete from integration.worker_session where id = $1::bigint",
)

HEARTBEAT = statement(
    "heartbeat",
    "Renew a lease; no row means it was lost. $1 session, $2 lease in seconds.",
    """
    update integration.worker_session set lease_until = now() + make_interval(secs => $2::float8)
    where id = $1::bigint returning extract(epoch from clock_timestamp())::float8
    """,
)

REAP_SESSIONS = statement(
    "reap_sessions",
    "End sessions whose lease ran out, so that others can take their lanes. $1 pool.",
    "delete from integration.worker_session where pool_id = $1::int and lease_until < now() returning name",
)

COUNT_SHARE = statement(
    "count_share",
    "How many lanes a pool has, how many sessions share them, how many this one owns. $1 pool, $2 session.",
    """
    select (select count(*) from integration.lane where pool_id = $1::int),
           (select count(*) from integration.worker_session where pool_id = $1::int),
           (select count(*) from integration.lane where owner = $2::bigint)
    """,
)

ACQUIRE_LANES = statement(
    "acquire_lanes",
    "Take free lanes. $1 pool, $2 session, $3 how many at most.",
    """
    update integration.lane set owner = $2::bigint
    where connection_id in (
        select l.connection_id from integration.lane l
        where l.pool_id = $1::int and l.owner is null
        limit $3::int for update skip locked
    )
    returning connection_id
    """,
)

TAKE_TOKENS = statement(
    "take_tokens",
    "Note that a lane's tokens are in its owner's hand: should the owner die, the next one starts with none. "
    "$1 session, $2 connections.",
    """
    update integration.lane set tokens = null, tokens_at = null
    where owner = $1::bigint and connection_id = any ($2::int[])
    """,
)

RELEASE_LANES = statement(
    "release_lanes",
    "Give lanes back with their token buckets. $1 session, $2 connections, $3 tokens.",
    """
    update integration.lane l set owner = null, tokens = r.tokens, tokens_at = now()
    from unnest($2::int[], $3::float8[]) as r (connection_id, tokens)
    where l.connection_id = r.connection_id and l.owner = $1::bigint
    """,
)

READ_LANES = statement(
    "read_lanes",
    "Lanes of a session with their connections, and the subjects that wait. $1 session, $2 connections, null for all.",
    """
    select l.connection_id, c.uid, l.tenant_id, c.namespace, c.name, c.generation, c.spec, l.revision, l.state,
           l.suspended, l.consecutive_failures, l.quarantine_reason, l.probes,
           extract(epoch from l.probe_at - now())::float8, extract(epoch from l.paused_until - now())::float8,
           l.tokens, extract(epoch from now() - l.tokens_at)::float8,
           (select array_agg(distinct s.subject) from (
                select j.subject from integration.job j
                where j.connection_id = l.connection_id and j.state = 1 and j.subject is not null
                union all
                select d.subject from integration.dead_letter d where d.connection_id = l.connection_id and d.blocks
            ) s),
           (select array_agg(distinct j.subject) from integration.job j
            where j.connection_id = l.connection_id and j.state = 2),
           (select max(j.id) from integration.job j where j.connection_id = l.connection_id and j.state = 2),
           (select extract(epoch from min(j.run_at) - now())::float8 from integration.job j
            where j.connection_id = l.connection_id and j.state = 1),
           l.probe_asked_by, l.ramp_percent, l.effective_rps, l.effective_concurrency,
           l.scope_id
    from integration.lane l join integration.connection c on c.id = l.connection_id
    where l.owner = $1::bigint and ($2::int[] is null or l.connection_id = any ($2::int[]))
    """,
)

LANE_VERSIONS = statement(
    "lane_versions",
    "What may have changed under the owner of lanes. $1 session.",
    """
    select l.connection_id, c.generation, l.revision
    from integration.lane l join integration.connection c on c.id = l.connection_id
    where l.owner = $1::bigint
    """,
)

READ_ROUTE_NAMES = statement(
    "read_route_names",
    "Names of the routes of a session's lanes, those of former specs included. $1 session.",
    """
    select r.id, r.name from integration.route r join integration.lane l using (connection_id)
    where l.owner = $1::bigint
    """,
)

POOL_BY_ROLE = statement(
    "pool_by_role",
    "The pool of the role that asks.",
    "select id, name from integration.pool where role = current_user",
)


class LaneRow(NamedTuple):
    """A lane and its connection as its owner reads them; times are seconds from now, negative if past."""

    connection: ConnectionId
    uid: ConnectionUid
    tenant: TenantId
    namespace: str
    name: str
    generation: int
    spec: dict[str, Any]
    revision: int
    state: str
    suspended: bool
    consecutive_failures: int
    quarantine_reason: str | None
    probes: int
    probe_in_seconds: float | None
    paused_for_seconds: float | None
    tokens: float | None
    tokens_age_seconds: float | None
    deferred_subjects: frozenset[int]
    held_subjects: frozenset[int]
    last_held: JobId | None
    next_due_in_seconds: float | None
    probe_asked_by: str | None
    ramp_percent: int | None
    effective_rps: float | None
    effective_concurrency: int | None
    scope: ScopeId | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """How the lanes of a pool divide over its sessions, and how many of them the asking one owns."""

    lanes: int
    sessions: int
    owned: int

    @property
    def fair(self) -> int:
        """Lanes that one session should own, rounded up so that none is left over."""
        return -(-self.lanes // max(self.sessions, 1))


async def find_pool(database: Database) -> tuple[PoolId, str] | None:
    """Return id and name of the pool whose role this connection has, or None."""
    rows = await run(database, POOL_BY_ROLE)
    return (PoolId(rows[0][0]), rows[0][1]) if rows else None


async def open_session(database: Database, pool: PoolId, name: str, lease: timedelta) -> SessionId:
    """Begin a session, ending a former one of the same name."""
    async with transaction(database):
        await run(database, END_FORMER_SESSION, (pool, name))
        ((session,),) = await run(database, OPEN_SESSION, (pool, name, lease.total_seconds()))
        await run(database, NOTE_WORKER, (session, pool, name))
    return SessionId(session)


async def close_session(database: Database, session: SessionId) -> None:
    """End a session; whatever it still owned is free."""
    await run(database, CLOSE_SESSION, (session,))


async def heartbeat(database: Database, session: SessionId, lease: timedelta) -> float:
    """Renew the lease; return the database's clock in seconds since 1970. Raise LeaseLostError."""
    rows = await run(database, HEARTBEAT, (session, lease.total_seconds()))
    if not rows:
        raise LeaseLostError(f"session {session} was taken: its lease ran out, or the same worker started again")
    clock: float = rows[0][0]
    return clock


async def reap_sessions(database: Database, pool: PoolId) -> list[str]:
    """End sessions whose lease ran out; return their names."""
    return [row[0] for row in await run(database, REAP_SESSIONS, (pool,))]


async def count_share(database: Database, pool: PoolId, session: SessionId) -> Share:
    """Count lanes and sessions of a pool, and the lanes of this session."""
    ((lanes, sessions, owned),) = await run(database, COUNT_SHARE, (pool, session))
    return Share(lanes, sessions, owned)


async def acquire_lanes(database: Database, pool: PoolId, session: SessionId, *, limit: int) -> list[ConnectionId]:
    """Take up to `limit` lanes that nobody owns. Raise LeaseLostError."""
    try:
        return [row[0] for row in await run(database, ACQUIRE_LANES, (pool, session, limit))]
    except ForeignKeyViolation as error:
        raise LeaseLostError(f"session {session} was taken before it took a lane") from error


async def take_tokens(database: Database, session: SessionId, connections: Sequence[ConnectionId]) -> None:
    """Take the tokens of lanes just acquired out of their rows."""
    await run(database, TAKE_TOKENS, (session, list(connections)))


async def release_lanes(database: Database, session: SessionId, tokens: Sequence[tuple[ConnectionId, float]]) -> None:
    """Give lanes back, each with the tokens left in its bucket."""
    if tokens:
        connections, left = zip(*tokens, strict=True)
        await run(database, RELEASE_LANES, (session, list(connections), list(left)))


async def read_lanes(
    database: Database, session: SessionId, connections: Sequence[ConnectionId] | None = None
) -> list[LaneRow]:
    """Read the session's lanes, or those of them named."""
    rows = await run(database, READ_LANES, (session, None if connections is None else list(connections)))
    return [LaneRow._make((*row[:17], frozenset(row[17] or ()), frozenset(row[18] or ()), *row[19:])) for row in rows]


async def lane_versions(database: Database, session: SessionId) -> list[tuple[ConnectionId, int, int]]:
    """Return (connection, generation, revision) of the session's lanes."""
    return [(row[0], row[1], row[2]) for row in await run(database, LANE_VERSIONS, (session,))]


async def read_route_names(database: Database, session: SessionId) -> dict[RouteId, str]:
    """Return the names of all routes of the session's lanes."""
    return {row[0]: row[1] for row in await run(database, READ_ROUTE_NAMES, (session,))}
