"""What a worker asks of the database: jobs and payloads. Where results go is in `store.settlement`.

A worker owns lanes (see `store.lanes`), so claiming a job writes nothing: it reads the jobs of its lanes and keeps in
memory which of them are under way. New jobs are found by one range scan above the last id seen (`tail_jobs`); lanes
with more jobs than the worker wants to hold are read on demand (`lane_jobs`), behind a cursor in the worker's memory
that spares it the dead index entries of finished jobs. Both rely on job ids being in commit order, which
`store.dispatch` ensures; a new owner starts at zero and relies on nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from contracts.ids import ConnectionId, EventId, JobId, PoolId, ReplayId, RouteId, SessionId, TenantId
from store.arrays import columns, numbers
from store.database import Database, run
from store.statement import statement


class Job(NamedTuple):
    """A job as a worker holds it: `attempts` made before; `subject` is None where order does not matter.

    `replay` is the replay that made it, if one did.
    """

    id: JobId
    connection: ConnectionId
    route: RouteId
    event: EventId
    at: datetime
    subject: int | None
    attempts: int
    replay: ReplayId | None = None


class EventRow(NamedTuple):
    """What a delivery says: the event itself. `data` is its JSON object in UTF-8, or None if it is a large one."""

    id: EventId
    nonce: int
    at: datetime
    tenant: TenantId
    type: str
    subject: str
    data: bytes | None


LAST_JOB = statement(
    "last_job",
    "A job id that every later job exceeds. $1 pool.",
    "select coalesce(max(id), 0) from integration.job where pool_id = $1::int",
)

TAIL_JOBS = statement(
    "tail_jobs",
    "New jobs of a pool above the last id seen; those of other owners' lanes come with their id alone. "
    "$1 pool, $2 last id, $3 limit, $4 session.",
    """
    select j.id, l.connection_id, j.route_id, j.event_id, j.event_at, j.subject, j.attempts, j.replay_id
    from (
        select * from integration.job where pool_id = $1::int and id > $2::bigint order by id limit $3::int
    ) j
    left join integration.lane l on l.connection_id = j.connection_id and l.owner = $4::bigint
    order by j.id
    """,
    hot=True,
)

LANE_JOBS = statement(
    "lane_jobs",
    "The next ready jobs of some lanes, each behind its cursor. $1 connections, $2 cursors, $3 how many of each.",
    """
    select j.id, j.connection_id, j.route_id, j.event_id, j.event_at, j.subject, j.attempts, j.replay_id
    from unnest($1::int[], $2::bigint[], $3::int[]) as l (connection_id, cursor, wanted)
    cross join lateral (
        select * from integration.job
        where state = 0 and connection_id = l.connection_id and id > l.cursor
        order by connection_id, id limit l.wanted
    ) j
    """,
    hot=True,
)

DUE_JOBS = statement(
    "due_jobs",
    "Deferred jobs of some lanes whose time has come, in that order. $1 connections, $2 jobs a lane.",
    """
    select j.id, j.connection_id, j.route_id, j.event_id, j.event_at, j.subject, j.attempts, j.replay_id
    from unnest($1::int[]) as l (connection_id)
    cross join lateral (
        select * from integration.job
        where state = 1 and connection_id = l.connection_id and run_at <= now()
        order by connection_id, run_at, id limit $2::int
    ) j
    """,
)

# The oldest of all is first of its subject, whatever state it is in, unless a dead letter blocks its subject.
PROBE_JOBS = statement(
    "probe_jobs",
    "The oldest job of each lane, whether ready, deferred or held. $1 connections.",
    """
    select j.id, j.connection_id, j.route_id, j.event_id, j.event_at, j.subject, j.attempts, j.replay_id
    from unnest($1::int[]) as l (connection_id)
    cross join lateral (
        (select * from integration.job w where state = 0 and connection_id = l.connection_id and not exists (
             select from integration.dead_letter d
             where d.connection_id = w.connection_id and d.subject = w.subject and d.blocks
         ) order by id limit 1)
        union all
        (select * from integration.job where state = 1 and connection_id = l.connection_id order by id limit 1)
        union all
        (select * from integration.job w where state = 2 and connection_id = l.connection_id and not exists (
             select from integration.dead_letter d
             where d.connection_id = w.connection_id and d.subject = w.subject and d.blocks
         ) order by id limit 1)
        order by id limit 1
    ) j
    """,
)

NEXT_DUE = statement(
    "next_due",
    "In how many seconds the next deferred job of each lane is due. $1 connections.",
    """
    select l.connection_id,
           (select extract(epoch from min(run_at) - now())::float8 from integration.job
            where state = 1 and connection_id = l.connection_id and run_at > now())
    from unnest($1::int[]) as l (connection_id)
    """,
)

HELD_JOBS = statement(
    "held_jobs",
    "The next jobs held behind an earlier one of their subject. $1 connections, $2 subjects, $3 jobs a subject.",
    """
    select j.id, j.connection_id, j.route_id, j.event_id, j.event_at, j.subject, j.attempts, j.replay_id
    from unnest($1::int[], $2::bigint[]) as l (connection_id, subject)
    cross join lateral (
        select * from integration.job
        where state = 2 and connection_id = l.connection_id and subject = l.subject
        order by connection_id, subject, id limit $3::int
    ) j
    """,
)

LOAD_EVENTS = statement(
    "load_events",
    "The events behind some jobs, once each; large ones come without data, so that a full buffer of them cannot fill "
    "the memory. $1 ids, $2 and $3 the earliest and latest time among them.",
    """
    select id, nonce, at, tenant_id, type, subject,
           case when pg_column_size(data) <= 16384 then convert_to(data::text, 'UTF8') end
    from integration.event
    where id = any ($1::text::bigint[]) and at between $2::timestamptz and $3::timestamptz
    """,
    hot=True,
)

LOAD_DATA = statement(
    "load_data",
    "One event's data, however large. $1 id, $2 time.",
    "select convert_to(data::text, 'UTF8') from integration.event where id = $1::bigint and at = $2::timestamptz",
)


async def last_job(database: Database, pool: PoolId) -> JobId:
    """Return an id that every job committed after this call exceeds."""
    rows = await run(database, LAST_JOB, (pool,))
    return JobId(rows[0][0])


async def tail_jobs(
    database: Database, pool: PoolId, after: JobId, session: SessionId, *, limit: int
) -> tuple[list[Job], JobId, bool]:
    """Read new jobs of this session's lanes above `after`; return them, the id reached, and whether more may follow."""
    rows = await run(database, TAIL_JOBS, (pool, after, limit, session))
    if not rows:
        return [], after, False
    return [Job._make(row) for row in rows if row[1] is not None], rows[-1][0], len(rows) == limit


async def lane_jobs(database: Database, wanted: Sequence[tuple[ConnectionId, JobId, int]]) -> list[Job]:
    """Read the next ready jobs of each lane above its cursor, in order: so many at most."""
    return list(map(Job._make, await run(database, LANE_JOBS, columns(wanted))))


async def due_jobs(database: Database, connections: Sequence[ConnectionId], *, limit: int) -> list[Job]:
    """Read up to `limit` deferred jobs of each lane that are due."""
    return list(map(Job._make, await run(database, DUE_JOBS, (list(connections), limit))))


async def probe_jobs(database: Database, connections: Sequence[ConnectionId]) -> list[Job]:
    """Read the oldest job of each lane, whatever it waits for."""
    return list(map(Job._make, await run(database, PROBE_JOBS, (list(connections),))))


async def next_due(database: Database, connections: Sequence[ConnectionId]) -> dict[ConnectionId, float | None]:
    """Return in how many seconds each lane's next deferred job is due, None where there is none."""
    return {row[0]: row[1] for row in await run(database, NEXT_DUE, (list(connections),))}


async def held_jobs(database: Database, subjects: Sequence[tuple[ConnectionId, int]], *, limit: int) -> list[Job]:
    """Read up to `limit` held jobs of each (connection, subject), in order."""
    connections, hashes = zip(*subjects, strict=True)
    return list(map(Job._make, await run(database, HELD_JOBS, (list(connections), list(hashes), limit))))


async def load_events(database: Database, keys: Sequence[tuple[EventId, datetime]]) -> list[EventRow]:
    """Read events by id and time, each once."""
    ids, times = zip(*keys, strict=True)
    return list(map(EventRow._make, await run(database, LOAD_EVENTS, (numbers(ids), min(times), max(times)))))


async def load_data(database: Database, event: EventId, at: datetime) -> bytes | None:
    """Read one event's data; None if the event is gone."""
    rows = await run(database, LOAD_DATA, (event, at))
    return rows[0][0] if rows else None
