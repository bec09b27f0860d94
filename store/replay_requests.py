"""What a person names, found: connections, whose events those are, and where jobs went that have ended."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from contracts.ids import ConnectionId, EventId, JobId, RouteId, TenantId
from store.database import Database, run
from store.statement import statement

READ_TARGETS = statement(
    "read_targets",
    "Connections that can be replayed to. $1 tenants or null, $2 namespace or null, $3 name or null, $4 ids or null.",
    """
    select c.id, c.tenant_id, c.namespace, c.name,
           exists (select from integration.route r where r.connection_id = c.id and r.active)
    from integration.connection c join integration.lane l on l.connection_id = c.id
    where ($1::text[] is null or c.tenant_id = any ($1::text[]))
      and ($2::text is null or c.namespace = $2::text) and ($3::text is null or c.name = $3::text)
      and ($4::int[] is null or c.id = any ($4::int[]))
    order by c.namespace, c.name
    """,
)

FIND_EVENTS = statement(
    "find_events",
    "Some events, without their data. $1 ids.",
    "select id, nonce, at, tenant_id, type, subject from integration.event where id = any ($1::bigint[]) order by id",
)

# A job that was delivered is known by its attempts, one that was given up by its dead letter.
FIND_ENDED_JOBS = statement(
    "find_ended_jobs",
    "Jobs that were delivered or given up, in the order of their events. $1 events, $2 jobs.",
    """
    select w.event_id, w.job_id, found.tenant_id, found.connection_id, found.route_id, found.letter
    from unnest($1::bigint[], $2::bigint[]) as w (event_id, job_id)
    cross join lateral (
        select d.tenant_id, d.connection_id, d.route_id, d.job_id as letter
        from integration.dead_letter d where d.job_id = w.job_id and d.event_id = w.event_id
        union all
        (select a.tenant_id, a.connection_id, a.route_id, null from integration.attempt a
         where a.event_id = w.event_id and a.job_id = w.job_id and a.outcome = 'Delivered' limit 1)
        limit 1
    ) found
    order by w.event_id, w.job_id
    """,
)


class Target(NamedTuple):
    """A connection that may be replayed to; `active` says that it still takes events."""

    id: ConnectionId
    tenant: TenantId
    namespace: str
    name: str
    active: bool


class FoundEvent(NamedTuple):
    """An event without its data."""

    id: EventId
    nonce: int
    at: datetime
    tenant: TenantId
    type: str
    subject: str


class EndedJob(NamedTuple):
    """A job that was delivered, or given up: then `letter` is its id."""

    event: EventId
    id: JobId
    tenant: TenantId
    connection: ConnectionId
    route: RouteId
    letter: JobId | None


async def read_targets(
    database: Database,
    *,
    tenants: Sequence[str] | None = None,
    namespace: str | None = None,
    name: str | None = None,
    ids: Sequence[ConnectionId] | None = None,
) -> list[Target]:
    """Return the connections that meet all conditions; those that ended for good are left out."""
    parameters = (None if tenants is None else list(tenants), namespace, name, None if ids is None else list(ids))
    return list(map(Target._make, await run(database, READ_TARGETS, parameters)))


async def find_events(database: Database, events: Sequence[EventId]) -> dict[EventId, FoundEvent]:
    """Return those of some events that are still kept."""
    return {EventId(row[0]): FoundEvent._make(row) for row in await run(database, FIND_EVENTS, (list(events),))}


async def find_ended_jobs(database: Database, jobs: Sequence[tuple[EventId, JobId]]) -> list[EndedJob]:
    """Return those of some jobs that were delivered or given up, in the order of their events."""
    events, ids = zip(*jobs, strict=True)
    return list(map(EndedJob._make, await run(database, FIND_ENDED_JOBS, (list(events), list(ids)))))
