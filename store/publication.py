"""Publishing connections: what the operator writes, and local mode likewise.

One transaction brings connections, routes and lanes to what the specs say and counts the routing epoch up, so that
dispatchers and workers see either all of a publication or nothing of it. Publishing what is already published
changes nothing, not even the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb

from contracts.connection import ConnectionSpec, Ordering
from contracts.ids import ConnectionId, ConnectionUid, PoolId, TenantId
from store.database import Database, run, transaction
from store.errors import ImmutableFieldError
from store.statement import statement

CHANNEL = "integration_routing"

SUPERSEDE_CONNECTION = statement(
    "supersede_connection",
    "Make way for a new object of an old one's name: the old connection goes on under another name, without intake. "
    "$1 uid, $2 namespace, $3 name.",
    """
    with former as (
        update integration.connection set name = name || '~' || id
        where namespace = $2::text and name = $3::text and uid <> $1::uuid
        returning id
    )
    update integration.route r set active = false from former f where r.connection_id = f.id
    """,
)

UPSERT_CONNECTION = statement(
    "upsert_connection",
    "Write a connection's spec if it differs from the published one; no row if it is the same. "
    "$1 uid, $2 tenant, $3 namespace, $4 name, $5 provider, $6 spec.",
    """
    insert into integration.connection as c (uid, tenant_id, namespace, name, provider, spec)
    values ($1::uuid, $2::text, $3::text, $4::text, $5::text, $6::jsonb)
    on conflict (namespace, name) do update
    set spec = excluded.spec, generation = c.generation + 1
    where c.spec <> excluded.spec
       or not exists (select from integration.route r where r.connection_id = c.id and r.active)
    returning c.id, c.tenant_id
    """,
)

WRITE_ROUTES = statement(
    "write_routes",
    "Bring a connection's routes to its spec; the ids of routes that stay, stay. "
    "$1 connection, $2 tenant, $3 names, $4 events as JSON arrays, $5 filters, $6 ordered.",
    """
    with wanted as (
        select name, array(select jsonb_array_elements_text(events)) as events, filter, ordered
        from unnest($3::text[], $4::jsonb[], $5::text[], $6::boolean[]) as r (name, events, filter, ordered)
    ),
    retired as (
        update integration.route set active = false
        where connection_id = $1::int and active and name not in (select name from wanted)
    )
    insert into integration.route (connection_id, tenant_id, name, events, filter, ordered)
    select $1::int, $2::text, name, events, filter, ordered from wanted
    on conflict (connection_id, name) do update
    set events = excluded.events, filter = excluded.filter, ordered = excluded.ordered, active = true
    """,
)

# A changed spec is a reason to try a quarantined partner again at once.
WRITE_LANE = statement(
    "write_lane",
    "Bring a connection's lane to its spec; a new one starts with a full bucket. "
    "$1 connection, $2 tenant, $3 pool, $4 suspended.",
    """
    insert into integration.lane as l (connection_id, tenant_id, pool_id, suspended, tokens, tokens_at)
    values ($1::int, $2::text, $3::int, $4::boolean, 'infinity', now())
    on conflict (connection_id) do update
    set suspended = excluded.suspended, revision = l.revision + 1,
        probe_at = case when l.state = 'Quarantined' then now() end
    returning pool_id
    """,
)

RETIRE_CONNECTIONS = statement(
    "retire_connections",
    "Stop the intake of connections that are no longer wanted; what they have queued is still delivered. $1 uids.",
    """
    update integration.route r set active = false
    from integration.connection c
    where c.id = r.connection_id and c.uid = any ($1::uuid[]) and r.active
    returning r.connection_id
    """,
)

RELEASE_LANE = statement(
    "release_lane",
    "Probe a quarantined lane now. $1 namespace, $2 name.",
    """
    update integration.lane l set probe_at = now(), revision = l.revision + 1
    from integration.connection c
    where c.id = l.connection_id and c.namespace = $1::text and c.name = $2::text and l.state = 'Quarantined'
    returning l.connection_id
    """,
)

COUNT_EPOCH = statement(
    "count_epoch",
    "Make a publication known: whoever holds an older epoch reads again.",
    """
    with counted as (update integration.routing set epoch = epoch + 1 returning epoch)
    select epoch, pg_notify('integration_routing', '')::text from counted
    """,
)

GRANT_TENANT = statement(
    "grant_tenant",
    "Let a pool's role read a tenant's events. $1 pool, $2 tenant.",
    """
    insert into integration.tenant_role (role, tenant_id)
    select role, $2::text from integration.pool where id = $1::int
    on conflict do nothing
    """,
)

WRITE_POOL = statement(
    "write_pool",
    "Name a pool and the database role of its workers; a new role sees the tenants that the former saw. "
    "$1 name, $2 role.",
    """
    with former as (select role from integration.pool where name = $1::text and role <> $2::name),
    handed_over as (update integration.tenant_role t set role = $2::name from former f where t.role = f.role)
    insert into integration.pool as p (name, role) values ($1::text, $2::name)
    on conflict (name) do update set role = excluded.role returning p.id
    """,
)

LANE_STATES = statement(
    "lane_states",
    "Every connection and what delivery says of it.",
    """
    select c.uid, c.namespace, c.name, c.tenant_id, c.provider,
           exists (select from integration.route r where r.connection_id = c.id and r.active),
           l.state, l.suspended, l.owner is not null, l.quarantined_at, l.quarantine_reason, l.probe_at, l.paused_until
    from integration.lane l join integration.connection c on c.id = l.connection_id
    order by c.namespace, c.name
    """,
)


@dataclass(frozen=True, slots=True)
class PublishedConnection:
    """A connection to be published: identity from the object's metadata, the rest from its spec."""

    uid: ConnectionUid
    namespace: str
    name: str
    spec: ConnectionSpec
    pool: PoolId


class ConnectionState(NamedTuple):
    """A connection as delivery knows it. `active`: takes new events; `owned`: some worker has its lane."""

    uid: ConnectionUid
    namespace: str
    name: str
    tenant: TenantId
    provider: str
    active: bool
    state: str
    suspended: bool
    owned: bool
    quarantined_at: datetime | None
    quarantine_reason: str | None
    probe_at: datetime | None
    paused_until: datetime | None


async def connection_states(database: Database) -> list[ConnectionState]:
    """Return every connection with its state, by namespace and name."""
    return list(map(ConnectionState._make, await run(database, LANE_STATES)))


async def write_pool(database: Database, name: str, role: str) -> PoolId:
    """Create or rename a pool's role; return the pool's id."""
    rows = await run(database, WRITE_POOL, (name, role))
    return PoolId(rows[0][0])


async def publish(
    database: Database, connections: Sequence[PublishedConnection], retired: Sequence[ConnectionUid] = ()
) -> int | None:
    """Publish connections and retire others; return the new routing epoch, or None if nothing had changed.

    Raise ImmutableFieldError, with nothing written, if a connection belongs to another tenant or pool.
    """
    async with transaction(database):
        changed = [await _publish_one(database, connection) for connection in connections]
        stopped = await run(database, RETIRE_CONNECTIONS, (list(retired),)) if retired else []
        if not any(changed) and not stopped:
            return None
        return await _count_epoch(database)


async def release(database: Database, namespace: str, name: str) -> bool:
    """Have a quarantined connection probed at once; False if it is not quarantined."""
    async with transaction(database):
        if not await run(database, RELEASE_LANE, (namespace, name)):
            return False
        await _count_epoch(database)
        return True


async def _publish_one(database: Database, connection: PublishedConnection) -> bool:
    spec = connection.spec
    document = Jsonb(spec.model_dump(mode="json", by_alias=True, exclude_none=True))
    await run(database, SUPERSEDE_CONNECTION, (connection.uid, connection.namespace, connection.name))
    identity = (connection.uid, spec.tenant, connection.namespace, connection.name, spec.provider.value)
    rows = await run(database, UPSERT_CONNECTION, (*identity, document))
    if not rows:
        return False
    connection_id = ConnectionId(rows[0][0])
    if rows[0][1] != spec.tenant:
        raise ImmutableFieldError(
            f"{connection.namespace}/{connection.name} belongs to tenant {rows[0][1]}, not to {spec.tenant}; "
            "delete the connection and create it anew"
        )
    routes = (
        [route.name for route in spec.routes],
        [Jsonb(list(route.events)) for route in spec.routes],
        [route.filter for route in spec.routes],
        [route.ordering is Ordering.PER_SUBJECT for route in spec.routes],
    )
    await run(database, WRITE_ROUTES, (connection_id, spec.tenant, *routes))
    rows = await run(database, WRITE_LANE, (connection_id, spec.tenant, connection.pool, spec.suspend))
    if rows[0][0] != connection.pool:
        raise ImmutableFieldError(
            f"{connection.namespace}/{connection.name} is delivered by pool {rows[0][0]} and cannot move to pool "
            f"{connection.pool} with jobs under way; delete the connection and create it anew"
        )
    await run(database, GRANT_TENANT, (connection.pool, spec.tenant))
    return True


async def _count_epoch(database: Database) -> int:
    rows = await run(database, COUNT_EPOCH)
    epoch: int = rows[0][0]
    return epoch
