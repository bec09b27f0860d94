"""Programs are kept running, are given time to finish, and are never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from local.supervisor import Exited, NotStarted, Patience, Program, ProgramEvent, Restarting, Started, Supervisor

T = TypeVar("T", Started, NotStarted, Exited, Restarting)

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
QUICK = Patience(first_restart=0.01, longest_restart=0.04, grace=30)

SLEEP = "import time; time.sleep(600)"
FINISH_ON_SIGTERM = """
import signal, sys, time
def finish(*_):
    print("finished")
    sys.exit(7)
signal.signal(signal.SIGTERM, finish)
print("ready")
time.sleep(600)
"""
IGNORE_SIGTERM = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f"child {child.pid}")
time.sleep(600)
"""
END_WITH_PARENT = """
import time
from local.parent import exit_with_parent
exit_with_parent()
print("ready")
time.sleep(600)
"""
END_WITH_PARENT_UNWILLINGLY = """
import signal, time
from local.parent import exit_with_parent
signal.signal(signal.SIGTERM, signal.SIG_IGN)
exit_with_parent(grace_seconds=0.1)
print("ready")
time.sleep(600)
"""
# A supervisor as a process of its own, so that it can be killed; it prints its programs' ids.
SUPERVISE = """
import asyncio, os, sys
from pathlib import Path
from local.supervisor import Program, Started, Supervisor
programs = [
    Program(f"program-{number}", [sys.executable, "-c", code], dict(os.environ))
    for number, code in enumerate(sys.argv[2:])
]
def tell(event):
    if isinstance(event, Started):
        print(event.pid, flush=True)
asyncio.run(Supervisor(programs, Path(sys.argv[1]), tell).run(asyncio.Event()))
"""


def python(code: str, name: str = "program") -> Program:
    return Program(name, [sys.executable, "-c", code], ENVIRONMENT)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def contains(log: Path, text: str) -> bool:
    return log.exists() and text in log.read_text()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class Scene:
    """A running supervisor and what it has told."""

    def __init__(self, programs: list[Program], logs: Path, patience: Patience) -> None:
        self.events: list[ProgramEvent] = []
        self.stop = asyncio.Event()
        self.supervisor = Supervisor(programs, logs, self.events.append, patience=patience)

    def told(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def supervising(programs: list[Program], logs: Path, patience: Patience = QUICK) -> AsyncIterator[Scene]:
    scene = Scene(programs, logs, patience)
    running = asyncio.create_task(scene.supervisor.run(scene.stop))
    try:
        yield scene
    finally:
        scene.stop.set()
        await running


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scene()

    asyncio.run(main())


def test_every_program_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervising([python(SLEEP, "one"), python(SLEEP, "two")], tmp_path) as watched:
            await eventually(lambda: len(watched.supervisor.pids()) == 2)

            pids = watched.supervisor.pids()

            assert set(pids) == {"one", "two"}
            assert all(is_alive(pid) for pid in pids.values())
        assert watched.supervisor.pids() == {}

    play(scene)


def test_a_killed_program_is_started_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervising([python(SLEEP)], tmp_path) as watched:
            await eventually(lambda: len(watched.told(Started)) == 1)
            first = watched.supervisor.pids()["program"]
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: len(watched.told(Started)) == 2)

            second = watched.supervisor.pids()["program"]

        assert watched.events[:4] == [
            Started("program", first),
            Exited("program", first, -signal.SIGKILL),
            Restarting("program", QUICK.first_restart),
            Started("program", second),
        ]

    play(scene)


def test_pauses_grow_up_to_their_limit_while_a_program_keeps_ending(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervising([python("raise SystemExit(3)")], tmp_path) as watched:
            await eventually(lambda: len(watched.told(Restarting)) >= 4)

        assert [event.delay_seconds for event in watched.told(Restarting)[:4]] == [0.01, 0.02, 0.04, 0.04]
        assert {event.code for event in watched.told(Exited)[:4]} == {3}

    play(scene)


def test_pauses_begin_anew_for_a_program_that_was_healthy(tmp_path: Path) -> None:
    async def scene() -> None:
        patience = Patience(first_restart=0.01, longest_restart=0.04, healthy=0.0)
        async with supervising([python("")], tmp_path, patience) as watched:
            await eventually(lambda: len(watched.told(Restarting)) >= 3)

        assert {event.delay_seconds for event in watched.told(Restarting)} == {0.01}

    play(scene)


def test_a_program_that_cannot_be_started_is_tried_again_and_disturbs_no_other(tmp_path: Path) -> None:
    async def scene() -> None:
        missing = Program("missing", [str(tmp_path / "nothing-here")], ENVIRONMENT)
        async with supervising([missing, python(SLEEP)], tmp_path / "logs") as watched:
            await eventually(lambda: len(watched.told(NotStarted)) >= 2 and "program" in watched.supervisor.pids())

        assert "nothing-here" in watched.told(NotStarted)[0].reason
        assert len(watched.told(Started)) == 1

    play(scene)


def test_a_program_asked_to_stop_may_finish(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervising([python(FINISH_ON_SIGTERM)], tmp_path) as watched:
            await eventually(lambda: contains(tmp_path / "program.log", "ready"))

        assert contains(tmp_path / "program.log", "finished")
        assert [event.code for event in watched.told(Exited)] == [7]
        assert watched.told(Restarting) == []

    play(scene)


def test_a_program_that_will_not_stop_is_killed_with_all_it_has_started(tmp_path: Path) -> None:
    async def scene() -> None:
        log = tmp_path / "program.log"
        async with supervising([python(IGNORE_SIGTERM)], tmp_path, Patience(grace=0.1)) as watched:
            await eventually(lambda: contains(log, "child"))
            child = int(log.read_text().split()[1])

        assert [event.code for event in watched.told(Exited)] == [-signal.SIGKILL]
        await eventually(lambda: not is_alive(child))

    play(scene)


def test_a_pause_ends_when_the_supervisor_is_told_to_stop(tmp_path: Path) -> None:
    async def scene() -> None:
        patience = Patience(first_restart=600, longest_restart=600)
        async with asyncio.timeout(30), supervising([python("")], tmp_path, patience) as watched:
            await eventually(lambda: len(watched.told(Restarting)) == 1)

    play(scene)


def test_a_cancelled_supervisor_leaves_no_process(tmp_path: Path) -> None:
    async def scene() -> None:
        supervisor = Supervisor([python(IGNORE_SIGTERM)], tmp_path, lambda _: None)
        running = asyncio.create_task(supervisor.run(asyncio.Event()))
        await eventually(lambda: contains(tmp_path / "program.log", "child"))
        pid = supervisor.pids()["program"]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert not is_alive(pid)

    play(scene)


@pytest.mark.parametrize("code", [END_WITH_PARENT, END_WITH_PARENT_UNWILLINGLY], ids=["willing", "unwilling"])
def test_programs_end_with_a_supervisor_that_was_killed(tmp_path: Path, code: str) -> None:
    async def scene() -> None:
        supervisor = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", SUPERVISE, str(tmp_path), code, code],
            env=ENVIRONMENT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert supervisor.stdout is not None
        pids = [int(await supervisor.stdout.readline()) for _ in range(2)]
        await eventually(lambda: all(contains(tmp_path / f"program-{n}.log", "ready") for n in range(2)))
        supervisor.kill()
        await supervisor.wait()

        await eventually(lambda: not any(is_alive(pid) for pid in pids))

    play(scene)


def test_a_program_that_a_person_started_runs_on_its_own() -> None:
    code = "import threading; from local.parent import *; exit_with_parent(); print(threading.active_count())"

    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "1"


def test_a_log_keeps_all_starts_of_a_run_and_the_run_before(tmp_path: Path) -> None:
    async def run_until_two_starts() -> None:
        async with supervising([python("print('here')")], tmp_path) as watched:
            await eventually(lambda: len(watched.told(Exited)) >= 2)

    play(run_until_two_starts)
    first_run = (tmp_path / "program.log").read_text()
    play(run_until_two_starts)

    assert first_run.count("here") >= 2
    assert (tmp_path / "program.log.1").read_text() == first_run
    assert (tmp_path / "program.log").read_text().count("here") >= 2


def test_two_programs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the same name"):
        Supervisor([python(""), python("")], tmp_path, lambda _: None)


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lowercase letters"):
        Supervisor([python("", "../escape")], tmp_path, lambda _: None)
