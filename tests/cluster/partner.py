"""A partner for whole threads, the webhook simulator, and a dispatcher: each a program of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.cluster.house import SIGNING, House
from tests.cluster.operators import ROOT


class Partner:
    """A webhook receiver in a process of its own."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        self.url = f"http://127.0.0.1:{port}/hook"

    def close(self) -> None:
        """Close the connection to its control."""
        self._http.close()

    def set(self, **change: Any) -> None:
        """Change which secrets it accepts (`secrets`), and how it misbehaves (`script`)."""
        self._http.put("/_control/endpoints", params={"path": "/hook"}, json=change).raise_for_status()

    def stats(self) -> dict[str, int]:
        """Return its counts."""
        found: dict[str, int] = self._http.get("/_control/stats", params={"path": "/hook"}).raise_for_status().json()
        return found

    def accepted(self, count: int) -> bool:
        """Whether it has accepted so many different events."""
        return self.stats()["unique"] >= count and self.stats()["accepted"] >= count


@contextmanager
def _program(*arguments: str, environment: dict[str, str], marker: str | None = None) -> Iterator[str]:
    """Run a program of ours; yield the line of its output that holds the marker."""
    process = subprocess.Popen(
        [sys.executable, "-P", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = ""
        if marker is not None:
            assert process.stdout is not None
            line = next(line for line in process.stdout if marker in line)
        yield line
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def partner() -> Iterator[Partner]:
    """Run a partner that knows our signing secret."""
    with _program("-m", "connectors.webhook.simulator", "--port", "0", environment={}, marker="http") as line:
        partner = Partner(int(line.strip().rstrip("/").rpartition(":")[2].partition("/")[0]))
        partner.set(secrets=[SIGNING])
        yield partner
        partner.close()


@pytest.fixture
def dispatcher(house: House) -> Iterator[None]:
    """Run a dispatcher of the house's database."""
    environment = {"INTEGRATIONS_DATABASE_URL": house.layer.dsn("dispatcher")}
    with _program("-m", "integrations", "dispatcher", environment=environment):
        yield
