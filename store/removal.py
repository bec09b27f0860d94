"""Ending connections for good, jobs and all, while dispatchers and workers are at work on them.

First the intake ends: routes close, workers stop starting jobs, and the dispatch cursor's revision is counted, so that
a batch routed before is refused and routed anew (see `store.dispatch`). From that commit on no job can come. Then the
undelivered jobs go, some thousands a transaction, and the lane goes last. Killed anywhere, it leaves connections that
are still there and closed; ending them again does the rest. A worker with requests under way finds its lane gone and
forgets it; results that come later find no job.
"""

from collections.abc import Sequence

from contracts.ids import ConnectionId, ConnectionUid
from store.database import Database, run, transaction
from store.facts import DELETE_FACTS
from store.flows import DELETE_FLOWS
from store.grants import DELETE_GRANTS
from store.leadership import Term, require_term
from store.publication import RETIRE_CONNECTIONS, count_epoch, lock_routing
from store.scopes import arrange_scopes, scoped_tenants
from store.statement import statement

JOBS_AT_ONCE = 5_000
COUNTED_AT_MOST = 1_000

FIND_CONNECTIONS = statement(
    "find_connections",
    "Connections that have not ended. $1 uids.",
    "select id, uid from integration.connection where uid = any ($1::uuid[]) and deleted_at is null",
)

SUSPEND_LANES = statement(
    "suspend_lanes",
    "Let no job of some lanes start any more. $1 connections.",
    """
    update integration.lane set suspended = true, revision = revision + 1
    where connection_id = any ($1::int[]) and not suspended
    """,
)

REFUSE_BATCHES = statement(
    "refuse_batches",
    "Have batches of events that are being routed routed anew.",
    "update integration.dispatch_cursor set revision = revision + 1",
)

# A job that its worker changes meanwhile is found and not ended; hence both counts: none found means none left.
END_JOBS = statement(
    "end_jobs",
    "End undelivered jobs of a connection, as dead letters or without trace; how many were found and ended. "
    "$1 connection, $2 whether to keep them, $3 why, $4 how many at most.",
    """
    with found as materialized (
        (select ctid as tid from integration.job where state = 0 and connection_id = $1::int
         order by connection_id, id limit $4::int)
        union all
        (select ctid from integration.job where state = 1 and connection_id = $1::int
         order by connection_id, run_at, id limit $4::int)
        union all
        (select ctid from integration.job where state = 2 and connection_id = $1::int
         order by connection_id, subject, id limit $4::int)
        limit $4::int
    ),
    ended as (
        delete from integration.job j using found f where j.ctid = f.tid and j.connection_id = $1::int returning j.*
    ),
    kept as (
        insert into integration.dead_letter
            (job_id, tenant_id, connection_id, route_id, event_id, event_at, subject, attempts, reason, detail,
             replay_id)
        select e.id, c.tenant_id, e.connection_id, e.route_id, e.event_id, e.event_at, e.subject, e.attempts,
               'ConnectionDeleted', $3::text, e.replay_id
        from ended e join integration.connection c on c.id = e.connection_id
        where $2::boolean
    )
    select (select count(*) from found), (select count(*) from ended)
    """,
)

DELETE_LANES = statement(
    "delete_lanes",
    "Delete the lanes of connections; what their pools still have of the tenant. $1 connections.",
    """
    with gone as (
        delete from integration.lane where connection_id = any ($1::int[]) returning pool_id, tenant_id
    )
    delete from integration.tenant_role t
    using gone g join integration.pool p on p.id = g.pool_id
    where t.role = p.role and t.tenant_id = g.tenant_id and not exists (
        select from integration.lane l
        where l.pool_id = g.pool_id and l.tenant_id = g.tenant_id and l.connection_id <> all ($1::int[])
    )
    """,
)

END_CONNECTIONS = statement(
    "end_connections",
    "Mark connections as ended and free their names. $1 connections, $2 epoch.",
    """
    update integration.connection
    set deleted_at = now(), epoch = $2::bigint, name = split_part(name, '~', 1) || '~' || id
    where id = any ($1::int[])
    """,
)

COUNT_UNDELIVERED = statement(
    "count_undelivered",
    "Undelivered jobs of connections, counted up to a limit. $1 uids, $2 limit.",
    """
    select c.uid, least($2::int, (
        select count(*) from (
            (select from integration.job where state = 0 and connection_id = c.id
             order by connection_id, id limit $2::int)
            union all
            (select from integration.job where state = 1 and connection_id = c.id
             order by connection_id, run_at, id limit $2::int)
            union all
            (select from integration.job where state = 2 and connection_id = c.id
             order by connection_id, subject, id limit $2::int)
        ) j
    ))::int
    from integration.connection c where c.uid = any ($1::uuid[])
    """,
)


async def undelivered(database: Database, uids: Sequence[ConnectionUid]) -> dict[ConnectionUid, int]:
    """Count the undelivered jobs of each connection, no further than to 1,000; unknown connections have none."""
    rows = await run(database, COUNT_UNDELIVERED, (list(uids), COUNTED_AT_MOST))
    return {**dict.fromkeys(uids, 0), **dict(rows)}


async def remove(
    database: Database, uids: Sequence[ConnectionUid], *, keep: bool, reason: str, term: Term | None = None
) -> dict[ConnectionUid, int]:
    """End connections for good; return how many undelivered jobs of each were ended by this call.

    With `keep` these become dead letters with the reason ConnectionDeleted, and `reason` as its detail. What has ended
    already is left alone. Several transactions: nobody may publish the same connections meanwhile.
    Raise SupersededError, with nothing written from there on.
    """
    ended = dict.fromkeys(uids, 0)
    connections = await _close(database, uids, term)
    for connection, uid in connections.items():
        ended[uid] = await _end_jobs(database, connection, term, keep=keep, reason=reason)
    if connections:
        async with transaction(database):
            await require_term(database, term)
            epoch = await lock_routing(database)
            tenants = await scoped_tenants(database, list(connections))
            await run(database, DELETE_LANES, (list(connections),))
            if tenants:
                await arrange_scopes(database, tenants)
            for forget in (DELETE_FACTS, DELETE_GRANTS, DELETE_FLOWS):
                await run(database, forget, (list(connections),))
            await run(database, END_CONNECTIONS, (list(connections), epoch))
            await count_epoch(database)
    return ended


async def _close(
    database: Database, uids: Sequence[ConnectionUid], term: Term | None
) -> dict[ConnectionId, ConnectionUid]:
    """Let no job start and none come."""
    async with transaction(database):
        await require_term(database, term)
        epoch = await lock_routing(database)
        connections: dict[ConnectionId, ConnectionUid] = dict(await run(database, FIND_CONNECTIONS, (list(uids),)))
        if connections:
            await run(database, RETIRE_CONNECTIONS, (list(uids), epoch))
            await run(database, SUSPEND_LANES, (list(connections),))
            await run(database, REFUSE_BATCHES)
            await count_epoch(database)
    return connections


async def _end_jobs(database: Database, connection: ConnectionId, term: Term | None, *, keep: bool, reason: str) -> int:
    total = 0
    found = 1
    while found:
        async with transaction(database):
            await require_term(database, term)
            ((found, ended),) = await run(database, END_JOBS, (connection, keep, reason, JOBS_AT_ONCE))
            total += ended
    return total
