"""Publishing connections: what the operator writes, and local mode likewise.

One transaction brings connections, routes and lanes to what the specs say and counts the routing epoch up, so that
dispatchers and workers see either all of a publication or nothing of it. Publishing what is already published
changes nothing, not even the epoch. A publication of any size is some eight statements; one that changes nothing is
two. How connections end for good is in `store.removal`.

Who writes first locks the routing row, so publications follow one another and the next epoch is known from the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from contracts.connection import ConnectionSpec, DeletionPolicy
from contracts.delivery_spec import Ordering
from contracts.ids import ConnectionId, ConnectionUid, PoolId, TenantId
from store.database import Database, run, transaction
from store.leadership import Term, require_term
from store.scopes import arrange_scopes, unknown_zones
from store.statement import statement

CHANNEL = "integration_routing"

LOCK_ROUTING = statement(
    "lock_routing",
    "Let no other publication in until this transaction ends; the epoch it will have.",
    "select epoch + 1 from integration.routing for no key update",
)

COMPARE_CONNECTIONS = statement(
    "compare_connections",
    "What is published of some connections, and whether that differs from what is wanted; no row for new ones. "
    "$1 uids, $2 namespaces, $3 names, $4 specs.",
    """
    select c.uid, c.tenant_id, l.pool_id, p.name, c.epoch,
           c.spec <> w.spec or (c.namespace, c.name) <> (w.namespace, w.name) or l.connection_id is null
               or not exists (select from integration.route r where r.connection_id = c.id and r.active),
           l.scope_id is not null
    from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) as w (uid, namespace, name, spec)
    join integration.connection c using (uid)
    left join integration.lane l on l.connection_id = c.id
    left join integration.pool p on p.id = l.pool_id
    """,
)

SUPERSEDE_CONNECTIONS = statement(
    "supersede_connections",
    "Make way for new objects of old ones' names: an old connection goes on under another name, without intake. "
    "$1 uids, $2 namespaces, $3 names, $4 epoch.",
    """
    with former as (
        update integration.connection c set name = c.name || '~' || c.id, epoch = $4::bigint
        from unnest($1::uuid[], $2::text[], $3::text[]) as w (uid, namespace, name)
        where c.namespace = w.namespace and c.name = w.name and c.uid <> w.uid
        returning c.id
    )
    update integration.route r set active = false from former f where r.connection_id = f.id and r.active
    """,
)

WRITE_CONNECTIONS = statement(
    "write_connections",
    "Write connections and their specs. "
    "$1 uids, $2 tenants, $3 namespaces, $4 names, $5 providers, $6 specs, $7 epoch.",
    """
    insert into integration.connection as c (uid, tenant_id, namespace, name, provider, spec, epoch)
    select w.*, $7::bigint
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[]) as w
    on conflict (uid) do update
    set namespace = excluded.namespace, name = excluded.name, spec = excluded.spec, epoch = excluded.epoch,
        generation = c.generation + 1, deleted_at = null
    returning c.uid, c.id
    """,
)

WRITE_ROUTES = statement(
    "write_routes",
    "Bring connections' routes to their specs; the ids of routes that stay, stay. $1 connections, then for each route "
    "$2 connection, $3 tenant, $4 name, $5 events as a JSON array, $6 filter, $7 ordered.",
    """
    with wanted as (
        select connection_id, tenant_id, name, array(select jsonb_array_elements_text(events)) as events, filter,
               ordered
        from unnest($2::int[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::boolean[])
            as r (connection_id, tenant_id, name, events, filter, ordered)
    ),
    retired as (
        update integration.route r set active = false
        where r.connection_id = any ($1::int[]) and r.active
          and not exists (select from wanted w where w.connection_id = r.connection_id and w.name = r.name)
    )
    insert into integration.route (connection_id, tenant_id, name, events, filter, ordered)
    select connection_id, tenant_id, name, events, filter, ordered from wanted
    on conflict (connection_id, name) do update
    set events = excluded.events, filter = excluded.filter, ordered = excluded.ordered, active = true
    """,
)

# A changed spec is a reason to try a quarantined partner again at once.
WRITE_LANES = statement(
    "write_lanes",
    "Bring connections' lanes to their specs; a new one starts with a full bucket. "
    "$1 connections, $2 tenants, $3 pools, $4 suspended.",
    """
    insert into integration.lane as l (connection_id, tenant_id, pool_id, suspended, tokens, tokens_at)
    select w.*, 'infinity', now()
    from unnest($1::int[], $2::text[], $3::int[], $4::boolean[]) as w (connection_id, tenant_id, pool_id, suspended)
    order by w.connection_id
    on conflict (connection_id) do update
    set suspended = excluded.suspended, revision = l.revision + 1,
        probe_at = case when l.state = 'Quarantined' then now() end,
        probe_asked_by = case when l.state = 'Quarantined' then 'Spec' end
    """,
)

GRANT_TENANTS = statement(
    "grant_tenants",
    "Let pools' roles read tenants' events. $1 pools, $2 tenants.",
    """
    insert into integration.tenant_role (role, tenant_id)
    select distinct p.role, w.tenant_id
    from unnest($1::int[], $2::text[]) as w (pool_id, tenant_id) join integration.pool p on p.id = w.pool_id
    on conflict do nothing
    """,
)

RETIRE_CONNECTIONS = statement(
    "retire_connections",
    "Stop the intake of connections that are no longer wanted; what they have queued is still delivered. "
    "$1 uids, $2 epoch.",
    """
    with stopped as (
        update integration.route r set active = false
        from integration.connection c
        where c.id = r.connection_id and c.uid = any ($1::uuid[]) and r.active
        returning r.connection_id
    )
    update integration.connection set epoch = $2::bigint
    where id in (select connection_id from stopped)
    returning id
    """,
)

RELEASE_LANE = statement(
    "release_lane",
    "Probe a quarantined lane now. $1 namespace, $2 name.",
    """
    update integration.lane l set probe_at = now(), probe_asked_by = 'Person', revision = l.revision + 1
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
           l.state, l.suspended, l.owner is not null, l.quarantined_at, l.quarantine_reason, l.probe_at, l.paused_until,
           p.name, c.epoch
    from integration.lane l
    join integration.connection c on c.id = l.connection_id
    join integration.pool p on p.id = l.pool_id
    order by c.namespace, c.name
    """,
)

READ_POLICIES = statement(
    "read_policies",
    "What connections that have not ended want done when they are deleted; null for the default.",
    "select uid, spec ->> 'deletionPolicy' from integration.connection where deleted_at is null",
)


@dataclass(frozen=True, slots=True)
class PublishedConnection:
    """A connection to be published: identity from the object's metadata, the rest from its spec."""

    uid: ConnectionUid
    namespace: str
    name: str
    spec: ConnectionSpec
    pool: PoolId


@dataclass(frozen=True, slots=True)
class Publication:
    """A connection is published as wanted; `epoch` is the routing epoch with which it last changed."""

    uid: ConnectionUid
    epoch: int
    changed: bool


class RefusalCause(StrEnum):
    """Why a connection is not published."""

    IMMUTABLE_FIELD = "ImmutableField"
    """Its tenant or its pool would change."""
    INVALID_SPEC = "InvalidSpec"
    """The database cannot do what it says."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection stays as it was; `reason` says why in words."""

    uid: ConnectionUid
    reason: str
    cause: RefusalCause = RefusalCause.IMMUTABLE_FIELD


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
    pool: str
    epoch: int


class _Compared(NamedTuple):
    """What is published of a connection that is wanted; no pool if it had ended for good."""

    tenant: TenantId
    pool: PoolId | None
    pool_name: str | None
    epoch: int
    differs: bool
    scoped: bool


async def connection_states(database: Database) -> list[ConnectionState]:
    """Return every connection with its state, by namespace and name; those that ended for good are left out."""
    return list(map(ConnectionState._make, await run(database, LANE_STATES)))


async def published_policies(database: Database) -> dict[ConnectionUid, DeletionPolicy]:
    """Return what the published connections say should become of them when their objects are gone."""
    return {row[0]: DeletionPolicy(row[1] or DeletionPolicy.DRAIN) for row in await run(database, READ_POLICIES)}


async def write_pool(database: Database, name: str, role: str) -> PoolId:
    """Create a pool for a role that somebody else makes, or rename its role; return the pool's id."""
    rows = await run(database, WRITE_POOL, (name, role))
    return PoolId(rows[0][0])


async def publish(
    database: Database, connections: Sequence[PublishedConnection], *, term: Term | None = None
) -> list[Publication | Refusal]:
    """Publish connections, each uid and each name once, in one transaction; return what became of each, in that order.

    Raise SupersededError, with nothing written.
    """
    if not connections:
        return []
    specs = [Jsonb(each.spec.model_dump(mode="json", by_alias=True, exclude_none=True)) for each in connections]
    async with transaction(database):
        await require_term(database, term)
        epoch = await lock_routing(database)
        published = await _compare(database, connections, specs)
        unknown = await _unknown_zones(database, connections)
        answers: list[Publication | Refusal] = []
        changed: list[tuple[PublishedConnection, Jsonb]] = []
        for connection, spec in zip(connections, specs, strict=True):
            answer = _judge(connection, published.get(connection.uid), unknown, epoch)
            answers.append(answer)
            if isinstance(answer, Publication) and answer.changed:
                changed.append((connection, spec))
        if changed:
            await _write(database, changed, epoch)
            await _arrange_scopes(database, [connection for connection, _ in changed], published)
            await count_epoch(database)
    return answers


async def retire(database: Database, uids: Sequence[ConnectionUid], *, term: Term | None = None) -> None:
    """Stop the intake of connections; what they have queued is still delivered."""
    async with transaction(database):
        await require_term(database, term)
        epoch = await lock_routing(database)
        if await run(database, RETIRE_CONNECTIONS, (list(uids), epoch)):
            await count_epoch(database)


async def release(database: Database, namespace: str, name: str, *, term: Term | None = None) -> bool:
    """Have a quarantined connection probed at once; False if it is not quarantined."""
    async with transaction(database):
        await require_term(database, term)
        if not await run(database, RELEASE_LANE, (namespace, name)):
            return False
        await count_epoch(database)
        return True


async def lock_routing(database: Database) -> int:
    """Let no other publication in until the transaction under way ends; return the epoch that this one will have."""
    rows = await run(database, LOCK_ROUTING)
    epoch: int = rows[0][0]
    return epoch


async def count_epoch(database: Database) -> None:
    """Count the epoch up and wake all who hold an older one."""
    await run(database, COUNT_EPOCH)


async def _compare(
    database: Database, connections: Sequence[PublishedConnection], specs: Sequence[Jsonb]
) -> dict[ConnectionUid, _Compared]:
    uids, namespaces, names = zip(*((each.uid, each.namespace, each.name) for each in connections), strict=True)
    rows = await run(database, COMPARE_CONNECTIONS, (list(uids), list(namespaces), list(names), list(specs)))
    return {row[0]: _Compared._make(row[1:]) for row in rows}


async def _unknown_zones(database: Database, connections: Sequence[PublishedConnection]) -> frozenset[str]:
    zones = {budget.reset_zone for each in connections if (budget := each.spec.delivery.throttle.daily_budget)}
    return await unknown_zones(database, sorted(zones)) if zones else frozenset()


def _judge(
    wanted: PublishedConnection, published: _Compared | None, unknown_zones: frozenset[str], epoch: int
) -> Publication | Refusal:
    budget = wanted.spec.delivery.throttle.daily_budget
    if budget is not None and budget.reset_zone in unknown_zones:
        reason = f"delivery.throttle.dailyBudget.resetZone: the database knows no time zone {budget.reset_zone}"
        return Refusal(wanted.uid, f"{reason}; name one such as Europe/Berlin", RefusalCause.INVALID_SPEC)
    if published is None:
        return Publication(wanted.uid, epoch, changed=True)
    name = f"{wanted.namespace}/{wanted.name}"
    if published.tenant != wanted.spec.tenant:
        reason = f"{name} belongs to tenant {published.tenant}, not to {wanted.spec.tenant}"
        return Refusal(wanted.uid, f"{reason}; delete the connection and create it anew")
    if published.pool is not None and published.pool != wanted.pool:
        reason = f"{name} is delivered by pool {published.pool_name} and cannot move to another with jobs under way"
        return Refusal(wanted.uid, f"{reason}; delete the connection and create it anew")
    return Publication(wanted.uid, epoch if published.differs else published.epoch, published.differs)


async def _write(database: Database, changed: Sequence[tuple[PublishedConnection, Jsonb]], epoch: int) -> None:
    """Write connections that are new or differ. Workers lock lanes last as well, hence the order."""
    wanted = [connection for connection, _ in changed]
    uids = [each.uid for each in wanted]
    names = [each.namespace for each in wanted], [each.name for each in wanted]
    tenants = [each.spec.tenant for each in wanted]
    await run(database, SUPERSEDE_CONNECTIONS, (uids, *names, epoch))
    providers = [each.spec.provider.value for each in wanted]
    parameters = (uids, tenants, *names, providers, [spec for _, spec in changed], epoch)
    ids: dict[ConnectionUid, ConnectionId] = dict(await run(database, WRITE_CONNECTIONS, parameters))
    connections = [ids[uid] for uid in uids]
    await run(database, WRITE_ROUTES, (connections, *_route_columns(wanted, ids)))
    pools = [each.pool for each in wanted]
    await run(database, WRITE_LANES, (connections, tenants, pools, [each.spec.suspend for each in wanted]))
    await run(database, GRANT_TENANTS, (pools, tenants))


async def _arrange_scopes(
    database: Database, changed: Sequence[PublishedConnection], published: dict[ConnectionUid, _Compared]
) -> None:
    """Bring the scopes of those tenants to their specs that have a say in any, or had."""
    tenants = [
        each.spec.tenant
        for each in changed
        if each.spec.delivery.throttle.scope is not None
        or each.spec.delivery.throttle.daily_budget is not None
        or ((former := published.get(each.uid)) is not None and former.scoped)
    ]
    if tenants:
        await arrange_scopes(database, tenants)


def _route_columns(
    wanted: Sequence[PublishedConnection], ids: dict[ConnectionUid, ConnectionId]
) -> tuple[list[Any], ...]:
    routes = [(ids[each.uid], each.spec.tenant, route) for each in wanted for route in each.spec.routes]
    return (
        [connection for connection, _, _ in routes],
        [tenant for _, tenant, _ in routes],
        [route.name for _, _, route in routes],
        [Jsonb(list(route.events)) for _, _, route in routes],
        [route.filter for _, _, route in routes],
        [route.ordering is Ordering.PER_SUBJECT for _, _, route in routes],
    )
