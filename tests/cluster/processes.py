"""Processes that tests start: each in a group of its own, its output in a file, and none outlives the tests."""

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.cluster import guardian


class Guardian:
    """Our end of the pipe to the guardian: it kills the groups in its care when this process is gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__], stdin=subprocess.PIPE, start_new_session=True, text=True
        )
        self._writing = threading.Lock()

    def care_for(self, group: int) -> None:
        """Put a process group into the guardian's care."""
        self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """Take a group back that has ended; its number may soon be another's."""
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        pipe: IO[str] | None = self._process.stdin
        assert pipe is not None
        with self._writing:
            pipe.write(line)
            pipe.flush()


@functools.cache
def the_guardian() -> Guardian:
    """Return this process's guardian; it lives as long as this process."""
    return Guardian()


class Process:
    """A running program; it has been started when this object is made."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
        self.pid = self._process.pid
        the_guardian().care_for(self.pid)

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the program alone, as a kubelet does; one that has ended gets none."""
        self._process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the program, then end whatever it has left behind in its group."""
        code = self._process.wait(timeout)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        the_guardian().release(self.pid)
        return code

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def end(self, seconds: float = 20.0) -> None:
        """Ask it to end; kill it if it has not after some seconds."""
        self.signal(signal.SIGTERM)
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def tail(self, characters: int = 4000) -> str:
        """Return the end of what it has written."""
        return self.log.read_text(errors="replace")[-characters:]
