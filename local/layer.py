"""The whole layer on one machine: PostgreSQL, the schema, the programs, and a folder of manifests that is watched.

Whatever happens in between, leaving `running_layer` ends what it started, in the order that loses nothing: workers
drain and the dispatcher finishes its batch, then PostgreSQL stops.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contracts.ids import PoolId
from local.access import Access, login_role, prepare_access, prepare_oauth_keys
from local.manifests import ManifestFolder
from local.postgres import PostgresServer
from local.programs import dispatcher, ingress, worker
from local.reconciler import Reconciler
from local.reports import Reporter
from local.state import ConnectionState, read_state
from local.supervisor import Exited, NotStarted, ProgramEvent, Restarting, Started, Supervisor
from programs.reconnect import Reconnecting
from store.migrate import Migrated, migrate
from store.publication import write_pool
from store.roles import Group

_POOL = "local"


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What a person chooses: the folder of manifests, the folder for data, and how many workers."""

    manifests: Path
    data: Path
    workers: int = 1

    @property
    def secrets(self) -> Path:
        """Where Secrets are written for the workers."""
        return self.data / "secrets"

    @property
    def oauth_keys(self) -> Path:
        """The keys that seal OAuth grants here."""
        return self.data / "oauth-keys"

    @property
    def logs(self) -> Path:
        """Where the programs' output goes, a file each."""
        return self.data / "logs"


class Layer:
    """The running layer."""

    def __init__(self, options: LocalOptions, access: Access, pool: PoolId, reporter: Reporter) -> None:
        self.options = options
        self.access = access
        self.reporter = reporter
        self._folder = ManifestFolder(options.manifests)
        self._database = Reconnecting(partial(access.dsn, Group.OPERATOR), "local")
        self._reconciler = Reconciler(pool, options.secrets, reporter)
        self._stopping = asyncio.Event()
        programs = [dispatcher(access), ingress(access)]
        numbers = range(1, options.workers + 1)
        programs += [worker(access, options.secrets, options.oauth_keys, number) for number in numbers]
        self._supervisor = Supervisor(programs, options.logs, self._tell_program)
        self._ended: set[str] = set()

    @property
    def problems(self) -> int:
        """How many problems the manifests have now."""
        return self._reconciler.problems

    @property
    def programs_running(self) -> int:
        """How many programs run now."""
        return len(self._supervisor.pids())

    async def state(self) -> list[ConnectionState]:
        """Read how every connection is; raise DatabaseUnreachableError."""
        return await self._database.once(lambda database: read_state(database, self._reconciler.present))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the programs and follow the manifests until left."""
        try:
            async with asyncio.TaskGroup() as group:
                programs = group.create_task(self._supervisor.run(self._stopping))
                following = group.create_task(self._follow())
                try:
                    yield
                finally:
                    following.cancel()
                    self._stopping.set()
                    self.reporter.say("stopping: deliveries under way are finished first")
                    await programs
        finally:
            await self._database.close()

    async def _follow(self) -> None:
        async for manifests in self._folder.changes():
            await self._database.keep_trying(partial(self._reconciler.apply, manifests=manifests))

    def _tell_program(self, event: ProgramEvent) -> None:
        """Tell of programs that ended unasked and of their return; that they start at first is no news."""
        if self._stopping.is_set():
            return
        match event:
            case Exited(program, _, code):
                self._ended.add(program)
                log = self.options.logs / f"{program}.log"
                self.reporter.warn(f"{program} ended unexpectedly ({_ending(code)}); its log is {log}")
            case NotStarted(program, reason):
                self._ended.add(program)
                self.reporter.problem(f"{program} could not be started: {reason}")
            case Started(program) if program in self._ended:
                self._ended.discard(program)
                self.reporter.good(f"{program} runs again")
            case Started() | Restarting():
                pass


@asynccontextmanager
async def running_layer(options: LocalOptions, reporter: Reporter) -> AsyncIterator[Layer]:
    """Start everything, yield the running layer, and end everything; raise LocalError or StoreError if it cannot."""
    ManifestFolder(options.manifests).read()
    make_data_folder(options.data)
    server = PostgresServer(options.data / "postgres")
    reporter.say(f"starting PostgreSQL; data is kept in {options.data}")
    await asyncio.to_thread(server.start)
    try:
        _tell_migration(await asyncio.to_thread(migrate, server.dsn()), reporter)
        access = await asyncio.to_thread(prepare_access, options.data, server.port, server.dsn())
        prepare_oauth_keys(options.oauth_keys)
        layer = Layer(options, access, await _prepare_pool(access), reporter)
        async with layer.running():
            yield layer
    finally:
        await asyncio.to_thread(server.stop)


async def _prepare_pool(access: Access) -> PoolId:
    """Create the one pool of this machine; every connection is in it, whatever isolation it asks for."""
    database = Reconnecting(partial(access.dsn, Group.OPERATOR), "local")
    try:
        return await database.once(lambda opened: write_pool(opened, _POOL, login_role(Group.WORKER)))
    finally:
        await database.close()


def make_data_folder(data: Path) -> None:
    """Make a folder that only its owner enters; root's can be passed through by the server's account."""
    data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    (data / ".gitignore").write_text("*\n")


def _tell_migration(migrated: Migrated, reporter: Reporter) -> None:
    if migrated.before != migrated.after:
        reporter.say(f"database schema brought to revision {migrated.after}")


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
