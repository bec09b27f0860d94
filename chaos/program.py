"""A program of the layer as a process that can be killed, stopped and asked."""

import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from chaos.waiting import HOST


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
