"""Throttle scopes: limits that several connections share, and daily budgets, exact whoever owns the lanes under them.

A scope is a row. Publications bring it to what its connections state; workers draw permits from it, each for one call,
and tell what became of those they have. What both do is in two functions of the database (ninth migration), so that a
row is locked for one round trip at most. Lanes without a scope cost no statement here.

A worker that dies loses the permits it had drawn: their tokens return as time passes, their places with the end of its
session, and the day's calls not at all, so that a budget is never exceeded.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from contracts.ids import ConnectionId, SessionId, TenantId
from store.database import Database, run
from store.errors import LeaseLostError
from store.statement import statement

CHANNEL = "integration_permits"
"""Notified when requests have ended in a scope in which others wait for a place."""

UNKNOWN_ZONES = statement(
    "unknown_zones",
    "Those of some time zones that the database does not know. $1 names.",
    "select z from unnest($1::text[]) as z where not integration.knows_zone(z)",
)

SCOPED_TENANTS = statement(
    "scoped_tenants",
    "The tenants of those of some connections whose lanes are under a scope. $1 connections.",
    """
    select distinct tenant_id from integration.lane where connection_id = any ($1::int[]) and scope_id is not null
    """,
)

ARRANGE_SCOPES = statement(
    "arrange_scopes",
    "Bring the scopes of tenants to what their connections state. $1 tenants.",
    "select integration.arrange_scopes($1::text[])",
)

# The session is locked first, as every settlement does it: a worker whose lease was taken draws nothing.
DRAW_PERMITS = statement(
    "draw_permits",
    "Tell what lanes have of their scopes and draw more; no row: the lease was lost. $1 session, then for each lane "
    "$2 connection, $3 weight, $4 requests under way, $5 unused permits in hand, $6 seconds since the latest use, "
    "$7 permits given back, $8 seconds for which the partner wants silence, $9 permits wanted.",
    """
    with fence as materialized (
        select id from integration.worker_session where id = $1::bigint for key share
    )
    select d.connection, d.granted, d.wait_seconds, d.day_ends_in_seconds, d.crowded
    from fence
    left join lateral integration.draw_permits(
        fence.id, $2::int[], $3::int[], $4::int[], $5::int[], $6::float8[], $7::int[], $8::float8[], $9::int[]
    ) d on true
    """,
    hot=True,
)


READ_SCOPE = statement(
    "read_scope",
    "What a connection is under, and how many connections with it. $1 namespace, $2 name.",
    """
    select case when not starts_with(s.name, '~') then s.name end, s.requests_per_second, s.burst, s.concurrency,
           (select count(*) from integration.lane o where o.scope_id = s.id), s.daily_limit,
           case when s.resets_at > now() then s.spent else 0 end, s.reset_zone, s.resets_at,
           s.paused_until
    from integration.connection c
    join integration.lane l on l.connection_id = c.id
    join integration.throttle_scope s on s.id = l.scope_id
    where c.namespace = $1::text and c.name = $2::text
    """,
)

READ_BUDGETS = statement(
    "read_budgets",
    "Every daily budget and what of it is spent; that of a single connection goes by the connection's name.",
    """
    select s.tenant_id, coalesce(c.namespace || '/' || c.name, s.name), s.daily_limit,
           case when s.resets_at > now() then s.spent else 0 end
    from integration.throttle_scope s
    left join integration.connection c on s.name = '~' || c.id
    where s.daily_limit is not null
    """,
)


class Draw(NamedTuple):
    """What a lane has of its scope, and wants.

    `used_ago_seconds` is None if it used nothing since its last draw; `rests_seconds` if its partner asked for nothing.
    """

    connection: ConnectionId
    weight: int
    under_way: int
    in_hand: int
    used_ago_seconds: float | None
    unused: int
    rests_seconds: float | None
    wanted: int


class Drawn(NamedTuple):
    """What a lane got.

    `wait_seconds` from now it should ask again, if it still wants more. `day_ends_in_seconds`: no permit outlives its
    day. `crowded`: somebody may wait for one of its requests to end.
    """

    connection: ConnectionId
    granted: int
    wait_seconds: float
    day_ends_in_seconds: float | None
    crowded: bool


class ScopeDetails(NamedTuple):
    """What a connection is under. Without a name it is the budget of that connection alone, and limits nothing else."""

    name: str | None
    requests_per_second: float | None
    burst: int | None
    concurrency: int | None
    connections: int
    daily_limit: int | None
    spent: int
    reset_zone: str | None
    resets_at: datetime | None
    paused_until: datetime | None


class Budget(NamedTuple):
    """The calls of a day."""

    tenant: TenantId
    scope: str
    limit: int
    spent: int


async def unknown_zones(database: Database, zones: Sequence[str]) -> frozenset[str]:
    """Return those time zones that the database does not know."""
    return frozenset(row[0] for row in await run(database, UNKNOWN_ZONES, (list(zones),)))


async def scoped_tenants(database: Database, connections: Sequence[ConnectionId]) -> list[TenantId]:
    """Return the tenants of those connections whose lanes are under a scope."""
    return [row[0] for row in await run(database, SCOPED_TENANTS, (list(connections),))]


async def arrange_scopes(database: Database, tenants: Sequence[TenantId]) -> None:
    """Bring the scopes of tenants to what their connections state; call after lanes were written."""
    await run(database, ARRANGE_SCOPES, (sorted(set(tenants)),))


async def draw_permits(database: Database, session: SessionId, draws: Sequence[Draw]) -> list[Drawn]:
    """Tell and draw, for some lanes; those that have no scope any more, or another owner, get no answer.

    Raise LeaseLostError, with nothing drawn.
    """
    columns = [list(column) for column in zip(*draws, strict=True)]
    rows = await run(database, DRAW_PERMITS, (session, *columns))
    if not rows:
        raise LeaseLostError(f"session {session} was taken before it drew permits")
    return [Drawn._make(row) for row in rows if row[0] is not None]


async def read_scope(database: Database, namespace: str, name: str) -> ScopeDetails | None:
    """Return what a connection is under; None if its owner decides alone."""
    rows = await run(database, READ_SCOPE, (namespace, name))
    return ScopeDetails._make(rows[0]) if rows else None


async def read_budgets(database: Database) -> list[Budget]:
    """Return every daily budget."""
    return [Budget._make(row) for row in await run(database, READ_BUDGETS)]
