"""A PostgreSQL server for one machine: for `integrations local`, the tests and the benchmarks.

It promises:

- one server per data folder: whoever holds the folder's lock has it, anybody else is refused at once;
- every connection needs a SCRAM password, comes over TCP and from this machine; there are no Unix sockets;
- data and port are kept between runs; the port changes only if something else took it;
- the server ends with the program that started it, even if that is killed: a guardian process sees to it
  (`local.postgres_guardian`). Should the guardian be killed as well, the next start ends the server it finds, for a
  server whose data folder nobody has locked belongs to nobody;
- a start after any crash, `kill -9` included, recovers by itself;
- it works for root as well, see `local.postgres_installation`.

The API is synchronous: servers are started at the edge of a program.
"""

import fcntl
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Self
from urllib.parse import quote

import psycopg

from local.errors import PostgresDataError, PostgresError, PostgresInUseError, PostgresStartError
from local.postgres_cluster import SUPERUSER, Cluster, prepare_cluster
from local.postgres_installation import (
    FALLBACK_DIRECTORY,
    Account,
    Installation,
    find_installation,
    reachable_installation,
    server_account,
)
from local.postgres_process import ServerProcess, StopMode, end_predecessor, find_postmaster, says_ready

__all__ = ["PRODUCTION_LIKE", "PostgresServer", "StopMode"]

HOST = "127.0.0.1"

PRODUCTION_LIKE: Mapping[str, str] = MappingProxyType(
    {
        "fsync": "on",
        "synchronous_commit": "on",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "max_connections": "200",
        "jit": "off",
        "shared_preload_libraries": "pg_stat_statements",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
)
"""What the server runs with where the caller does not say otherwise; `wal_compression` is the best one built in."""

NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})

# An attempt can meet what a killed server leaves for a moment, or lose its port to another program.
PASSING_FAILURES = ("pre-existing shared memory block", "Address already in use")

POLL_SECONDS = 0.02
LOG_TAIL_LINES = 30


class PostgresServer:
    """The server of one data folder; usable as a context manager, and again after `stop`.

    `settings` win over PRODUCTION_LIKE and last for one run. `installation` is a folder with bin/, lib/ and share/,
    and defaults to the wheel's. `fallback_directory` is where root's server keeps what it cannot reach elsewhere.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        settings: Mapping[str, str] = NO_OVERRIDES,
        installation: Path | None = None,
        fallback_directory: Path = FALLBACK_DIRECTORY,
        start_timeout_seconds: float = 120.0,
    ) -> None:
        self.data_directory = data_directory.resolve()
        self.log_file = self.data_directory / "server.log"
        self._settings = {**PRODUCTION_LIKE, **settings}
        self._installation_root = installation
        self._fallback_directory = fallback_directory
        self._start_timeout_seconds = start_timeout_seconds
        self._lock: IO[str] | None = None
        self._process: ServerProcess | None = None
        self._cluster: Cluster | None = None
        self._port: int | None = None

    def start(self) -> None:
        """Start the server and return when it answers; raise a PostgresError that says what to do if it cannot."""
        self._lock = self._take_lock()
        try:
            installation = find_installation(self._installation_root)
            account = server_account(self.data_directory / "cluster")
            installation = reachable_installation(installation, account, self._fallback_directory)
            self._cluster = prepare_cluster(
                self.data_directory,
                installation,
                account,
                self._fallback_directory,
                durable=self._settings["fsync"] == "on",
            )
            end_predecessor(self._cluster.directory, StopMode.FAST)
            self._launch(installation, account, self._cluster)
        except BaseException:
            self.stop(StopMode.IMMEDIATE)
            raise

    def stop(self, mode: StopMode = StopMode.FAST) -> None:
        """End the server and let go of the data folder; does nothing if this object has not started it."""
        if self._lock is None:
            return
        process, self._process = self._process, None
        try:
            if process is not None:
                process.end(mode)
            if self._cluster is not None:
                # If only the guardian was killed, the server is still there.
                end_predecessor(self._cluster.directory, mode)
        finally:
            self._lock.close()
            self._lock = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, known once the server has been started."""
        if self._port is None:
            raise PostgresError("the server has no port before its first start: call start()")
        return self._port

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._lock is not None and self._cluster is not None:
            postmaster = find_postmaster(self._cluster.directory)
            if postmaster is not None:
                return postmaster.pid
        raise PostgresError(f"no server is running on {self.data_directory}: call start()")

    def dsn(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """Return a connection URI: without a user the superuser's with its password, else with what is given."""
        if user is None:
            if self._cluster is None:
                raise PostgresError("the superuser has no password before the first start: call start()")
            user, password = SUPERUSER, self._cluster.password
        credentials = quote(user, safe="") + ("" if password is None else ":" + quote(password, safe=""))
        return f"postgresql://{credentials}@{HOST}:{self.port}/{quote(database, safe='')}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _take_lock(self) -> IO[str]:
        """Become the one user of the data folder; the kernel lets go of the lock when this process ends."""
        try:
            self.data_directory.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
            lock = (self.data_directory / "lock").open("a+")
        except OSError as error:
            message = (
                f"cannot use {self.data_directory}: {error.strerror}. Run this program as the owner of that folder, or"
                " choose another data folder."
            )
            raise PostgresDataError(message) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with lock:
                lock.seek(0)
                owner = lock.read()
            message = (
                f"{self.data_directory} is in use by process {owner}: end that process, or choose another data folder."
            )
            raise PostgresInUseError(message) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return lock

    def _launch(self, installation: Installation, account: Account, cluster: Cluster) -> None:
        """Start the server, again if it fails for a reason that passes, and wait until it answers."""
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        deadline = time.monotonic() + self._start_timeout_seconds
        while True:
            self._port = self._choose_port()
            command = self._command(installation, cluster, self._port)
            process = self._process = ServerProcess(command, account, self.log_file)
            if self._becomes_ready(process, cluster, deadline):
                return
            output = process.output()
            if time.monotonic() > deadline or not any(failure in output for failure in PASSING_FAILURES):
                tail = "\n".join(output.splitlines()[-LOG_TAIL_LINES:])
                message = f"PostgreSQL did not start on {self.data_directory}. The end of {self.log_file}:\n{tail}"
                raise PostgresStartError(message)
            self._process = None
            process.end(StopMode.IMMEDIATE)
            time.sleep(POLL_SECONDS)

    def _command(self, installation: Installation, cluster: Cluster, port: int) -> list[str | Path]:
        settings = {
            "wal_compression": "lz4" if installation.has_lz4() else "pglz",
            **self._settings,
            # What the promises rest on comes last: no caller's setting undoes it.
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        return [installation.program("postgres"), "-D", cluster.directory, *arguments]

    def _becomes_ready(self, process: ServerProcess, cluster: Cluster, deadline: float) -> bool:
        """Wait until the superuser can log in; False if the server ended or the time is over."""
        while not process.has_ended() and time.monotonic() < deadline:
            # Asked too early, the server would fill its log with refusals.
            if says_ready(cluster.directory):
                try:
                    psycopg.connect(self.dsn(), connect_timeout=2).close()
                except psycopg.OperationalError:
                    pass
                else:
                    return True
            time.sleep(POLL_SECONDS)
        return False

    def _choose_port(self) -> int:
        """Return the port of the run before if nobody listens there now, or else a free one, and keep it."""
        port_file = self.data_directory / "port"
        kept = port_file.read_text() if port_file.exists() else ""
        if kept.isdigit() and _is_free(int(kept)):
            return int(kept)
        with socket.create_server((HOST, 0)) as probe:
            port: int = probe.getsockname()[1]
        port_file.write_text(str(port))
        return port


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
