"""The network between programs and database: a way of its own for each program, which can be broken like a real one.

Bytes only, nothing is understood of them. A way that stalls keeps its connections and lets nothing through in either
direction, new connections included; once it flows again everything arrives, however late, also what a program sent
that has been killed meanwhile. A way that loses answers still carries requests.
"""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from chaos.waiting import HOST, free_port

CHUNK = 65_536
SETTLE_SECONDS = 0.05


@dataclass(slots=True)
class _Way:
    """One program's way to the database."""

    listener: asyncio.Server
    port: int
    flowing: asyncio.Event
    refusing: bool = False
    losing_answers: bool = False
    delay_seconds: float = 0.0
    connections: set[asyncio.Task[None]] = field(default_factory=set)


class Network:
    """All ways to the database that listens on `target`, in a thread of its own; use it as a context manager."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._ways: dict[str, _Way] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def port(self, program: str) -> int:
        """Return where a program reaches the database; it stays when the program starts again."""
        if program not in self._ways:
            self._do(self._open(program))
        return self._ways[program].port

    def cut(self, program: str) -> None:
        """Break a program's connections; it can make new ones."""
        self._do(self._cut(self._ways[program]))

    def refuse(self, program: str) -> None:
        """Break a program's connections and every new one, until `heal`."""
        self._ways[program].refusing = True
        self.cut(program)

    def stall(self, program: str) -> None:
        """Let nothing through, and break nothing, until `heal`."""
        self._loop.call_soon_threadsafe(self._ways[program].flowing.clear)

    def slow_down(self, program: str, seconds: float) -> None:
        """Hold up each piece of what is sent, either way, until `heal`."""
        self._ways[program].delay_seconds = seconds

    def lose_answers(self, program: str) -> None:
        """Let requests through and no answers, until `heal`, which breaks the connections they belonged to."""
        self._ways[program].losing_answers = True

    def heal(self, program: str) -> None:
        """Be a good network again."""
        way = self._ways[program]
        if way.losing_answers:
            self.cut(program)
        way.refusing = way.losing_answers = False
        way.delay_seconds = 0.0
        self._loop.call_soon_threadsafe(way.flowing.set)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _open(self, program: str) -> None:
        port = free_port()
        flowing = asyncio.Event()
        flowing.set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            way = self._ways[program]
            task = asyncio.create_task(self._carry(way, reader, writer))
            way.connections.add(task)
            task.add_done_callback(lambda task: self._ended(way, task, writer))

        self._ways[program] = _Way(await asyncio.start_server(accept, HOST, port), port, flowing)

    async def _close(self) -> None:
        for way in self._ways.values():
            way.listener.close()
            await self._cut(way)
        # What was taken just before comes to light now.
        await asyncio.sleep(SETTLE_SECONDS)
        for way in self._ways.values():
            await self._cut(way)

    async def _cut(self, way: _Way) -> None:
        connections = [*way.connections]
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _ended(self, way: _Way, connection: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        way.connections.discard(connection)
        if connection.cancelled():
            writer.transport.abort()  # one that was cut before it began has closed nothing
        else:
            writer.close()

    async def _carry(self, way: _Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if way.refusing:
            return
        await way.flowing.wait()
        try:
            answers, requests = await asyncio.open_connection(HOST, self._target)
        except OSError:
            return  # the database is down: the program sees its connection close
        directions = [
            asyncio.create_task(_pass_on(way, reader, requests, answers=False)),
            asyncio.create_task(_pass_on(way, answers, writer, answers=True)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.transport.abort()
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)


async def _pass_on(way: _Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
    """Carry one direction until its sender has gone."""
    while data := await reader.read(CHUNK):
        if way.delay_seconds:
            await asyncio.sleep(way.delay_seconds)
        await way.flowing.wait()
        if not (answers and way.losing_answers):
            writer.write(data)
            await writer.drain()
