"""A real PostgreSQL server for the tests, one per test process, and in it a migrated database for each test."""

import gc
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from contracts.connection import ConnectionSpec, parse_connection_spec
from contracts.ids import ConnectionId, ConnectionUid, PoolId
from local.postgres import PostgresServer
from store import publication
from store.database import Database, connect
from store.migrate import migrate
from store.roles import Group, ensure_login

# A test database may be lost in a power failure. A test of durability starts a server of its own.
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "max_prepared_transactions": "5",
}

PASSWORD = "a password for tests only"

# Roles belong to the whole server; each test process has a server of its own. The schema's owner is no superuser, so
# that row-level security falls on it as it does in production.
OWNER = "schema_owner"
PROGRAMS = {
    "producer": Group.PRODUCER,
    "dispatcher": Group.DISPATCHER,
    "operator": Group.OPERATOR,
    "reader": Group.READER,
    "support": Group.SUPPORT,
    "ingress": Group.INGRESS,
    "pool_a": Group.WORKER,
    "pool_b": Group.WORKER,
}


@contextmanager
def _reachable_directory() -> Iterator[Path]:
    """Make a folder for a server's data; pytest's own are closed to the account that runs root's server."""
    directory = Path(tempfile.mkdtemp(prefix="integration-layer-tests-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run tests on uvloop, as the programs do."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def reachable_directory() -> Iterator[Path]:
    """Give a test a folder that the account of a PostgreSQL server can reach."""
    with _reachable_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run the server that all tests of this process share; if the process is killed, its guardian ends it."""
    with _reachable_directory() as directory, PostgresServer(directory / "data", settings=QUICK) as server:
        yield server


@pytest.fixture(scope="session")
def admin_dsn(postgres: PostgresServer) -> str:
    """Give the superuser's way into the database `postgres`, from which tests make databases of their own."""
    return postgres.dsn()


@contextmanager
def _database(postgres: PostgresServer, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        create = sql.SQL("create database {} template {} owner {}")
        admin.execute(create.format(*map(sql.Identifier, (name, template, OWNER))))
        try:
            yield name
        finally:
            # A connection whose making was cancelled holds the drop up until it is collected: its backend still waits
            # for the password, deaf to everything else.
            gc.collect()
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def owner(postgres: PostgresServer) -> str:
    """Make the role that migrates: it owns its databases and may make roles, and is no superuser."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        make = sql.SQL("create role {} login createrole password {}")
        admin.execute(make.format(sql.Identifier(OWNER), sql.Literal(PASSWORD)))
    return OWNER


@pytest.fixture
def empty_database(postgres: PostgresServer, owner: str) -> Iterator[str]:
    """Give the owner's way into a database without anything in it."""
    with _database(postgres, "template0") as name:
        yield postgres.dsn(name, owner, PASSWORD)


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer, owner: str) -> Iterator[str]:
    """Migrate a database to copy from, and make a login role for each program."""
    with _database(postgres, "template0") as name:
        migrate(postgres.dsn(name, owner, PASSWORD))
        with psycopg.connect(postgres.dsn(name), autocommit=True) as admin:
            for role, group in PROGRAMS.items():
                ensure_login(admin, role, group, PASSWORD)
        yield name


@dataclass(frozen=True, slots=True)
class Published:
    """A connection that a test has published."""

    id: ConnectionId
    uid: ConnectionUid
    pool: PoolId
    name: str


@dataclass
class Layer:
    """A migrated database and everybody's way into it."""

    postgres: PostgresServer
    name: str
    admin: psycopg.Connection[Any]
    published: dict[str, Published] = field(default_factory=dict)
    opened: list[Database] = field(default_factory=list)

    def dsn(self, role: str) -> str:
        """Return a program's connection string: producer, dispatcher, operator, reader, pool_a or pool_b."""
        return self.postgres.dsn(self.name, role, PASSWORD)

    @property
    def owner_dsn(self) -> str:
        """The schema owner's connection string."""
        return self.dsn(OWNER)

    @property
    def admin_dsn(self) -> str:
        """The superuser's connection string."""
        return self.postgres.dsn(self.name)

    async def connect(self, role: str) -> Database:
        """Connect as a program does; the end of the test closes the connection."""
        self.opened.append(await connect(self.dsn(role), "test", queue=role.startswith("pool") or role == "dispatcher"))
        return self.opened[-1]

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Ask as the superuser, from whom nothing is hidden."""
        cursor = self.admin.execute(query.encode(), parameters or None)
        return [] if cursor.description is None else cursor.fetchall()

    def value(self, query: str, parameters: Sequence[object] = ()) -> Any:
        """Ask for one value."""
        return self.rows(query, parameters)[0][0]

    def column(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Ask for one column."""
        return [row[0] for row in self.rows(query, parameters)]

    def emit(
        self, subject: str = "company-1", *, tenant: str = "acme", dedupe_key: str | None = None, **data: object
    ) -> str:
        """Emit one committed event; its data are `data`."""
        emit_event = "select integration.emit_event(%s, 'ext.test.happened', %s, %s, %s)"
        return str(self.value(emit_event, (tenant, subject, Jsonb(data), dedupe_key)))

    def spec(
        self,
        url: str = "http://127.0.0.1:9/",
        *,
        tenant: str = "acme",
        routes: Sequence[Mapping[str, object]] = ({"name": "all", "events": ["*"]},),
        suspend: bool = False,
        secret: str = "hook",
        webhook: Mapping[str, object] | None = None,
        **delivery: object,
    ) -> ConnectionSpec:
        """Write a webhook connection's spec; `webhook` adds to spec.webhook, `delivery` is what spec.delivery has."""
        return parse_connection_spec(
            {
                "tenant": tenant,
                "provider": "Webhook",
                "suspend": suspend,
                "routes": list(routes),
                "webhook": {
                    "url": url,
                    "signing": {"secretsFrom": [{"name": secret, "key": "signing"}]},
                    **(webhook or {}),
                },
                "delivery": delivery,
            }
        )

    async def publish(
        self,
        spec: ConnectionSpec | None = None,
        *,
        name: str = "hook",
        namespace: str = "acme",
        pool: str = "pool_a",
        uid: ConnectionUid | None = None,
    ) -> Published:
        """Publish one connection, or its new spec, as the operator does."""
        async with await self.connect("operator") as operator:
            pool_id = await publication.write_pool(operator, pool, pool)
            former = self.published.get(f"{namespace}/{name}")
            uid = uid or (former.uid if former else ConnectionUid(uuid4()))
            await publication.publish(
                operator,
                [publication.PublishedConnection(uid, namespace, name, spec or self.spec(), pool_id)],
            )
        found = self.value(
            "select id from integration.connection where namespace = %s and name = %s", (namespace, name)
        )
        published = self.published[f"{namespace}/{name}"] = Published(found, uid, pool_id, name)
        return published


@contextmanager
def _layer(postgres: PostgresServer, template: str) -> Iterator[Layer]:
    with (
        _database(postgres, template) as name,
        psycopg.connect(postgres.dsn(name), autocommit=True) as admin,
    ):
        layer = Layer(postgres, name, admin)
        yield layer
        for connection in layer.opened:
            connection.pgconn.finish()


@pytest.fixture
def layer(postgres: PostgresServer, migrated_template: str) -> Iterator[Layer]:
    """Give a test a migrated database of its own."""
    with _layer(postgres, migrated_template) as layer:
        yield layer


@pytest.fixture(scope="module")
def volume_layer(postgres: PostgresServer, migrated_template: str) -> Iterator[Layer]:
    """Give the tests of a module a migrated database that they share, to be filled once."""
    with _layer(postgres, migrated_template) as layer:
        yield layer
