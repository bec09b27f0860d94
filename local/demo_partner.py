"""The demo's partner: a simulated receiver in a process of its own, made well or ill through its control API.

What arrived is asked of the partner, so the demo's counts owe nothing to our own tables.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import httpx
from pydantic import BaseModel, Field, TypeAdapter

from local.errors import DemoError
from local.programs import environment
from local.supervisor import Program, ProgramEvent, Started, Supervisor

HOST = "127.0.0.1"

_START_SECONDS = 20.0
_POLL_SECONDS = 0.05


class ArrivedEvent(BaseModel):
    """The event in a delivery."""

    event_id: str
    subject: str


class Arrival(BaseModel):
    """All requests with one message id: how often it was accepted, and what each request was answered with."""

    event: ArrivedEvent
    accepted: int
    same_body: bool
    statuses: Annotated[list[int | None], Field(min_length=1)]


_ARRIVALS = TypeAdapter(list[Arrival])
_ORDER = TypeAdapter(dict[str, list[str]])


class Partner:
    """The control API of the partner's process."""

    def __init__(self, port: int) -> None:
        self._http = httpx.AsyncClient(base_url=f"http://{HOST}:{port}/_control", timeout=10, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def answers(self) -> bool:
        """Whether the process listens yet."""
        try:
            return (await self._http.get("/endpoints")).is_success
        except httpx.TransportError:
            return False

    async def open(self, path: str, secrets: Sequence[str]) -> None:
        """Make an endpoint that accepts what any of the secrets has signed."""
        await self._change(path, {"secrets": list(secrets)})

    async def fail(self, path: str) -> None:
        """Have an endpoint answer 503 to everything from now on."""
        await self._change(path, {"script": [{"kind": "status", "status": 503, "times": None}]})

    async def recover(self, path: str) -> None:
        """Have an endpoint accept everything again."""
        await self._change(path, {"script": []})

    async def arrivals(self, path: str) -> list[Arrival]:
        """Return what arrived at an endpoint."""
        return _ARRIVALS.validate_json(await self._read("deliveries", path))

    async def order(self, path: str) -> dict[str, list[str]]:
        """Return event ids by subject, in the order of their first acceptance."""
        return _ORDER.validate_json(await self._read("order", path))

    async def refused(self, path: str) -> int:
        """Return how many requests had no valid signature."""
        stats = TypeAdapter(dict[str, int]).validate_json(await self._read("stats", path))
        return stats["refused"]

    async def _change(self, path: str, change: dict[str, object]) -> None:
        response = await self._http.put("/endpoints", params={"path": path}, json=change)
        if response.is_error:
            raise DemoError(f"the simulated partner refuses its settings for {path}; check the signing secrets")

    async def _read(self, what: str, path: str) -> bytes:
        response = await self._http.get(f"/{what}", params={"path": path})
        return response.raise_for_status().content


@asynccontextmanager
async def running_partner(port: int, logs: Path) -> AsyncIterator[Partner]:
    """Run a simulated partner on a port of this machine; raise DemoError if that is not possible."""
    command = ["connectors.webhook.simulator", "--port", str(port)]
    async with Partner(port) as partner, running_program("partner", command, port, logs, partner.answers):
        yield partner


@asynccontextmanager
async def running_program(
    name: str, command: Sequence[str], port: int, logs: Path, answers: Callable[[], Awaitable[bool]]
) -> AsyncIterator[None]:
    """Run a module that listens on a port until the body ends; raise DemoError if that is not possible."""
    _check_free(port)
    stop, ended = asyncio.Event(), asyncio.Event()

    def note(event: ProgramEvent) -> None:
        if not isinstance(event, Started):
            ended.set()

    program = Program(name, [sys.executable, "-P", "-m", "local.companion", *command], environment({}))
    async with asyncio.TaskGroup() as group:
        group.create_task(Supervisor([program], logs, note).run(stop))
        try:
            await _wait_until_ready(name, answers, ended, logs)
            yield
        finally:
            stop.set()


async def _wait_until_ready(
    name: str, answers: Callable[[], Awaitable[bool]], ended: asyncio.Event, logs: Path
) -> None:
    log = logs / f"{name}.log"
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await answers():
                if ended.is_set():
                    raise DemoError(f"the simulated partner ended at once; its log is {log}")
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise DemoError(f"the simulated partner does not answer; its log is {log}") from None


def _check_free(port: int) -> None:
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        message = (
            f"the simulated partner cannot listen on port {port} of {HOST}: {error.strerror}. End the program that"
            " does, or change the port in the manifests."
        )
        raise DemoError(message) from error
