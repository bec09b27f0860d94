"""The processes of a PostgreSQL server: the one we start, and the one an earlier program may have left behind."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import psutil

from local import postgres_guardian
from local.postgres_installation import ENVIRONMENT, Account

# No process has this number, on any system: ids are given out far below it.
NOBODYS_PID = 2**31 - 1

STOP_SECONDS = 60.0

logger = logging.getLogger(__name__)


class StopMode(StrEnum):
    """How a server is asked to end."""

    FAST = "fast"
    """Clients are disconnected, everything is written, the next start is quick."""

    IMMEDIATE = "immediate"
    """As in a crash: the next start recovers from the write-ahead log."""


class ServerProcess:
    """A server started by us, with the guardian between; it is running from the moment this object is made."""

    def __init__(self, command: Sequence[str | Path], account: Account, log_file: Path) -> None:
        self._log_file = log_file
        guardians_end, self._requests = os.pipe()
        with os.fdopen(guardians_end) as pipe, log_file.open("ab") as log:
            self._log_begins = log.tell()
            self._guardian = subprocess.Popen(  # noqa: S603 - our own Python and PostgreSQL, by absolute path
                [
                    *(sys.executable, "-I", "-S", postgres_guardian.__file__),
                    "" if account.user is None else str(account.user),
                    "" if account.group is None else str(account.group),
                    *command,
                ],
                stdin=pipe,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT,
                # Ctrl-C in a terminal is the program's to answer; it ends the server when it has finished.
                start_new_session=True,
            )

    def has_ended(self) -> bool:
        """Say whether the server, or at least its guardian, is gone."""
        return self._guardian.poll() is not None

    def output(self) -> str:
        """Return what this server has written to its log."""
        return self._log_file.read_bytes()[self._log_begins :].decode(errors="replace")

    def end(self, mode: StopMode) -> None:
        """End the server and wait for it; a fast stop that takes longer than STOP_SECONDS becomes an immediate one."""
        self._request(postgres_guardian.IMMEDIATE if mode is StopMode.IMMEDIATE else postgres_guardian.FAST)
        try:
            self._guardian.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._request(postgres_guardian.IMMEDIATE)
            self._guardian.wait(STOP_SECONDS)
        os.close(self._requests)

    def _request(self, request: bytes) -> None:
        # A guardian that has ended reads no requests, and needs none.
        with suppress(BrokenPipeError):
            os.write(self._requests, request)


def find_postmaster(cluster: Path) -> psutil.Process | None:
    """Return the live server of a cluster, if there is one."""
    process = _process_in_pid_file(cluster)
    if process is None:
        return None
    # A command line can be read by everybody, unlike the other things that tell which cluster a server belongs to.
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        if str(cluster) in process.cmdline():
            return process
    return None


def says_ready(cluster: Path) -> bool:
    """Say whether the server reports that it takes connections; what a killed one reported last may stand there yet."""
    try:
        return (cluster / "postmaster.pid").read_text().rstrip().endswith("ready")
    except FileNotFoundError:
        return False


def end_predecessor(cluster: Path, mode: StopMode) -> None:
    """End a server that has lost its owner, and make sure that a stale postmaster.pid hinders nobody."""
    postmaster = find_postmaster(cluster)
    if postmaster is not None:
        logger.warning("ending PostgreSQL process %d, left behind on %s", postmaster.pid, cluster)
        with suppress(psutil.NoSuchProcess):
            postmaster.send_signal(signal.SIGQUIT if mode is StopMode.IMMEDIATE else signal.SIGINT)
            try:
                postmaster.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                postmaster.send_signal(signal.SIGQUIT)
                postmaster.wait(STOP_SECONDS)
    _disown_pid_file(cluster)


def _disown_pid_file(cluster: Path) -> None:
    """Take the id out of a postmaster.pid if it now belongs to a process that is not PostgreSQL, or to a zombie.

    PostgreSQL itself recognises a stale file by its id being free. The file is kept, for it also names the shared
    memory by which PostgreSQL notices that a part of the killed server still lives.
    """
    process = _process_in_pid_file(cluster)
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            pid_file = cluster / "postmaster.pid"
            _, *others = pid_file.read_text().splitlines(keepends=True)
            pid_file.write_text("".join([f"{NOBODYS_PID}\n", *others]))


def _process_in_pid_file(cluster: Path) -> psutil.Process | None:
    try:
        return psutil.Process(int((cluster / "postmaster.pid").read_text().partition("\n")[0]))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
