"""A PostgreSQL server that flushes to the disk and may crash, and in it a migrated template to copy databases from."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from chaos.waiting import free_port
from local.postgres import PostgresServer, StopMode
from store.migrate import migrate
from store.roles import Group, ensure_login

PASSWORD = "a password for tests only"
TEMPLATE = "chaos_template"
ROLES = {
    "chaos_producer": Group.PRODUCER,
    "chaos_dispatcher": Group.DISPATCHER,
    "chaos_worker": Group.WORKER,
    "chaos_operator": Group.OPERATOR,
}
SETTINGS = {"fsync": "on", "synchronous_commit": "on", "max_wal_size": "256MB"}

# The workload, and a witness: whoever records an attempt must have a session at that moment.
WORKLOAD = """
create schema workload;
create table workload.subject (tenant text, name text, counter int not null default 0, primary key (tenant, name));
create table workload.producer (name text primary key, emitted int not null default 0, quota int not null);
grant usage on schema workload to integration_producer;
grant select, update on all tables in schema workload to integration_producer;

create table workload.late_attempt (at timestamptz not null default clock_timestamp(), session bigint, job bigint);
create function workload.witness() returns trigger security definer language plpgsql as $$
begin
    if not exists (select from integration.worker_session where id = new.worker) then
        insert into workload.late_attempt (session, job) values (new.worker, new.job_id);
    end if;
    return null;
end $$;
create trigger witness after insert on integration.attempt for each row execute function workload.witness();
"""


@contextmanager
def durable_server(place: Path | None = None) -> Iterator[PostgresServer]:
    """Run a server on a port that stays its own while it is down, in a folder of its own or on a disk."""
    directory = place or Path(tempfile.mkdtemp(prefix="integration-layer-chaos-"))
    directory.chmod(0o711)
    data = directory / "data"
    data.mkdir(mode=0o711)
    (data / "port").write_text(str(free_port()))
    try:
        with PostgresServer(data, settings=SETTINGS) as server:
            _create(server, TEMPLATE, "template0")
            migrate(server.dsn(TEMPLATE))
            with psycopg.connect(server.dsn(TEMPLATE), autocommit=True) as admin:
                for role, group in ROLES.items():
                    ensure_login(admin, role, group, PASSWORD)
                admin.execute(WORKLOAD)
            yield server
    finally:
        if place is None:
            shutil.rmtree(directory)


@contextmanager
def database(server: PostgresServer) -> Iterator[str]:
    """Make a migrated database for the length of a block; return its name."""
    name = f"chaos_{uuid4().hex[:12]}"
    _create(server, name, TEMPLATE)
    try:
        yield name
    finally:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def crash(server: PostgresServer) -> None:
    """End a server as a power switch does; `start` brings it back."""
    os.kill(server.pid, signal.SIGKILL)
    server.stop(StopMode.IMMEDIATE)


def _create(server: PostgresServer, name: str, template: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        create = sql.SQL("create database {} template {}")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
