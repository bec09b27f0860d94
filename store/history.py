"""What people ask: which jobs there are, and the whole life of an event."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from contracts.ids import EventId, JobId, ReplayId
from store.database import Database, run
from store.statement import statement

_JOB_COLUMNS = """
    select j.id, j.event_id, j.event_at, c.tenant_id, c.namespace, c.name, r.name,
           case when l.suspended then 'Suspended'
                when l.state = 'Quarantined' then 'Quarantined'
                else (array['Ready', 'Deferred', 'Held'])[j.state + 1] end,
           j.attempts, j.run_at,
           coalesce(l.quarantine_reason, (
               select coalesce(a.outcome || nullif(': ' || a.detail, ': '), a.outcome) from integration.attempt a
               where a.event_id = j.event_id and a.job_id = j.id order by a.at desc limit 1
           ), ''), j.replay_id
    from integration.job j
    join integration.connection c on c.id = j.connection_id
    join integration.lane l on l.connection_id = j.connection_id
    join integration.route r on r.id = j.route_id
"""

_DEAD_COLUMNS = """
    select d.job_id, d.event_id, d.event_at, d.tenant_id, c.namespace, c.name, r.name, 'Dead', d.attempts,
           null::timestamptz, d.reason || coalesce(nullif(': ' || d.detail, ': '), ''), d.replay_id
    from integration.dead_letter d
    join integration.connection c on c.id = d.connection_id
    join integration.route r on r.id = d.route_id
"""

LIST_JOBS = statement(
    "list_jobs",
    "Unfinished jobs, oldest first. $1 tenant or null, $2 connection name or null, $3 limit.",
    _JOB_COLUMNS
    + """
    where ($1::text is null or c.tenant_id = $1::text) and ($2::text is null or c.name = $2::text)
    order by j.id limit $3::int
    """,
)

LIST_DEAD = statement(
    "list_dead",
    "Dead letters, oldest first. $1 tenant or null, $2 connection name or null, $3 limit.",
    _DEAD_COLUMNS
    + """
    where ($1::text is null or d.tenant_id = $1::text) and ($2::text is null or c.name = $2::text)
    order by d.job_id limit $3::int
    """,
)

JOBS_OF_EVENT = statement(
    "jobs_of_event",
    "Unfinished jobs of one event. $1 event.",
    _JOB_COLUMNS + " where j.event_id = $1::bigint order by j.id",
)

DEAD_OF_EVENT = statement(
    "dead_of_event",
    "Dead letters of one event. $1 event.",
    _DEAD_COLUMNS + " where d.event_id = $1::bigint order by d.job_id",
)

ATTEMPTS_OF_EVENT = statement(
    "attempts_of_event",
    "Every attempt of an event's jobs, in order. $1 event.",
    """
    select a.at, a.job_id, a.tenant_id, coalesce(c.namespace, '?'), coalesce(c.name, '?'), coalesce(r.name, '?'),
           a.number, a.outcome, a.status_code, a.duration_ms, a.worker, coalesce(a.detail, ''), a.replay_id
    from integration.attempt a
    left join integration.connection c on c.id = a.connection_id
    left join integration.route r on r.id = a.route_id
    where a.event_id = $1::bigint
    order by a.at, a.number
    """,
)

READ_EVENT = statement(
    "read_event",
    "One event. $1 id.",
    """
    select id, nonce, at, tenant_id, type, subject, data::text,
           pg_visible_in_snapshot(xid, lower)
           or (upper is not null and id <= last_event_id and pg_visible_in_snapshot(xid, upper))
    from integration.event, integration.dispatch_cursor where id = $1::bigint
    """,
)


class JobRow(NamedTuple):
    """A job or dead letter as people see it."""

    id: JobId
    event: EventId
    at: datetime
    tenant: str
    namespace: str
    connection: str
    route: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    reason: str
    replay: ReplayId | None


class Attempt(NamedTuple):
    """One recorded try; `at` is when it ended."""

    at: datetime
    job: JobId
    tenant: str
    namespace: str
    connection: str
    route: str
    number: int
    outcome: str
    status_code: int | None
    duration_ms: float
    worker: int
    detail: str
    replay: ReplayId | None


class EventLife(NamedTuple):
    """An event and everything that came of it."""

    id: EventId
    nonce: int
    at: datetime
    tenant: str
    type: str
    subject: str
    data: str
    dispatched: bool
    attempts: Sequence[Attempt]
    unfinished: Sequence[JobRow]


async def list_jobs(
    database: Database, *, tenant: str | None, connection: str | None, dead: bool, limit: int
) -> list[JobRow]:
    """List unfinished jobs, or the dead letters."""
    rows = await run(database, LIST_DEAD if dead else LIST_JOBS, (tenant, connection, limit))
    return [JobRow(*row) for row in rows]


async def event_life(database: Database, event: EventId) -> EventLife | None:
    """Return the whole life of an event, or None if there is no such event (any more)."""
    rows = await run(database, READ_EVENT, (event,))
    if not rows:
        return None
    attempts = [Attempt(*row) for row in await run(database, ATTEMPTS_OF_EVENT, (event,))]
    unfinished = [JobRow(*row) for row in await run(database, JOBS_OF_EVENT, (event,))]
    dead = [JobRow(*row) for row in await run(database, DEAD_OF_EVENT, (event,))]
    return EventLife._make((*rows[0], attempts, [*unfinished, *dead]))
