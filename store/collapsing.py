"""Collapsing: a newer event of the same type and subject supersedes older undelivered ones of a route.

A lane's owner finds in its memory what is superseded there, and has it written with its other results
(`supersede_jobs`). What waits in the database alone, held behind an earlier job of its subject, is compared there, with
that earlier one when it falls due (`supersede_waiting`). Killed before the commit, everything is as it was; after it,
the older jobs are gone and each has left a record that says by what it was superseded. A second call finds nothing
more to do.
"""

from collections.abc import Sequence
from typing import NamedTuple

from contracts.ids import ConnectionId, EventId, JobId, PoolId, PublicEventId, RouteId, SessionId, TenantId
from store.arrays import numbers
from store.database import Database, run
from store.statement import statement

LOOKED_AT = 1_000
"""Held jobs of one subject that are compared at once."""

SUPERSEDE_JOBS = statement(
    "supersede_jobs",
    "Delete jobs that a newer one superseded and record that. $1 pool, $2 session, then arrays: $3 jobs, "
    "$4 attempts before, $5 events, $6 tenants, $7 connections, $8 routes, $9 the superseding events.",
    """
    with found as materialized (
        select s.*, j.tid
        from unnest($3::bigint[], $4::smallint[], $5::bigint[], $6::text[], $7::int[], $8::int[], $9::text[])
            as s (id, attempts_before, event_id, tenant_id, connection_id, route_id, by)
        cross join lateral (
            select ctid as tid from integration.job
            where pool_id = $1::int and id = s.id and attempts = s.attempts_before limit 1
        ) j
    ),
    gone as (
        delete from integration.job j using found f where j.ctid = f.tid returning f.*
    ),
    recorded as (
        insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome,
                                         duration_ms, worker, detail)
        select now(), event_id, id, tenant_id, connection_id, route_id, attempts_before + 1, 'Superseded', 0,
               $2::bigint, 'by ' || by
        from gone
    )
    select id from gone
    """,
)

# The locks keep the lanes from changing hands until this is committed: a new owner may send what it finds.
SUPERSEDE_WAITING = statement(
    "supersede_waiting",
    "Of jobs that wait on collapsing routes keep the newest of each route, type and subject; record the others. "
    "$1 session, then for each subject $2 connection, $3 subject, $4 its due job or null, $5 jobs a subject.",
    """
    with mine as materialized (
        select k.connection_id, k.subject, k.due, l.tenant_id, l.pool_id
        from unnest($2::int[], $3::text::bigint[], $4::text::bigint[]) as k (connection_id, subject, due)
        join integration.lane l using (connection_id)
        where l.owner = $1::bigint
        for share of l
    ),
    collapsing as materialized (
        select r.id
        from integration.connection c
        cross join lateral jsonb_array_elements(c.spec -> 'routes') s
        join integration.route r on r.connection_id = c.id and r.name = s ->> 'name'
        where c.id in (select connection_id from mine) and (s ->> 'collapse')::boolean
    ),
    waiting as materialized (
        select m.tenant_id, j.*, e.type, e.nonce
        from mine m
        cross join lateral (
            (select ctid as tid, * from integration.job
             where state = 2 and connection_id = m.connection_id and subject = m.subject
             order by connection_id, subject, id limit $5::int)
            union all
            (select ctid, * from integration.job where pool_id = m.pool_id and id = m.due and state = 1)
        ) j
        join integration.event e on e.id = j.event_id and e.at = j.event_at
        where j.route_id in (select id from collapsing)
    ),
    placed as materialized (
        select *, row_number() over newest as place, first_value(event_id) over newest as by_event,
               first_value(nonce) over newest as by_nonce
        from waiting
        window newest as (partition by connection_id, subject, route_id, type order by id desc)
    ),
    gone as (
        delete from integration.job j using placed p
        where p.place > 1 and j.ctid = p.tid and j.connection_id = p.connection_id
        returning j.id, j.event_id, p.tenant_id, j.connection_id, j.route_id, j.attempts, p.by_event, p.by_nonce
    ),
    recorded as (
        insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome,
                                         duration_ms, worker, detail)
        select now(), event_id, id, tenant_id, connection_id, route_id, attempts + 1, 'Superseded', 0, $1::bigint,
               'by evt_' || to_hex(by_event) || '_' || lpad(to_hex(by_nonce), 8, '0')
        from gone
    )
    select connection_id, id from gone
    """,
)


class Superseding(NamedTuple):
    """A job that need not be delivered any more, because of the event `by`."""

    job: JobId
    attempts_before: int
    event: EventId
    tenant: TenantId
    connection: ConnectionId
    route: RouteId
    by: PublicEventId


class Waiting(NamedTuple):
    """A subject that waits in a lane, with the job of it that has fallen due, if one has."""

    connection: ConnectionId
    subject: int
    due: JobId | None


async def supersede_jobs(
    database: Database, pool: PoolId, session: SessionId, superseded: Sequence[Superseding]
) -> None:
    """Delete superseded jobs and record each, within the transaction under way."""
    columns = [list(column) for column in zip(*superseded, strict=True)]
    await run(database, SUPERSEDE_JOBS, (pool, session, *columns))


async def supersede_waiting(
    database: Database, session: SessionId, subjects: Sequence[Waiting]
) -> list[tuple[ConnectionId, JobId]]:
    """Collapse what waits of some subjects; return the superseded jobs with their lanes."""
    connections, hashes, due = zip(*subjects, strict=True)
    parameters = (session, list(connections), numbers(hashes), numbers(due), LOOKED_AT)
    return [(row[0], row[1]) for row in await run(database, SUPERSEDE_WAITING, parameters)]
