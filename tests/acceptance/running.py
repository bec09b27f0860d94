"""A running `integrations local`, seen from outside."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


class Running:
    """A running `integrations local`."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    def told(self) -> str:
        return (self._folder / "told.log").read_text()

    def wait_until_told(self, text: str) -> None:
        eventually(lambda: text in self.told(), self.told)

    def worker(self) -> int | None:
        for child in psutil.Process(self.process.pid).children():
            if child.cmdline()[-1:] == ["worker"]:
                return child.pid
        return None


def eventually(condition: Callable[[], object], told: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


@contextmanager
def running(command: Path, folder: Path) -> Iterator[Running]:
    with (folder / "told.log").open("wb") as log:
        process = subprocess.Popen([command, "local", "."], cwd=folder, stdout=log, stderr=log)
        try:
            yield Running(process, folder)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)
