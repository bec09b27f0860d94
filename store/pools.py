"""Pools: their logins, what they have to do, and who works in them.

A pool's workers log in as a role of their own. The operator may make no roles: functions of the schema's owner do it,
for roles that are a pool's and nothing else (second migration). Passwords reach the server as SCRAM verifiers only.
"""

import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from psycopg import errors

from contracts.ids import PoolId
from store.database import Database, run, transaction
from store.errors import PoolRoleError
from store.leadership import Term, require_term
from store.statement import Statement, statement

_ITERATIONS = 4096  # as PostgreSQL does; passwords of pools are random and long

READ_POOLS = statement(
    "read_pools", "Every pool.", "select id, name, role, credential from integration.pool order by name"
)

ENSURE_POOL = statement(
    "ensure_pool",
    "Create a pool unless there is one of that name. $1 name, $2 role.",
    "insert into integration.pool (name, role) values ($1::text, $2::name) on conflict (name) do nothing",
)

READ_POOL = statement(
    "read_pool",
    "One pool. $1 name.",
    "select id, name, role, credential from integration.pool where name = $1::text",
)

SET_POOL_CREDENTIAL = statement(
    "set_pool_credential",
    "Give a pool's role a login with a password. $1 pool, $2 id of the password, $3 its verifier.",
    "select integration.set_pool_credential($1::text, $2::text, $3::text)",
)

LOCK_POOL = statement(
    "lock_pool",
    "Let no lane and no session into a pool until this transaction ends; whether it has lanes. $1 name.",
    """
    select exists (select from integration.lane l where l.pool_id = p.id)
    from integration.pool p where p.name = $1::text for update
    """,
)

END_SESSIONS = statement(
    "end_sessions",
    "End the sessions of a pool's workers. $1 pool.",
    """
    delete from integration.worker_session
    where pool_id = (select id from integration.pool where name = $1::text)
    """,
)

REVOKE_TENANTS = statement(
    "revoke_tenants",
    "Let a pool's role read no tenant's events any more. $1 pool.",
    """
    delete from integration.tenant_role where role = (select role from integration.pool where name = $1::text)
    """,
)

DROP_POOL = statement(
    "drop_pool",
    "Delete an empty pool and drop its role. $1 pool.",
    "select integration.drop_pool($1::text)",
)

COUNT_SESSIONS = statement(
    "count_sessions",
    "Live worker sessions of each pool.",
    """
    select p.name, count(*) from integration.worker_session s join integration.pool p on p.id = s.pool_id
    where s.lease_until > now() group by p.name
    """,
)

# Connections with jobs are found by hopping through the partial indexes, one probe a connection; those without cost
# nothing, however many there are.
READ_DEMAND = statement(
    "read_demand",
    "Lanes that can deliver now, by pool: how many jobs, how long the first has waited, how fast it may go. "
    "$1 jobs counted at most a lane, $2 seconds ahead that a pause may end.",
    """
    with recursive ready (connection_id) as (
        (select connection_id from integration.job where state = 0 order by connection_id, id limit 1)
        union all
        select (select j.connection_id from integration.job j where j.state = 0 and j.connection_id > r.connection_id
                order by j.connection_id, j.id limit 1)
        from ready r where r.connection_id is not null
    ),
    deferred (connection_id) as (
        (select connection_id from integration.job where state = 1 order by connection_id, run_at, id limit 1)
        union all
        select (select j.connection_id from integration.job j where j.state = 1 and j.connection_id > d.connection_id
                order by j.connection_id, j.run_at, j.id limit 1)
        from deferred d where d.connection_id is not null
    ),
    busy as (
        select connection_id from ready where connection_id is not null
        union
        select connection_id from deferred where connection_id is not null
    ),
    open_lane as (
        select l.connection_id, l.pool_id,
               (select case when j.replay_id is null then now() - j.event_at else interval '0' end
                from integration.job j where j.state = 0
                and j.connection_id = l.connection_id order by j.connection_id, j.id limit 1) as ready_for,
               (select now() - j.run_at from integration.job j where j.state = 1
                and j.connection_id = l.connection_id order by j.connection_id, j.run_at, j.id limit 1) as due_for
        from busy join integration.lane l using (connection_id)
        where l.state = 'Open' and not l.suspended
          and (l.paused_until is null or l.paused_until <= now() + make_interval(secs => $2::float8))
    ),
    counted as (
        select o.connection_id, o.pool_id,
               greatest(o.ready_for, case when o.due_for >= interval '0' then o.due_for end) as waited,
               case when o.ready_for is null then 0 else (
                   select count(*) from (select from integration.job j where j.state = 0
                       and j.connection_id = o.connection_id order by j.connection_id, j.id limit $1::int) r
               ) end
               + case when o.due_for is null or o.due_for < interval '0' then 0 else (
                   select count(*) from (select from integration.job j where j.state = 1
                       and j.connection_id = o.connection_id and j.run_at <= now()
                       order by j.connection_id, j.run_at, j.id limit $1::int) d
               ) end as backlog
        from open_lane o
    ),
    probing as (
        select l.connection_id, l.pool_id, now() - l.probe_at as waited, 1::bigint as backlog
        from integration.lane l
        where l.state = 'Quarantined' and l.probe_at <= now() and not l.suspended and (
            exists (select from integration.job j where j.state = 0 and j.connection_id = l.connection_id)
            or exists (select from integration.job j where j.state = 1 and j.connection_id = l.connection_id)
            or exists (select from integration.job j where j.state = 2 and j.connection_id = l.connection_id)
        )
    )
    select p.name, extract(epoch from d.waited)::float8, least(d.backlog, $1::int)::int,
           (c.spec #>> '{delivery,throttle,requestsPerSecond}')::float8,
           (c.spec #>> '{delivery,throttle,concurrency}')::int
    from (select * from counted where backlog > 0 union all select * from probing) d
    join integration.pool p on p.id = d.pool_id
    join integration.connection c on c.id = d.connection_id
    order by p.name, d.connection_id
    """,
    hot=True,
)

COUNTED_AT_MOST = 10_000
SOON_SECONDS = 5.0
"""A pause that ends within this is over by the time a worker has started."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The unit of isolation: the workers of one Deployment. `credential` is the id of the password in force."""

    id: PoolId
    name: str
    role: str
    credential: str | None


@dataclass(frozen=True, slots=True)
class LaneDemand:
    """What one connection could do now. `backlog` is counted up to 10,000; for a quarantined one it is its probe."""

    backlog: int
    requests_per_second: float
    concurrency: int


@dataclass(frozen=True, slots=True)
class PoolDemand:
    """What a pool could do now; `oldest_age_seconds` says how long the first job has waited that nothing holds up."""

    pool: str
    oldest_age_seconds: float
    lanes: tuple[LaneDemand, ...]


async def read_pools(database: Database) -> list[Pool]:
    """Return every pool by name."""
    return [Pool(*row) for row in await run(database, READ_POOLS)]


async def ensure_pool(database: Database, name: str, *, term: Term | None = None) -> Pool:
    """Return the pool of that name, creating it if need be; its role has no login before it has a credential."""
    async with transaction(database):
        await require_term(database, term)
        await run(database, ENSURE_POOL, (name, _role(name)))
        rows = await run(database, READ_POOL, (name,))
    return Pool(*rows[0])


async def set_credential(
    database: Database, pool: str, credential: str, verifier: str, *, term: Term | None = None
) -> None:
    """Give a pool's role this password, by its verifier, and record its id; raise PoolRoleError.

    Sessions that are open stay open; the former password opens no new ones.
    """
    async with transaction(database):
        await require_term(database, term)
        await _on_role(database, SET_POOL_CREDENTIAL, (pool, credential, verifier))


async def drop_pool(database: Database, name: str, *, term: Term | None = None) -> bool:
    """Delete a pool, its workers' sessions and its role; False if it has lanes. A pool that is gone is gone.

    Raise PoolRoleError.
    """
    async with transaction(database):
        await require_term(database, term)
        for (has_lanes,) in await run(database, LOCK_POOL, (name,)):
            if has_lanes:
                return False
            await run(database, END_SESSIONS, (name,))
            await run(database, REVOKE_TENANTS, (name,))
            await _on_role(database, DROP_POOL, (name,))
    return True


async def session_counts(database: Database) -> dict[str, int]:
    """Return how many live worker sessions each pool has, those without any left out."""
    return dict(await run(database, COUNT_SESSIONS))


async def read_demand(database: Database) -> list[PoolDemand]:
    """Return what pools could do now, those with nothing to do left out; on a connection opened with `queue`."""
    rows = await run(database, READ_DEMAND, (COUNTED_AT_MOST, SOON_SECONDS))
    return [_demand(pool, list(lanes)) for pool, lanes in groupby(rows, key=lambda row: row[0])]


def scram_verifier(password: str) -> str:
    """Return what PostgreSQL stores of a password (RFC 5802, RFC 7677), so that it need not see the password itself."""
    if not password.isascii() or not password.isprintable():
        raise ValueError("a pool's password is printable ASCII; others are prepared in ways not implemented here")
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _role(pool: str) -> str:
    return f"integration_pool_{hashlib.sha256(pool.encode()).hexdigest()[:16]}"


def _demand(pool: str, rows: Sequence[tuple[Any, ...]]) -> PoolDemand:
    lanes = tuple(LaneDemand(backlog, rate, concurrency) for _, _, backlog, rate, concurrency in rows)
    return PoolDemand(pool, max(0.0, *(row[1] for row in rows)), lanes)


async def _on_role(database: Database, what: Statement, parameters: Sequence[object]) -> None:
    try:
        await run(database, what, parameters)
    except (errors.InsufficientPrivilege, errors.InvalidParameterValue) as error:
        raise PoolRoleError(
            f"{error.diag.message_primary}; {error.diag.message_hint or 'ask the schema owner'}"
        ) from None
