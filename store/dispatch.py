"""What the dispatcher asks of the database: which events are new, and one statement that turns them into jobs.

An event is dispatched by moving a cursor, never by writing the event. The cursor is a pair of snapshots: everything
visible in `lower` is dispatched; what has become visible since is read and, in the statement that inserts its jobs,
`lower` moves on. So events are neither lost nor dispatched twice, however long a producer's transaction takes and
wherever a dispatcher is killed: before the commit nothing has happened, after it everything has.

Two dispatchers may read the same events; the cursor's `revision` lets only one of them write. The statement takes
the cursor's row lock before it draws the first job id and keeps it to the commit, so **job ids are in commit order**:
workers rely on that when they read only what is above the last id they saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contracts.ids import ConnectionId, EventId, PoolId, RouteId, TenantId
from store.arrays import numbers, plain_texts
from store.database import Database, run
from store.errors import NotMigratedError, RestoredDatabaseError
from store.statement import statement

CHANNEL = "integration_events"


@dataclass(frozen=True, slots=True)
class Cursor:
    """What has been dispatched. `lower` and `upper` are pg_snapshot texts, `xmin:xmax:xip,…`."""

    revision: int
    lower: str
    upper: str | None
    last_event: EventId

    def lower_bounds(self) -> tuple[str, list[str]]:
        """Return what `lower` had not seen: transactions from xmax on, and those then in progress."""
        _, xmax, in_progress = self.lower.split(":")
        return xmax, in_progress.split(",") if in_progress else []

    def window_closed(self) -> "Cursor":
        """Return the cursor after the last event of its open window."""
        return Cursor(self.revision + 1, self.upper or self.lower, None, EventId(0))


class NewEvent(NamedTuple):
    """An undispatched event. `at` is as PostgreSQL writes it, since it is only handed back.

    `subject` and `data` (JSON text) are there if they were asked for.
    """

    id: EventId
    at: str
    tenant: TenantId
    type: str
    subject_hash: int
    subject: str | None
    data: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order of their ids, with the snapshot they were read in and the routing epoch of that moment.

    `complete` says that no more of this snapshot are left.
    """

    events: list[NewEvent]
    snapshot: str
    epoch: int
    complete: bool

    def next_cursor(self, cursor: Cursor) -> Cursor:
        """Return the cursor after this batch: a complete one closes its window, any other leaves it open."""
        revision = cursor.revision + 1
        window = cursor.upper or self.snapshot
        if self.complete:
            return Cursor(revision, window, None, EventId(0))
        return Cursor(revision, cursor.lower, window, self.events[-1].id)

    def first(self, number: int) -> "Batch":
        """Return the batch's first events as a batch of their own."""
        return Batch(self.events[:number], self.snapshot, self.epoch, complete=False)


class NewJob(NamedTuple):
    """One event for one connection, to be inserted."""

    pool: PoolId
    connection: ConnectionId
    route: RouteId
    event: EventId
    at: str
    subject_hash: int | None


class RoutingFailure(NamedTuple):
    """A job that cannot be made: it goes to the dead letters at once."""

    tenant: TenantId
    connection: ConnectionId
    route: RouteId
    event: EventId
    at: str
    subject_hash: int | None
    detail: str


READ_CURSOR = statement(
    "read_cursor",
    "Where dispatch stands, and whether this cluster is the one it stands in.",
    """
    select c.revision, c.lower::text, c.upper::text, c.last_event_id,
           c.system_identifier = (select system_identifier from pg_control_system())
    from integration.dispatch_cursor c
    """,
)

# Two scans of the xid index instead of an OR: the planner turns them into range and point look-ups in every partition.
READ_NEW_EVENTS = statement(
    "read_new_events",
    "Events whose transactions have become visible since the lower snapshot, oldest first. "
    "$1 lower's xmax, $2 lower's transactions in progress, $3 whether data is wanted, $4 limit.",
    """
    select e.id, e.at::text, e.tenant_id, e.type, hashtextextended(e.subject, 0),
           case when $3::boolean then e.subject end, case when $3::boolean then e.data::text end,
           (select pg_current_snapshot()::text), (select epoch from integration.routing)
    from (
        select id, at, tenant_id, type, subject, data from integration.event where xid >= $1::text::xid8
        union all
        select id, at, tenant_id, type, subject, data from integration.event where xid = any ($2::text[]::xid8[])
    ) e
    order by e.id
    limit $4::int
    """,
    hot=True,
)

READ_WINDOW = statement(
    "read_window",
    "The next events of a window too large for one batch: between two snapshots and above the last id. "
    "$1 xmax, $2 in progress, $3 upper snapshot, $4 last id, $5 whether data is wanted, $6 limit.",
    """
    select e.id, e.at::text, e.tenant_id, e.type, hashtextextended(e.subject, 0),
           case when $5::boolean then e.subject end, case when $5::boolean then e.data::text end,
           $3::text, (select epoch from integration.routing)
    from integration.event e
    where e.id > $4::bigint
      and (e.xid >= $1::text::xid8 or e.xid = any ($2::text[]::xid8[]))
      and pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot)
    order by e.id
    limit $6::int
    """,
)

# `moved` runs first: the one-time filter `exists` needs it before any job id is drawn (see the module's docstring).
WRITE_JOBS = statement(
    "write_jobs",
    "Move the cursor and insert a batch's jobs and routing failures; wake the pools that got some. Nothing happens "
    "if another dispatcher moved the cursor. $1 revision read, $2..$4 new lower, upper, last event, "
    "$5..$10 jobs, $11..$17 failures, $18 channels.",
    """
    with moved as materialized (
        update integration.dispatch_cursor
        set revision = revision + 1, lower = $2::text::pg_snapshot, upper = $3::text::pg_snapshot,
            last_event_id = $4::bigint
        where revision = $1::bigint
        returning revision
    ),
    jobs as (
        insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject)
        select j.pool_id, nextval('integration.job_id'), j.connection_id, j.route_id, j.event_id, j.event_at, j.subject
        from unnest($5::text::int[], $6::text::int[], $7::text::int[], $8::text::bigint[], $9::text::timestamptz[],
                    $10::text::bigint[])
            as j (pool_id, connection_id, route_id, event_id, event_at, subject)
        where exists (select from moved)
        returning id
    ),
    failures as (
        insert into integration.dead_letter
            (job_id, tenant_id, connection_id, route_id, event_id, event_at, subject, attempts, reason, detail)
        select nextval('integration.job_id'), f.tenant_id, f.connection_id, f.route_id, f.event_id, f.event_at,
               f.subject, 0, 'FilterFailed', f.detail
        from unnest($11::text[], $12::int[], $13::int[], $14::bigint[], $15::text[]::timestamptz[], $16::bigint[],
                    $17::text[])
            as f (tenant_id, connection_id, route_id, event_id, event_at, subject, detail)
        where exists (select from moved)
        returning job_id
    )
    select (select revision from moved), (select count(*) from jobs), (select count(*) from failures),
           (select count(pg_notify(c, '')) from unnest($18::text[]) c where exists (select from moved))
    """,
    hot=True,
)

SET_ASLEEP = statement(
    "set_asleep",
    "Tell producers whether to notify. Losing this in a crash costs one poll interval, so the commit need not wait.",
    """
    with relaxed as (select set_config('synchronous_commit', 'off', true))
    update integration.dispatcher_sleep set asleep = $1::boolean from relaxed where asleep <> $1::boolean
    """,
)

READ_ROUTES = statement(
    "read_routes",
    "Every active route with its connection's pool, and the routing epoch they belong to.",
    """
    select r.id, r.connection_id, r.tenant_id, l.pool_id, r.events, r.filter, r.ordered,
           (select epoch from integration.routing)
    from integration.route r join integration.lane l on l.connection_id = r.connection_id
    where r.active
    order by r.connection_id, r.id
    """,
)

READ_EPOCH = statement("read_epoch", "The routing epoch in force.", "select epoch from integration.routing")


class RouteRow(NamedTuple):
    """A published route; `events` are type patterns, `filter` a CEL expression."""

    id: RouteId
    connection: ConnectionId
    tenant: TenantId
    pool: PoolId
    events: list[str]
    filter: str | None
    ordered: bool


def pool_channel(pool: PoolId) -> str:
    """Return the channel on which a pool's workers hear of new jobs."""
    return f"integration_jobs_{pool}"


async def read_cursor(database: Database) -> Cursor:
    """Read the cursor; raise RestoredDatabaseError if its transaction numbers are another cluster's."""
    rows = await run(database, READ_CURSOR)
    if not rows:
        raise NotMigratedError("the dispatch cursor is missing; run `integrations migrate`")
    revision, lower, upper, last_event, same_cluster = rows[0]
    if not same_cluster:
        raise RestoredDatabaseError(
            "this database was restored into another cluster, so transaction numbers in it mean nothing here; "
            "stop all producers and run `integrations migrate`, which finds the undispatched events anew"
        )
    return Cursor(revision, lower, upper, EventId(last_event))


async def read_batch(database: Database, cursor: Cursor, *, limit: int, with_data: bool) -> Batch | None:
    """Read up to `limit` undispatched events in order; None if there are none.

    None while `cursor.upper` is set means that its window is exhausted; `cursor.window_closed()` goes on from there.
    """
    xmax, in_progress = cursor.lower_bounds()
    if cursor.upper is None:
        rows = await run(database, READ_NEW_EVENTS, (xmax, in_progress, with_data, limit))
    else:
        parameters = (xmax, in_progress, cursor.upper, cursor.last_event, with_data, limit)
        rows = await run(database, READ_WINDOW, parameters)
    if not rows:
        return None
    return Batch([NewEvent._make(row[:7]) for row in rows], rows[0][7], rows[0][8], len(rows) < limit)


async def write_jobs(
    database: Database, read: Cursor, after: Cursor, jobs: Sequence[NewJob], failures: Sequence[RoutingFailure]
) -> bool:
    """Insert the jobs and move the cursor from `read` to `after`; False if another dispatcher was faster."""
    job_columns = list(zip(*jobs, strict=True)) if jobs else [()] * 6
    failure_columns = list(zip(*failures, strict=True)) if failures else [()] * 7
    channels = [pool_channel(pool) for pool in set(job_columns[0])]
    parameters = (
        read.revision,
        after.lower,
        after.upper,
        after.last_event,
        *map(numbers, job_columns[:4]),
        plain_texts(job_columns[4]),
        numbers(job_columns[5]),
        *map(list, failure_columns),
        channels,
    )
    rows = await run(database, WRITE_JOBS, parameters)
    return rows[0][0] is not None


async def read_routes(database: Database) -> tuple[int, list[RouteRow]]:
    """Return the routing epoch and every active route; both of one snapshot."""
    rows = await run(database, READ_ROUTES)
    if not rows:
        return await read_epoch(database), []
    return rows[0][7], [RouteRow(*row[:7]) for row in rows]


async def read_epoch(database: Database) -> int:
    """Return the routing epoch in force."""
    rows = await run(database, READ_EPOCH)
    epoch: int = rows[0][0]
    return epoch


async def set_asleep(database: Database, *, asleep: bool) -> None:
    """Tell producers whether the dispatcher waits for a notification."""
    await run(database, SET_ASLEEP, (asleep,))
