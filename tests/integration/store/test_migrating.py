"""Migrating is safe at any time and by several at once, and what it makes is the schema that is written down."""

import difflib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local.postgres import PostgresServer
from local.postgres_installation import find_installation
from store import roles
from store.database import connect
from store.dispatch import read_cursor
from store.errors import DatabaseUnreachableError, NotMigratedError
from store.migrate import Migrated, expected_revision, migrate

SCHEMA = Path(__file__).parents[3] / "store" / "schema.sql"
REGENERATE = "REGENERATE_SCHEMA"

HEAD = """\
-- The schema as all migrations together make it, for reading. Written by the tests: after a new migration, run
--     REGENERATE_SCHEMA=1 python -m pytest tests/integration/store/test_migrating.py
"""


def test_the_first_run_makes_the_schema_and_every_other_changes_nothing(empty_database: str) -> None:
    first = migrate(empty_database)
    before = normalised(dump(empty_database))
    second = migrate(empty_database)

    assert (first.before, first.after) == (None, expected_revision())
    assert second == Migrated(expected_revision(), expected_revision(), rebased=False)
    assert normalised(dump(empty_database)) == before


def migrate_at_once(*dsns: str) -> list[str]:
    """Migrate in a process for each, as programs do; return what they said."""
    program = "import sys; from store.migrate import migrate; print(migrate(sys.argv[1]).before)"
    runs = [subprocess.Popen([sys.executable, "-c", program, dsn], stdout=subprocess.PIPE, text=True) for dsn in dsns]
    return [run.communicate()[0].strip() for run in runs]


def test_of_two_runs_at_once_one_waits_for_the_other(empty_database: str) -> None:
    assert sorted(migrate_at_once(empty_database, empty_database)) == sorted(["None", expected_revision()])


def test_two_databases_of_one_server_are_migrated_at_once(empty_database: str, another_empty_database: str) -> None:
    assert migrate_at_once(empty_database, another_empty_database) == ["None", "None"]


def test_a_run_that_is_killed_leaves_nothing(empty_database: str, postgres: PostgresServer) -> None:
    with psycopg.connect(empty_database, autocommit=True) as blocking, pytest.raises(Exception, match="terminat"):
        # The role that the migration grants to is locked, so that it waits in the middle.
        blocking.execute("create schema integration")
        blocking.execute("create table integration.schema_version (version_num varchar(32) not null primary key)")
        with blocking.transaction():
            blocking.execute("lock table integration.schema_version")
            killer = threading.Thread(target=_kill_what_waits, args=(postgres.dsn(),))
            killer.start()
            migrate(empty_database)
    killer.join()

    assert migrate(empty_database).after == expected_revision()


def _kill_what_waits(admin_dsn: str) -> None:
    kill = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'integrations-migrate' and wait_event_type = 'Lock'"
    )
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        while not admin.execute(kill).fetchall():
            pass


def test_an_unreachable_server_is_named_without_the_password() -> None:
    with pytest.raises(DatabaseUnreachableError) as failed:
        migrate("postgresql://somebody:open-sesame@127.0.0.1:1/x")

    assert "open-sesame" not in str(failed.value)


@pytest.mark.anyio
async def test_a_program_on_an_empty_database_is_told_to_migrate(empty_database: str) -> None:
    async with await connect(empty_database, "test") as database:
        with pytest.raises(NotMigratedError, match="integrations migrate"):
            await read_cursor(database)


def test_every_group_role_of_the_code_is_made_by_the_migrations(
    migrated_template: str, postgres: PostgresServer
) -> None:
    with psycopg.connect(postgres.dsn()) as admin:
        made = {row[0] for row in admin.execute("select rolname from pg_roles where not rolcanlogin").fetchall()}

    assert {group.value for group in roles.Group} <= made


# The schema as written down ---------------------------------------------------------------------------------------


@pytest.fixture
def another_empty_database(postgres: PostgresServer, owner: str) -> Iterator[str]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(f"create database another owner {owner}".encode())
        try:
            yield postgres.dsn("another", owner, "a password for tests only")
        finally:
            admin.execute("drop database another with (force)")


def dump(dsn: str) -> str:
    command = [find_installation().program("pg_dump"), "--schema-only", "--no-owner", "--schema=integration", dsn]
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def normalised(dumped: str) -> str:
    """Leave out what differs from run to run: comments, settings, the days' partitions."""
    dumped = re.sub(r"^\\(un)?restrict .*$", "", dumped, flags=re.MULTILINE)
    statements = re.split(r";\n\n", re.sub(r"^--.*\n", "", dumped, flags=re.MULTILINE))
    kept = [
        statement.strip() + ";"
        for statement in statements
        if statement.strip()
        and not re.search(r"_\d{8}", statement)
        and not re.match(r"\s*(SET|SELECT pg_catalog\.set_config)\b", statement)
    ]
    return HEAD + "\n" + "\n\n".join(kept) + "\n"


def test_the_schema_written_down_is_the_sum_of_the_migrations(empty_database: str) -> None:
    migrate(empty_database)
    schema = normalised(dump(empty_database))
    if os.environ.get(REGENERATE):
        SCHEMA.write_text(schema, encoding="utf-8")
    written = SCHEMA.read_text(encoding="utf-8")

    difference = "".join(
        difflib.unified_diff(written.splitlines(True), schema.splitlines(True), "written", "migrated", n=1)
    )
    assert difference == "", f"set {REGENERATE}=1 and run this test to write it anew"
