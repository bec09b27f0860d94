"""OAuth grants of connections, as sealed bytes, and the right to renew one; the database never holds a key.

A grant's version counts. Tokens are written over the version that they were got for, and no other, whoever wrote that.
The right to renew a version is somebody's for a time; it keeps others from renewing, not from writing what they have
got.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from contracts.ids import ConnectionUid
from store.database import Database, run
from store.statement import statement

READ_GRANT = statement(
    "read_grant",
    "A connection's grant; times in seconds since 1970. $1 uid.",
    """
    select t.version, t.sealed, t.key_name, extract(epoch from t.obtained_at)::float8,
           extract(epoch from t.expires_at)::float8, t.details, t.refusal, extract(epoch from t.tried_since)::float8,
           extract(epoch from t.rests_until)::float8
    from integration.oauth_token t join integration.connection c on c.id = t.connection_id
    where c.uid = $1::uuid
    """,
)

CLAIM_GRANT = statement(
    "claim_grant",
    "Take the right to renew a version, or to begin a grant; no row if it is not to be had. "
    "$1 uid, $2 version, $3 who, $4 seconds.",
    """
    insert into integration.oauth_token as t (connection_id, tenant_id, holder, held_until, tried_since)
    select c.id, c.tenant_id, $3::bigint, clock_timestamp() + make_interval(secs => $4::float8), clock_timestamp()
    from integration.connection c
    where c.uid = $1::uuid and (
        $2::bigint = 0 or exists (select from integration.oauth_token e where e.connection_id = c.id)
    )
    on conflict (connection_id) do update
        set holder = excluded.holder, held_until = excluded.held_until,
            tried_since = coalesce(t.tried_since, excluded.tried_since)
        where t.version = $2::bigint and coalesce(t.held_until <= clock_timestamp(), true)
          and coalesce(t.rests_until <= clock_timestamp(), true)
    returning 1
    """,
)

RELEASE_GRANT = statement(
    "release_grant",
    "Give the right back; nobody has it for a while. $1 uid, $2 version, $3 who, $4 seconds.",
    """
    update integration.oauth_token t
    set holder = null, held_until = null, rests_until = clock_timestamp() + make_interval(secs => $4::float8)
    from integration.connection c
    where c.id = t.connection_id and c.uid = $1::uuid and t.version = $2::bigint and t.holder = $3::bigint
    """,
)

SAVE_GRANT = statement(
    "save_grant",
    "Write new tokens over a version; no row if it is another by now. "
    "$1 uid, $2 version, $3 sealed, $4 key, $5 seconds of life, $6 details.",
    """
    insert into integration.oauth_token as t
        (connection_id, tenant_id, version, sealed, key_name, obtained_at, expires_at, details)
    select c.id, c.tenant_id, $2::bigint + 1, $3::bytea, $4::text, clock_timestamp(),
           clock_timestamp() + make_interval(secs => $5::float8), $6::jsonb
    from integration.connection c where c.uid = $1::uuid
    on conflict (connection_id) do update
        set version = excluded.version, sealed = excluded.sealed, key_name = excluded.key_name,
            obtained_at = excluded.obtained_at, expires_at = excluded.expires_at, details = excluded.details,
            refused_at = null, refusal = null, holder = null, held_until = null, tried_since = null, rests_until = null
        where t.version = $2::bigint
    returning t.version, extract(epoch from t.obtained_at)::float8, extract(epoch from t.expires_at)::float8
    """,
)

REFUSE_GRANT = statement(
    "refuse_grant",
    "Note why the partner wants no more of a version. $1 uid, $2 version, $3 why.",
    """
    update integration.oauth_token t
    set refused_at = now(), refusal = left($3::text, 500), holder = null, held_until = null
    from integration.connection c
    where c.id = t.connection_id and c.uid = $1::uuid and t.version = $2::bigint
    """,
)

DELETE_GRANTS = statement(
    "delete_grants",
    "Forget the grants of connections, as they end. $1 connections.",
    "delete from integration.oauth_token where connection_id = any ($1::int[])",
)


class GrantRow(NamedTuple):
    """A grant as it is kept; times in seconds since 1970."""

    version: int
    sealed: bytes | None
    key_name: str | None
    obtained_at: float | None
    expires_at: float | None
    details: Mapping[str, Any]
    refusal: str | None
    tried_since: float | None
    rests_until: float | None


class SavedRow(NamedTuple):
    """What was written: the version and its times, in seconds since 1970."""

    version: int
    obtained_at: float
    expires_at: float


async def read_grant(database: Database, connection: ConnectionUid) -> GrantRow | None:
    """Return a connection's grant."""
    rows = await run(database, READ_GRANT, (connection,))
    return GrantRow._make(rows[0]) if rows else None


async def claim_grant(
    database: Database, connection: ConnectionUid, version: int, holder: int, hold: timedelta
) -> bool:
    """Take the right to renew a version (0: to begin a grant); whether it was to be had."""
    return bool(await run(database, CLAIM_GRANT, (connection, version, holder, hold.total_seconds())))


async def release_grant(
    database: Database, connection: ConnectionUid, version: int, holder: int, rest: timedelta
) -> None:
    """Give the right back, if it is still the holder's, and let nobody have it before `rest` is over."""
    await run(database, RELEASE_GRANT, (connection, version, holder, rest.total_seconds()))


async def save_grant(
    database: Database,
    connection: ConnectionUid,
    version: int,
    sealed: tuple[str, bytes],
    life: timedelta,
    details: Mapping[str, object],
) -> SavedRow | None:
    """Write tokens, sealed by the key of that name, over a version; None if it is another one by now."""
    key_name, content = sealed
    parameters = (connection, version, content, key_name, life.total_seconds(), Jsonb(dict(details)))
    rows = await run(database, SAVE_GRANT, parameters)
    return SavedRow._make(rows[0]) if rows else None


async def refuse_grant(database: Database, connection: ConnectionUid, version: int, reason: str) -> None:
    """Note why the partner wants no more of a version, if it is still the newest."""
    await run(database, REFUSE_GRANT, (connection, version, reason))
