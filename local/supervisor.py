"""Keeps named programs running as processes of their own.

It promises: a program that ends is started again, at once the first time and ever later if it keeps ending; asked to
stop, programs get SIGTERM and time to finish, then SIGKILL; and no program outlives its supervisor, even one that is
killed, if it calls `local.parent.exit_with_parent`. What a program prints goes to NAME.log; NAME.log.1 is the run of
the supervisor before.
"""

import asyncio
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local.parent import PARENT_FD_VARIABLE

FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: `environment` is all the program gets, beside what it needs to notice our end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Started:
    """The program runs as this process."""

    program: str
    pid: int


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The program could not be started at all."""

    program: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The process ended; a negative code is the number of the signal that ended it."""

    program: str
    pid: int
    code: int


@dataclass(frozen=True, slots=True)
class Restarting:
    """The program will be started again after a pause."""

    program: str
    delay_seconds: float


ProgramEvent = Started | NotStarted | Exited | Restarting


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits, in seconds.

    The pause before a restart doubles from `first_restart` up to `longest_restart`, and begins anew for a program
    that has been running for `healthy`. `grace` is the time from SIGTERM to SIGKILL.
    """

    first_restart: float = 0.1
    longest_restart: float = 30.0
    healthy: float = 60.0
    grace: float = 30.0


DEFAULT_PATIENCE = Patience()


class Supervisor:
    """Runs programs until it is told to stop; `on_event` is called in the event loop and must not raise."""

    def __init__(
        self,
        programs: Sequence[Program],
        log_directory: Path,
        on_event: Callable[[ProgramEvent], None],
        *,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        names = [program.name for program in programs]
        if len(set(names)) != len(names):
            raise ValueError(f"two programs have the same name: {', '.join(sorted(names))}")
        for name in names:
            if not FILE_NAME.fullmatch(name):
                raise ValueError(f"a program is named by lowercase letters, digits and dashes, not {name!r}")
        self._programs = tuple(programs)
        self._log_directory = log_directory
        self._on_event = on_event
        self._patience = patience
        self._pids: dict[str, int] = {}

    def pids(self) -> dict[str, int]:
        """Return the process ids of the programs that are running now, by name."""
        return dict(self._pids)

    async def run(self, stop: asyncio.Event) -> None:
        """Run all programs until `stop` is set and every one has ended; cancelled, kill them at once."""
        self._log_directory.mkdir(parents=True, exist_ok=True)
        for program in self._programs:
            log = self._log_file(program)
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
        # No process but this one ever holds the writing end: its closing is how children notice our end.
        our_life, our_end = os.pipe()
        try:
            async with asyncio.TaskGroup() as tasks:
                for program in self._programs:
                    tasks.create_task(self._keep_running(program, our_life, stop), name=f"supervise {program.name}")
        finally:
            os.close(our_life)
            os.close(our_end)

    async def _keep_running(self, program: Program, our_life: int, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        delay = self._patience.first_restart
        while not stop.is_set():
            started_at = clock()
            await self._run_once(program, our_life, stop)
            if stop.is_set():
                break
            if clock() - started_at >= self._patience.healthy:
                delay = self._patience.first_restart
            self._on_event(Restarting(program.name, delay))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), delay)
            delay = min(2 * delay, self._patience.longest_restart)

    async def _run_once(self, program: Program, our_life: int, stop: asyncio.Event) -> None:
        """Run a program until it ends or `stop` is set."""
        try:
            process = await self._start(program, our_life)
        except OSError as error:
            self._on_event(NotStarted(program.name, f"{program.command[0]}: {error.strerror}"))
            return
        self._pids[program.name] = process.pid
        try:
            self._on_event(Started(program.name, process.pid))
            await self._until_end_or_stop(process, stop)
        finally:
            if process.returncode is None:
                _kill(process)
                await process.wait()
            del self._pids[program.name]
        self._on_event(Exited(program.name, process.pid, await process.wait()))

    async def _start(self, program: Program, our_life: int) -> asyncio.subprocess.Process:
        with self._log_file(program).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *program.command,
                env={**program.environment, PARENT_FD_VARIABLE: str(our_life)},
                pass_fds=(our_life,),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches the supervisor alone, which then ends its programs in its own time.
                start_new_session=True,
            )

    async def _until_end_or_stop(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                with suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait({ended}, timeout=self._patience.grace)
        finally:
            ended.cancel()
            stopped.cancel()

    def _log_file(self, program: Program) -> Path:
        return self._log_directory / f"{program.name}.log"


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill a process and what it has started: it leads a session, and so a group, of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
