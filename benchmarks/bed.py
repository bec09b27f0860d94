"""The test bed: one PostgreSQL server with its roles, connections published to a sink, programs as processes.

Everything runs on the same two cores, as it would on a small machine; nothing is switched off for speed (fsync and
synchronous_commit are on).
"""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import uuid4

import psutil
import psycopg

from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, PoolId
from local.postgres import PostgresServer
from local.postgres_installation import find_installation
from store import publication
from store.database import connect
from store.migrate import migrate
from store.roles import Group, ensure_login

SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min"}
WORKER_ROLE = "bench_worker"
_PASSWORD = secrets.token_hex(8)
_ROLES = {
    "bench_producer": Group.PRODUCER,
    "bench_dispatcher": Group.DISPATCHER,
    WORKER_ROLE: Group.WORKER,
    "bench_operator": Group.OPERATOR,
}

_EMIT = """
select integration.emit_events(
    %(tenant)s, array_fill('company.updated'::text, array[%(events)s::int]),
    (select array_agg(i::text) from generate_series(1, %(events)s) i),
    (select array_agg(jsonb_build_object('id', i::text, 'name', 'Kestrel Instruments GmbH', 'country', 'DE',
                                         'employees', 412)) from generate_series(1, %(events)s) i))
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tenant's events go, and how: by default nothing but the worker limits the pace."""

    tenant: str
    url: str
    delivery: dict[str, Any] = field(
        default_factory=lambda: {
            "throttle": {"requestsPerSecond": 100_000.0, "burst": 100_000, "concurrency": 1000},
        }
    )


class Arrival(NamedTuple):
    """A request at the sink: when (seconds since 1970), to which path, with what body."""

    at: float
    path: str
    body: bytes


class Bed:
    """A migrated database on a running server."""

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self._database = "bench"

    def reset(self) -> None:
        """Make the database anew and empty."""
        with self.admin("postgres") as admin:
            admin.execute("drop database if exists bench with (force)")
            admin.execute("create database bench")
        migrate(self.server.dsn(self._database))
        with self.admin() as admin:
            admin.execute("create extension pg_stat_statements")
            for role, group in _ROLES.items():
                ensure_login(admin, role, group, _PASSWORD)

    def admin(self, database: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as superuser, in autocommit mode."""
        return psycopg.connect(self.server.dsn(database or self._database), autocommit=True)

    def count(self, what: str) -> int:
        """Count as the superuser: `what` is all of the query that follows `select`."""
        with self.admin() as admin:
            row = admin.execute(f"select {what}".encode()).fetchone()
        return row[0] if row else 0

    def emit(self, tenant: str, events: int) -> None:
        """Emit so many events of one tenant, of different subjects."""
        with self.admin() as admin:
            admin.execute(_EMIT, {"tenant": tenant, "events": events})

    def dsn(self, role: str) -> str:
        """Return the connection string of a role."""
        return self.server.dsn(self._database, role, _PASSWORD)

    async def publish(self, connections: int, *, url: str, tenants: int = 1, tenant_sizes: Sequence[int] = ()) -> None:
        """Publish webhook connections, spread over tenants `t0`, `t1`, … evenly or by the sizes given."""
        owners = [f"t{i % tenants}" for i in range(connections)]
        if tenant_sizes:
            owners = [f"t{t}" for t, size in enumerate(tenant_sizes) for _ in range(size)]
        await self.publish_each([Endpoint(owner, url) for owner in owners])

    async def publish_each(self, endpoints: Sequence["Endpoint"]) -> None:
        """Publish a webhook connection `hook-0`, `hook-1`, … for each endpoint."""
        async with await connect(self.dsn("bench_operator"), "bench") as database:
            pool = await publication.write_pool(database, "bench", WORKER_ROLE)
            published = [_connection(i, endpoint, pool) for i, endpoint in enumerate(endpoints)]
            await publication.publish(database, published)

    @contextmanager
    def program(self, name: str, **settings: str) -> Iterator[psutil.Process]:
        """Run one of `benchmarks.programs` for the length of a block."""
        role = WORKER_ROLE if name.endswith("worker") else f"bench_{name}"
        signing = self.directory / "secrets" / "bench" / "hook"
        signing.mkdir(parents=True, exist_ok=True)
        (signing / "signing").write_text("whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        environment = {
            **os.environ,
            "INTEGRATIONS_DATABASE_URL": self.dsn(role),
            "INTEGRATIONS_SECRETS_DIRECTORY": str(self.directory / "secrets"),
            "INTEGRATIONS_EGRESS_ALLOW": '["127.0.0.0/8"]',
            "INTEGRATIONS_WORKER_NAME": f"{name}-{secrets.token_hex(4)}",
            **{f"INTEGRATIONS_{key.upper()}": value for key, value in settings.items()},
        }
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.programs", name], env=environment)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)

    def pgbench(self, script: str, *options: str, role: str = "bench_producer") -> "subprocess.Popen[str]":
        """Start pgbench with a script of ours."""
        file = self.directory / f"script-{secrets.token_hex(4)}.sql"
        file.write_text(script)
        program = find_installation().program("pgbench")
        command = [str(program), "-n", "-M", "prepared", "-f", str(file), *options, self.dsn(role)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.directory
        )

    def postgres_cpu(self) -> float:
        """Return CPU seconds that the server has used so far, ended backends included."""
        postmaster = psutil.Process(self.server.pid)
        times = postmaster.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in postmaster.children():
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += own.user + own.system
        return total


class Sink:
    """A sink process, for the length of a block."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "arrivals"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sink", str(self._file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.process = psutil.Process(self._process.pid)
        self.base_url = f"http://127.0.0.1:{self._line()}"
        self.url = f"{self.base_url}/hook"

    def count(self) -> int:
        """Return how many requests have come since the last `take`."""
        return int(self._ask("count"))

    def take(self) -> list[Arrival]:
        """Return what has arrived and forget it."""
        self._ask("write")
        with self._file.open("rb") as file:
            lines = (line.split(b" ", 2) for line in file)
            return [Arrival(float(at), path.decode(), body) for at, path, body in lines]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def _ask(self, what: str) -> str:
        if self._process.stdin is None:
            raise RuntimeError("the sink has no input")
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("the sink has no output")
        return self._process.stdout.readline().strip()


@contextmanager
def open_bed() -> Iterator[Bed]:
    """Start a server in a temporary folder and end it afterwards."""
    with tempfile.TemporaryDirectory(prefix="integrations-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with PostgresServer(directory / "data", settings=SETTINGS) as server:
            yield Bed(server, directory)


def cpu_of(*processes: psutil.Process) -> float:
    """Return CPU seconds that processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _connection(number: int, endpoint: Endpoint, pool: PoolId) -> publication.PublishedConnection:
    spec = parse_connection_spec(
        {
            "tenant": endpoint.tenant,
            "provider": "Webhook",
            "routes": [{"name": "all", "events": ["*"]}],
            "webhook": {"url": endpoint.url, "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]}},
            "delivery": endpoint.delivery,
        }
    )
    return publication.PublishedConnection(ConnectionUid(uuid4()), "bench", f"hook-{number}", spec, pool)
