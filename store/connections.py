"""One connection as it is published, for whoever has its name."""

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


class FoundConnection(NamedTuple):
    """What is published of a connection; `clock` is the database's, in seconds since 1970."""

    uid: ConnectionUid
    tenant: TenantId
    spec: dict[str, Any]
    clock: float


async def find_connection(database: Database, namespace: str, name: str) -> FoundConnection | None:
    """Return a connection that has not ended, or None."""
    rows = await run(database, FIND_CONNECTION, (namespace, name))
    return FoundConnection(*rows[0]) if rows else None
