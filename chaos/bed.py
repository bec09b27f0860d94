"""The layer on one machine as the harness sees it: a database, a network, a partner, and programs to start and kill.

Nothing is switched off for speed, and everything is seen from outside: what arrived is asked of the partner, a process
of its own that verifies signatures; what is left over is asked of the database; what a worker counts, of its metrics.
Programs reach the database through the network, the harness itself does not.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID, uuid5

import orjson
import psycopg
from psycopg import sql

from chaos.network import Network
from chaos.partner import SECRET, Partner
from chaos.program import Program
from chaos.server import PASSWORD
from chaos.waiting import HOST, free_port, until
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid
from local.parent import PARENT_FD_VARIABLE
from local.postgres import PostgresServer
from local.programs import environment
from store import publication
from store.database import connect

Row = tuple[Any, ...]

LEASE_SECONDS = 3.0
NAMESPACE = "chaos"
UIDS = UUID("0a0f5a3e-6f0e-4a51-9d6e-7f3c2b1a4d5e")
SKEWED_CLOCK = Path(__file__).parent / "skewed_clock"
WORKER = ("-m", "integrations", "worker")

DELIVERY: Mapping[str, object] = {
    "throttle": {"requestsPerSecond": 1000.0, "burst": 100, "concurrency": 16},
    "retry": {"maxAttempts": 100, "initialDelay": "100ms", "maxDelay": "1s"},
    "quarantine": {"consecutiveFailures": 10_000},
    "timeout": "2s",
}
"""What connections are published with where nobody says otherwise: retries are quick and many."""


class Bed:
    """A migrated database on a server, the partner, and the programs that were started; a context manager."""

    def __init__(self, server: PostgresServer, database: str, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.network = Network(server.port)
        self.partner = Partner(free_port())
        self.programs: dict[str, Program] = {}
        self.former: list[Program] = []
        self._database = database
        # Nobody else holds the writing end: when this process ends, the programs notice, and end too.
        self._our_life, self._our_end = os.pipe()

    def __enter__(self) -> Self:
        self.network.__enter__()
        secret = self.directory / "secrets" / NAMESPACE / "hook"
        secret.mkdir(parents=True)
        (secret / "signing").write_text(SECRET)
        command = ["-m", "local.companion", "connectors.webhook.simulator", "--port", str(self.partner.port)]
        self._run("partner", command, environment({}), 0)
        until(self.partner.answers, "the partner listens")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self.programs.values():
            program.send(signal.SIGCONT)
            program.kill()
        for program in [*self.programs.values(), *self.former]:
            if program.process.stdin is not None:
                program.process.stdin.close()
        os.close(self._our_life)
        os.close(self._our_end)
        self.partner.close()
        self.network.__exit__(kind, error, trace)

    until = staticmethod(until)

    # The database --------------------------------------------------------------------------------------------------

    def dsn(self, role: str, program: str) -> str:
        """Return the connection string of a role, by the way of a program."""
        port = self.network.port(program)
        return f"postgresql://chaos_{role}:{quote(PASSWORD)}@{HOST}:{port}/{self._database}"

    def admin(self, *, autocommit: bool = True) -> psycopg.Connection[Row]:
        """Connect as superuser, from whom nothing is hidden."""
        return psycopg.connect(self.server.dsn(self._database), autocommit=autocommit, connect_timeout=10)

    def rows(self, query: str, *parameters: object) -> list[Row]:
        """Ask the database, on a connection of its own: servers come and go here."""
        with self.admin() as admin:
            cursor = admin.execute(query.encode(), parameters or None)
            return [] if cursor.description is None else cursor.fetchall()

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
        emit = "select integration.emit_event(%s, 'ext.chaos.counted', %s, %s::jsonb)"
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
        batch: Mapping[str, object] | None = None,
        **delivery: object,
    ) -> None:
        """Publish a webhook connection, or its new spec, as the operator does."""
        spec = parse_connection_spec(
            {
                "tenant": tenant,
                "provider": "Webhook",
                "routes": list(routes),
                "webhook": {
                    "url": f"http://{HOST}:{self.partner.port}/{name}",
                    "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]},
                    "format": form,
                    **({} if batch is None else {"batch": batch}),
                },
                "delivery": dict(DELIVERY) | delivery,
            }
        )
        self.partner.open(name)
        asyncio.run(self._publish(name, spec))

    def release(self, name: str) -> None:
        """Have a connection tried again at once if it is quarantined, as a person does."""
        asyncio.run(self._release(name))

    async def _release(self, name: str) -> None:
        async with await connect(self.dsn("operator", "operator"), "chaos") as database:
            await publication.release(database, NAMESPACE, name)

    async def _publish(self, name: str, spec: Any) -> None:
        uid = ConnectionUid(uuid5(UIDS, name))
        async with await connect(self.dsn("operator", "operator"), "chaos") as database:
            pool = await publication.write_pool(database, "chaos", "chaos_worker")
            await publication.publish(database, [publication.PublishedConnection(uid, NAMESPACE, name, spec, pool)])

    # Programs ------------------------------------------------------------------------------------------------------

    def start_dispatcher(self, name: str = "dispatcher-1", *, skew_seconds: float = 0.0) -> Program:
        """Start a dispatcher."""
        port = free_port()
        settings = {"DATABASE_URL": self.dsn("dispatcher", name), "HEALTH_PORT": str(port), "LOG_LEVEL": "WARNING"}
        return self._run(name, ["-m", "integrations", "dispatcher"], _environment(settings, skew_seconds), port)

    def start_worker(
        self,
        name: str = "worker-1",
        *,
        slot: str | None = None,
        skew_seconds: float = 0.0,
        command: Sequence[str] = WORKER,
    ) -> Program:
        """Start a worker with this name; `slot` is what it is called here, if that differs."""
        port = free_port()
        settings = {
            "DATABASE_URL": self.dsn("worker", slot or name),
            "HEALTH_PORT": str(port),
            "LOG_LEVEL": "WARNING",
            "WORKER_NAME": name,
            "LEASE": f"PT{LEASE_SECONDS:.0f}S",
            "DRAIN": "PT20S",
            "SECRETS_DIRECTORY": str(self.directory / "secrets"),
            "EGRESS_ALLOW": '["127.0.0.0/8"]',
        }
        return self._run(slot or name, command, _environment(settings, skew_seconds), port)

    def start_producer(self, name: str, tenant: str, events_per_second: float) -> Program:
        """Start a producer, which ends when its quota is committed."""
        return self._run_producer(name, [name, tenant, str(events_per_second), str(self.acknowledged)])

    @contextmanager
    def open_transaction(self, tenant: str = "acme") -> Iterator[Program]:
        """Run a producer that has emitted one event and does not commit it."""
        program = self._run_producer("holder", ["holder", tenant, "1", os.devnull, "hold"])
        until(lambda: b"emitted" in program.log.read_bytes(), "the producer has emitted")
        yield program
        self.forget("holder")

    @property
    def acknowledged(self) -> Path:
        """The ids of events whose producers saw the commit."""
        return self.directory / "acknowledged"

    def _run_producer(self, name: str, arguments: Sequence[str]) -> Program:
        variables = environment({}) | {"CHAOS_PRODUCER_URL": self.dsn("producer", name)}
        return self._run(name, ["-m", "chaos.producer", *arguments], variables, 0)

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


def _environment(settings: dict[str, str], skew_seconds: float) -> dict[str, str]:
    variables = environment(settings)
    if skew_seconds:
        paths = [str(SKEWED_CLOCK), variables.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        variables["CHAOS_SKEW_SECONDS"] = str(skew_seconds)
    return variables
