"""What connections found out about their partners' accounts; all of it can be found out again."""

from datetime import datetime
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from contracts.ids import ConnectionUid
from store.database import Database, run
from store.statement import statement

READ_FACT = statement(
    "read_fact",
    "What a connection knows under a name, and since when. $1 uid, $2 name.",
    """
    select f.value, f.learned_at
    from integration.partner_fact f join integration.connection c on c.id = f.connection_id
    where c.uid = $1::uuid and f.name = $2::text
    """,
)

WRITE_FACT = statement(
    "write_fact",
    "Remember something of a connection's partner. $1 uid, $2 name, $3 value.",
    """
    insert into integration.partner_fact (connection_id, tenant_id, name, value)
    select c.id, c.tenant_id, $2::text, $3::jsonb from integration.connection c where c.uid = $1::uuid
    on conflict (connection_id, name) do update set value = excluded.value, learned_at = now()
    """,
)

FORGET_FACT = statement(
    "forget_fact",
    "Forget something of a connection's partner. $1 uid, $2 name.",
    """
    delete from integration.partner_fact f using integration.connection c
    where c.id = f.connection_id and c.uid = $1::uuid and f.name = $2::text
    """,
)

DELETE_FACTS = statement(
    "delete_facts",
    "Forget all that connections found out, as they end. $1 connections.",
    "delete from integration.partner_fact where connection_id = any ($1::int[])",
)


class FactRow(NamedTuple):
    """A JSON value and when it was learned."""

    value: Any
    learned_at: datetime


async def read_fact(database: Database, connection: ConnectionUid, name: str) -> FactRow | None:
    """Return what a connection knows under a name."""
    rows = await run(database, READ_FACT, (connection, name))
    return FactRow._make(rows[0]) if rows else None


async def write_fact(database: Database, connection: ConnectionUid, name: str, value: object) -> None:
    """Remember a JSON value in place of what was known."""
    await run(database, WRITE_FACT, (connection, name, Jsonb(value)))


async def forget_fact(database: Database, connection: ConnectionUid, name: str) -> None:
    """Forget it."""
    await run(database, FORGET_FACT, (connection, name))
