"""The layer as it really runs: a PostgreSQL server that may crash, and programs as processes that can be killed.

Nothing is switched off for speed, and everything is seen from outside: what arrived is asked of the partner, a process
of its own that verifies signatures; what is left over is asked of the database; what a worker counts, of its metrics.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

import httpx
import orjson
import psycopg
import pytest
from psycopg import sql

from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid
from local.parent import PARENT_FD_VARIABLE
from local.postgres import PostgresServer
from local.programs import environment
from store import publication
from store.database import connect
from store.migrate import migrate
from store.roles import Group, ensure_login

T = TypeVar("T")
Row = tuple[Any, ...]

HERE = Path(__file__).parent
HOST = "127.0.0.1"
SECRET = "whsec_bm90aGluZyBpcyBsb3N0LCBub3RoaW5nIGlzIG1hZGUgdXA="
PASSWORD = "a password for tests only"
LEASE = "PT3S"
NAMESPACE = "survival"
UIDS = UUID("0a0f5a3e-6f0e-4a51-9d6e-7f3c2b1a4d5e")
ROLES = {
    "survival_producer": Group.PRODUCER,
    "survival_dispatcher": Group.DISPATCHER,
    "survival_worker": Group.WORKER,
    "survival_operator": Group.OPERATOR,
}

WORKLOAD = """
create schema workload;
create table workload.subject (tenant text, name text, counter int not null default 0, primary key (tenant, name));
create table workload.producer (name text primary key, emitted int not null default 0, quota int not null);
grant usage on schema workload to integration_producer;
grant select, update on all tables in schema workload to integration_producer;
"""

# A port that the system also gives to outgoing connections could be taken while its server is down.
LOWEST_PORT, HIGHEST_PORT = 20_000, 30_000


def free_port() -> int:
    """Return a port that nobody listens on and that the system gives to nobody by itself."""
    while True:
        port = random.randint(LOWEST_PORT, HIGHEST_PORT)
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port


def until(condition: Callable[[], T], what: str, *, seconds: float = 60.0) -> T:
    """Return what the condition answers once it holds; fail the test if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"this did not come to pass within {seconds:.0f} s: {what}")
        time.sleep(0.02)
    return answer


@dataclass(slots=True)
class Program:
    """A running process; `name` is unique among those that run."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    health_port: int

    def ended(self) -> bool:
        """Say whether the process is gone."""
        return self.process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the process as a lost machine does: at once, without a word."""
        self.process.kill()
        self.process.wait()

    def metric(self, name: str) -> float:
        """Return a counter's or gauge's value."""
        answer = httpx.get(f"http://{HOST}:{self.health_port}/metrics", trust_env=False, timeout=10)
        lines = [line for line in answer.text.splitlines() if line.startswith(f"{name} ")]
        return float(lines[0].split()[1])

    def is_ready(self) -> bool:
        """Say whether the program says that it can do its work."""
        try:
            return httpx.get(f"http://{HOST}:{self.health_port}/readyz", trust_env=False, timeout=10).is_success
        except httpx.TransportError:
            return False

    def log_lines(self) -> list[dict[str, Any]]:
        """Return what the program logged; a line that is no JSON is a message, too."""
        return [_log_line(line) for line in self.log.read_bytes().splitlines()]


def _log_line(line: bytes) -> dict[str, Any]:
    try:
        document: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {"level": "ERROR", "message": line.decode(errors="replace")}
    return document


class Partner:
    """The receivers of all connections: one process, an endpoint for each connection's name."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._http = httpx.Client(base_url=f"http://{HOST}:{port}/_control", trust_env=False, timeout=60)

    def answers(self) -> bool:
        """Say whether the process listens yet."""
        try:
            return self._http.get("/endpoints").is_success
        except httpx.TransportError:
            return False

    def misbehave(self, name: str, *faults: Mapping[str, object]) -> None:
        """Have the next requests to an endpoint meet these faults; none: be well."""
        self._http.put("/endpoints", params={"path": f"/{name}"}, json={"script": list(faults)}).raise_for_status()

    def open(self, name: str) -> None:
        """Make an endpoint."""
        change = {"secrets": [SECRET]}
        self._http.put("/endpoints", params={"path": f"/{name}"}, json=change).raise_for_status()

    def stats(self, name: str) -> dict[str, int]:
        """Return an endpoint's counts."""
        counts: dict[str, int] = orjson.loads(self._read("stats", name))
        return counts

    def deliveries(self, name: str) -> list[dict[str, Any]]:
        """Return everything remembered of each webhook-id, in the order of first arrival."""
        arrivals: list[dict[str, Any]] = orjson.loads(self._read("deliveries", name))
        return arrivals

    def forget(self, name: str) -> None:
        """Have an endpoint forget what arrived so far."""
        self._http.delete("/deliveries", params={"path": f"/{name}"}).raise_for_status()

    def _read(self, what: str, name: str) -> bytes:
        return self._http.get(f"/{what}", params={"path": f"/{name}"}).raise_for_status().content

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()


class Bed:
    """A migrated database on a server, the partner, and the programs that were started."""

    def __init__(self, server: PostgresServer, database: str, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.programs: dict[str, Program] = {}
        self.former: list[Program] = []
        self._database = database
        # Nobody else holds the writing end: when this process ends, the programs notice, and end too.
        self._our_life, self._our_end = os.pipe()
        secret = directory / "secrets" / NAMESPACE / "hook"
        secret.mkdir(parents=True)
        (secret / "signing").write_text(SECRET)
        self.partner = Partner(free_port())
        command = ["-m", "local.companion", "connectors.webhook.simulator", "--port", str(self.partner.port)]
        self._run("partner", command, environment({}), 0)
        until(self.partner.answers, "the partner listens")

    until = staticmethod(until)

    # The database --------------------------------------------------------------------------------------------------

    def dsn(self, role: str) -> str:
        """Return the connection string of a role."""
        return self.server.dsn(self._database, f"survival_{role}", PASSWORD)

    def admin(self, *, autocommit: bool = True) -> psycopg.Connection[Row]:
        """Connect as superuser, from whom nothing is hidden."""
        return psycopg.connect(self.server.dsn(self._database), autocommit=autocommit)

    def rows(self, query: str, *parameters: object) -> list[Row]:
        """Ask the database, on a connection of its own: servers come and go here."""
        with self.admin() as admin:
            cursor = admin.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *parameters: object) -> Any:
        """Ask for one value."""
        return self.rows(query, *parameters)[0][0]

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Let nobody touch a table for the length of a block: statements on it wait."""
        with self.admin(autocommit=False) as admin:
            admin.execute(
                sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier("integration", table))
            )
            yield

    def waiting(self, program: str) -> list[int]:
        """Return the backends that a kind of program keeps waiting for a lock."""
        query = "select pid from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
        return [row[0] for row in self.rows(query, f"integrations-{program}")]

    def emit(self, subject: str = "one", *, tenant: str = "acme", **data: object) -> str:
        """Commit one event; return its public id."""
        emit = "select integration.emit_event(%s, 'ext.survival.counted', %s, %s::jsonb)"
        return str(self.value(emit, tenant, subject, orjson.dumps(data).decode()))

    def session(self, worker: str) -> int | None:
        """Return a worker's session, None if it has none."""
        rows = self.rows("select id from integration.worker_session where name = %s", worker)
        return rows[0][0] if rows else None

    def owner(self, connection: str) -> str | None:
        """Return the worker that owns a connection's lane, None if nobody does."""
        rows = self.rows(
            "select s.name from integration.lane l join integration.connection c on c.id = l.connection_id "
            "join integration.worker_session s on s.id = l.owner where c.name = %s",
            connection,
        )
        return rows[0][0] if rows else None

    def is_dispatched(self) -> bool:
        """Say whether every committed event has been turned into jobs."""
        return bool(
            self.value(
                "select c.upper is null and not exists (select from integration.event e "
                "where not pg_visible_in_snapshot(e.xid, c.lower)) from integration.dispatch_cursor c"
            )
        )

    def is_done(self) -> bool:
        """Say whether every committed event has been dispatched and every job has ended."""
        return self.is_dispatched() and not self.value("select exists (select from integration.job)")

    def outcomes(self) -> list[str]:
        """Return the outcomes of all recorded attempts, oldest first."""
        return [row[0] for row in self.rows("select outcome from integration.attempt order by at")]

    # Connections ---------------------------------------------------------------------------------------------------

    def publish(
        self,
        name: str,
        *,
        tenant: str = "acme",
        routes: Sequence[Mapping[str, object]] = ({"name": "all", "events": ["*"]},),
        form: str = "Standard",
        **delivery: object,
    ) -> None:
        """Publish a webhook connection, or its new spec, as the operator does; retries are quick and many."""
        settings: dict[str, object] = {
            "throttle": {"requestsPerSecond": 1000.0, "burst": 100, "concurrency": 16},
            "retry": {"maxAttempts": 100, "initialDelay": "100ms", "maxDelay": "1s"},
            "quarantine": {"consecutiveFailures": 10_000},
            "timeout": "2s",
        }
        spec = parse_connection_spec(
            {
                "tenant": tenant,
                "provider": "Webhook",
                "routes": list(routes),
                "webhook": {
                    "url": f"http://{HOST}:{self.partner.port}/{name}",
                    "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]},
                    "format": form,
                },
                "delivery": settings | delivery,
            }
        )
        self.partner.open(name)
        asyncio.run(self._publish(name, spec))

    def release(self, name: str) -> None:
        """Have a connection tried again at once if it is quarantined, as a person does."""
        asyncio.run(self._release(name))

    async def _release(self, name: str) -> None:
        async with await connect(self.dsn("operator"), "survival") as database:
            await publication.release(database, NAMESPACE, name)

    async def _publish(self, name: str, spec: Any) -> None:
        uid = ConnectionUid(uuid5(UIDS, name))
        async with await connect(self.dsn("operator"), "survival") as database:
            pool = await publication.write_pool(database, "survival", "survival_worker")
            await publication.publish(database, [publication.PublishedConnection(uid, NAMESPACE, name, spec, pool)])

    # Programs ------------------------------------------------------------------------------------------------------

    def start_dispatcher(self, name: str = "dispatcher-1") -> Program:
        """Start a dispatcher."""
        port = free_port()
        settings = {"DATABASE_URL": self.dsn("dispatcher"), "HEALTH_PORT": str(port), "LOG_LEVEL": "WARNING"}
        return self._run(name, ["-m", "integrations", "dispatcher"], environment(settings), port)

    def start_worker(self, name: str = "worker-1", *, slot: str | None = None, skew_seconds: float = 0.0) -> Program:
        """Start a worker with this name; `slot` is what it is called here, if that differs."""
        port = free_port()
        settings = {
            "DATABASE_URL": self.dsn("worker"),
            "HEALTH_PORT": str(port),
            "LOG_LEVEL": "WARNING",
            "WORKER_NAME": name,
            "LEASE": LEASE,
            "DRAIN": "PT20S",
            "SECRETS_DIRECTORY": str(self.directory / "secrets"),
            "EGRESS_ALLOW": '["127.0.0.0/8"]',
        }
        variables = environment(settings)
        if skew_seconds:
            paths = [str(HERE / "skewed_clock"), variables.get("PYTHONPATH", "")]
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
            variables["SURVIVAL_SKEW_SECONDS"] = str(skew_seconds)
        return self._run(slot or name, ["-m", "integrations", "worker"], variables, port)

    def start_producer(self, name: str, tenant: str, events_per_second: float) -> Program:
        """Start a producer, which ends when its quota is committed."""
        command = [str(HERE / "producer.py"), name, tenant, str(events_per_second), str(self.acknowledged)]
        return self._run(name, command, self._producer_environment(), 0)

    @contextmanager
    def open_transaction(self, tenant: str = "acme") -> Iterator[Program]:
        """Run a producer that has emitted one event and does not commit it."""
        command = [str(HERE / "producer.py"), "holder", tenant, "1", os.devnull, "hold"]
        program = self._run("holder", command, self._producer_environment(), 0)
        until(lambda: b"emitted" in program.log.read_bytes(), "the producer has emitted")
        yield program
        self.forget("holder")

    @property
    def acknowledged(self) -> Path:
        """The ids of events whose producers saw the commit."""
        return self.directory / "acknowledged"

    def _producer_environment(self) -> dict[str, str]:
        return environment({}) | {"SURVIVAL_PRODUCER_URL": self.dsn("producer")}

    def _run(self, name: str, arguments: Sequence[str], variables: Mapping[str, str], port: int) -> Program:
        former = self.programs.get(name)
        if former is not None:
            self.former.append(former)
        log = self.directory / f"{name}.{len(self.former)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-P", *arguments],
                env={**variables, PARENT_FD_VARIABLE: str(self._our_life)},
                pass_fds=(self._our_life,),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                cwd=self.directory,
            )
        program = self.programs[name] = Program(name, process, log, port)
        return program

    def forget(self, name: str) -> None:
        """Kill a program for good."""
        program = self.programs.pop(name)
        program.kill()
        self.former.append(program)

    def defects(self) -> list[str]:
        """Return the errors that any program logged in any of its lives."""
        return [
            f"{program.name}: {line['message']} {line.get('traceback', '')}"
            for program in [*self.former, *self.programs.values()]
            for line in program.log_lines()
            if line["level"] == "ERROR" and program.name.startswith(("worker", "dispatcher"))
        ]

    def close(self) -> None:
        """End everything that was started."""
        for program in self.programs.values():
            program.send(signal.SIGCONT)
            program.kill()
        for program in [*self.programs.values(), *self.former]:
            if program.process.stdin is not None:
                program.process.stdin.close()
        os.close(self._our_life)
        os.close(self._our_end)
        self.partner.close()


@pytest.fixture(scope="session")
def durable_server() -> Iterator[PostgresServer]:
    """Run a server that flushes to the disk, on a port that stays its own while it is down."""
    directory = Path(tempfile.mkdtemp(prefix="integration-layer-survival-"))
    directory.chmod(0o711)
    data = directory / "data"
    data.mkdir(mode=0o711)
    (data / "port").write_text(str(free_port()))
    try:
        with PostgresServer(data, settings={"fsync": "on", "synchronous_commit": "on"}) as server:
            migrate(_database(server, "survival_template", "template0"))
            with psycopg.connect(server.dsn("survival_template"), autocommit=True) as admin:
                for role, group in ROLES.items():
                    ensure_login(admin, role, group, PASSWORD)
                admin.execute(WORKLOAD)
            yield server
    finally:
        shutil.rmtree(directory)


def _database(server: PostgresServer, name: str, template: str) -> str:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        create = sql.SQL("create database {} template {}")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    return server.dsn(name)


@pytest.fixture
def bed(durable_server: PostgresServer, tmp_path: Path) -> Iterator[Bed]:
    """Give a test a database, a partner, and the means to start and kill programs."""
    name = f"survival_{uuid4().hex[:12]}"
    _database(durable_server, name, "survival_template")
    bed = Bed(durable_server, name, tmp_path)
    try:
        yield bed
    finally:
        bed.close()
        with psycopg.connect(durable_server.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
