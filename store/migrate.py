"""Bring a database to this program's schema: `integrations migrate`.

Safe to run at any time, by several at once (an advisory lock lets one go first), and again after being killed: it is
one transaction, and one more after a restore. Programs of the former release keep working on the new schema.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import Connection

from contracts.events import canonical_event_types
from store.errors import DatabaseUnreachableError

_LOCK = 7_305_411_902_641_113  # any constant; its users are this program's other runs
_MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a run did: the schema's revision before (None: no schema) and after; whether dispatch was rebased."""

    before: str | None
    after: str
    rebased: bool


def migrate(dsn: str) -> Migrated:
    """Upgrade the schema and load the canonical event types; raise DatabaseUnreachableError."""
    try:
        psycopg.connect(dsn, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        raise DatabaseUnreachableError(f"cannot reach the database: {str(error).strip().splitlines()[0]}") from error
    engine = create_engine("postgresql+psycopg://", connect_args=_connect_args(dsn), poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({_LOCK})")
        connection.exec_driver_sql("create schema if not exists integration")
        before = _revision(connection)
        _upgrade(connection)
        _load_event_types(connection)
    with engine.begin() as connection:
        rebased = _rebase(connection)
    return Migrated(before, expected_revision(), rebased)


def expected_revision() -> str:
    """Return the newest revision that this program knows."""
    head = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    if head is None:
        raise RuntimeError("this installation lacks its migrations")
    return head


def _connect_args(dsn: str) -> dict[str, Any]:
    return {**conninfo_to_dict(dsn), "application_name": "integrations-migrate"}


def _revision(connection: Connection) -> str | None:
    options = {"version_table": "schema_version", "version_table_schema": "integration"}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _load_event_types(connection: Connection) -> None:
    for known in canonical_event_types():
        connection.exec_driver_sql(
            "insert into integration.event_type (type, version, required_keys) values (%s, %s, %s) "
            "on conflict (type) do update set version = excluded.version, required_keys = excluded.required_keys",
            (known.type, known.schema_version, list(known.required_keys)),
        )


def _rebase(connection: Connection) -> bool:
    """Find the undispatched events anew if this database was restored from a dump into another cluster.

    Transaction numbers were copied with the rows and mean nothing here. What the cursor calls undispatched is still
    computed from the copied numbers alone. Those events get this transaction's number, which the snapshot taken before
    it had one cannot have seen; all others get number 2, which every snapshot has. Events emitted here before this ran
    would be taken for dispatched or not by chance, hence the order: restore, migrate, then start producers.
    """
    before = connection.exec_driver_sql("select pg_current_snapshot()::text").scalar_one()
    restored = connection.exec_driver_sql(
        "select system_identifier <> (select system_identifier from pg_control_system()) "
        "from integration.dispatch_cursor"
    ).scalar_one()
    if not restored:
        return False
    connection.exec_driver_sql(
        "update integration.event e set xid = case "
        "when pg_visible_in_snapshot(e.xid, c.lower) "
        "or (c.upper is not null and e.id <= c.last_event_id and pg_visible_in_snapshot(e.xid, c.upper)) "
        "then '2'::xid8 else pg_current_xact_id() end from integration.dispatch_cursor c"
    )
    connection.exec_driver_sql(
        "update integration.dispatch_cursor set lower = %s::pg_snapshot, upper = null, last_event_id = 0, "
        "revision = revision + 1, system_identifier = (select system_identifier from pg_control_system())",
        (before,),
    )
    return True
