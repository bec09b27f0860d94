"""One connection, for whoever has its name: as it is published, and as people look at it."""

from datetime import datetime
from typing import Any, NamedTuple

from contracts.ids import ConnectionUid, TenantId
from store.database import Database, run
from store.statement import statement

FIND_CONNECTION = statement(
    "find_connection",
    "A connection as it is published, and the database's clock. $1 namespace, $2 name.",
    """
    select uid, tenant_id, spec, extract(epoch from clock_timestamp())::float8
    from integration.connection where namespace = $1::text and name = $2::text and deleted_at is null
    """,
)

READ_CONNECTION = statement(
    "read_connection",
    "A connection, its lane, and its undelivered jobs by what they wait for. $1 namespace, $2 name.",
    """
    select c.tenant_id, c.provider, c.spec, l.state, l.suspended, l.owner is not null, l.consecutive_failures,
           l.quarantined_at, l.quarantine_reason, l.probes, l.probe_at, l.probe_asked_by, l.ramp_percent,
           l.paused_until, l.effective_rps, l.effective_concurrency, ready.jobs, deferred.jobs, held.jobs,
           least(ready.oldest, deferred.oldest, held.oldest),
           (select count(*) from integration.dead_letter d where d.connection_id = c.id),
           (select count(distinct d.subject) from integration.dead_letter d where d.connection_id = c.id and d.blocks)
    from integration.connection c
    join integration.lane l on l.connection_id = c.id
    cross join lateral (
        select count(*) as jobs, min(event_at) as oldest from integration.job where state = 0 and connection_id = c.id
    ) ready
    cross join lateral (
        select count(*) as jobs, min(event_at) as oldest from integration.job where state = 1 and connection_id = c.id
    ) deferred
    cross join lateral (
        select count(*) as jobs, min(event_at) as oldest from integration.job where state = 2 and connection_id = c.id
    ) held
    where c.namespace = $1::text and c.name = $2::text
    """,
)


class FoundConnection(NamedTuple):
    """What is published of a connection; `clock` is the database's, in seconds since 1970."""

    uid: ConnectionUid
    tenant: TenantId
    spec: dict[str, Any]
    clock: float


class ConnectionDetails(NamedTuple):
    """A connection with everything that delivery knows of it; limits in force are None where they are the spec's."""

    tenant: str
    provider: str
    spec: dict[str, Any]
    state: str
    suspended: bool
    owned: bool
    consecutive_failures: int
    quarantined_at: datetime | None
    quarantine_reason: str | None
    probes: int
    probe_at: datetime | None
    probe_asked_by: str | None
    ramp_percent: int | None
    paused_until: datetime | None
    effective_rps: float | None
    effective_concurrency: int | None
    ready: int
    deferred: int
    held: int
    oldest_at: datetime | None
    dead_letters: int
    blocked_subjects: int


async def find_connection(database: Database, namespace: str, name: str) -> FoundConnection | None:
    """Return a connection that has not ended, or None."""
    rows = await run(database, FIND_CONNECTION, (namespace, name))
    return FoundConnection(*rows[0]) if rows else None


async def read_connection(database: Database, namespace: str, name: str) -> ConnectionDetails | None:
    """Return a connection by its name; None if there is none."""
    rows = await run(database, READ_CONNECTION, (namespace, name))
    return ConnectionDetails._make(rows[0]) if rows else None
