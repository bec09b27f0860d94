"""Deadlines of jobs that nobody tries: those of lanes that stand still, quarantined or suspended.

A lane that delivers looks at a job's deadline before it sends it. One that stands still starts nothing, so its owner
asks here, now and then, for what has expired. Killed before the commit, everything is as it was; after it, the jobs
are dead letters.
"""

from collections.abc import Mapping
from datetime import timedelta

from contracts.ids import ConnectionId, SessionId
from store.database import Database, run
from store.statement import statement

# The locks keep the lanes from changing hands until this is committed: a new owner may send what it finds.
EXPIRE_JOBS = statement(
    "expire_jobs",
    "Move expired jobs of a session's lanes that stand still to the dead letters; the first of each state are looked "
    "at, and jobs of a lane are about as old as they are early. $1 session, $2 connections, $3 deadlines in seconds, "
    "$4 how they are told, $5 jobs looked at.",
    """
    with held as materialized (
        select l.connection_id, l.tenant_id, d.seconds, d.told,
               case when l.suspended then 'the connection is suspended'
                    else 'the connection is quarantined: ' || l.quarantine_reason end as why
        from unnest($2::int[], $3::float8[], $4::text[]) as d (connection_id, seconds, told)
        join integration.lane l using (connection_id)
        where l.owner = $1::bigint and (l.suspended or l.state = 'Quarantined')
        for share of l
    ),
    found as materialized (
        select j.tid, h.connection_id, h.tenant_id,
               'not delivered within ' || h.told || ' of its event; ' || h.why as detail
        from held h
        cross join lateral (
            (select ctid as tid, event_at, replay_id from integration.job
             where state = 0 and connection_id = h.connection_id order by connection_id, id limit $5::int)
            union all
            (select ctid, event_at, replay_id from integration.job
             where state = 1 and connection_id = h.connection_id order by connection_id, run_at, id limit $5::int)
            union all
            (select ctid, event_at, replay_id from integration.job
             where state = 2 and connection_id = h.connection_id order by connection_id, subject, id limit $5::int)
        ) j
        where j.event_at < now() - make_interval(secs => h.seconds) and j.replay_id is null
    ),
    dead as (
        delete from integration.job j using found f where j.ctid = f.tid and j.connection_id = f.connection_id
        returning j.*, f.tenant_id, f.detail
    ),
    buried as (
        insert into integration.dead_letter
            (job_id, tenant_id, connection_id, route_id, event_id, event_at, subject, attempts, reason, detail, blocks)
        select d.id, d.tenant_id, d.connection_id, d.route_id, d.event_id, d.event_at, d.subject, d.attempts,
               'Expired', d.detail, d.subject is not null and exists (
                   select from integration.route r
                   join integration.connection c on c.id = r.connection_id
                   cross join lateral jsonb_array_elements(c.spec -> 'routes') s
                   where r.id = d.route_id and s ->> 'name' = r.name and s ->> 'onDeadLetter' = 'Block'
               )
        from dead d
    )
    select connection_id, count(*) from dead group by connection_id
    """,
)

LOOKED_AT = 1_000


async def expire_jobs(
    database: Database, session: SessionId, deadlines: Mapping[ConnectionId, tuple[timedelta, str]]
) -> dict[ConnectionId, int]:
    """Bury the expired jobs of lanes that stand still; return how many of each. A deadline comes with its wording."""
    seconds = [after.total_seconds() for after, _ in deadlines.values()]
    told = [wording for _, wording in deadlines.values()]
    rows = await run(database, EXPIRE_JOBS, (session, list(deadlines), seconds, told, LOOKED_AT))
    return dict(rows)
