"""Operators under test: real processes with their own ServiceAccount, the shipped rights, and a real database."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.cluster.control_plane import ControlPlane, KubectlError
from tests.cluster.helm import CHART, Helm

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 60.0


def eventually(what: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until `what` is true; its last answer, or the last assertion in it, tells what was missing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = what()
        except (AssertionError, KeyError, IndexError, httpx.HTTPStatusError, KubectlError):
            if time.monotonic() > deadline:
                raise
        else:
            if answer:
                return
            assert time.monotonic() < deadline, f"not in {seconds} s; last: {answer!r}"
        time.sleep(0.1)


class OperatorProcess:
    """One replica of the operator."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it."""
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "integrations", "operator"],
                env=inherited | self._environment,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
        return self

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """Tell it to end, and wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        return self._process.wait(30)

    def kill(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def end(self) -> None:
        """Be sure that it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def says(self, message: str) -> bool:
        """Whether a line of its log has this message."""
        return any(line.get("message") == message for line in self.lines())

    def lines(self) -> list[dict[str, object]]:
        """Return its log."""
        found = []
        for line in self.log.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"message": line})
        return found


def install_rights(cluster: ControlPlane, helm: Helm, namespace: str, values: dict[str, Any]) -> str:
    """Install what the chart gives the operator with these values, and nothing else; return its ServiceAccount."""
    command = ("template", "layer", str(CHART), "--namespace", namespace, "--show-only=templates/operator-rbac.yaml")
    documents = [each for each in yaml.safe_load_all(helm(*command, values=values)) if each]
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(documents))
    (account,) = (document["metadata"]["name"] for document in documents if document["kind"] == "ServiceAccount")
    return str(account)
