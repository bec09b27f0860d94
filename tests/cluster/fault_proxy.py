"""A proxy between a program and the API server, which breaks in every way a test asks for.

TLS on both sides: its certificate is signed by the cluster's authority, and the program's bearer token passes through
(a client certificate would not). It speaks HTTP/1.1 and passes on each piece of a stream as it comes, so watches live.
"""

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import h11

from tests.cluster.control_plane import ControlPlane, free_port

Result = TypeVar("Result")

REASONS = {403: "Forbidden", 409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}

HANDSHAKE_SECONDS = 0.3


@dataclass(slots=True)
class _Fault:
    """What happens to the next requests that match."""

    method: re.Pattern[str]
    path: re.Pattern[str]
    remaining: int
    status: int
    retry_after: int | None
    within_watch: bool


@dataclass(frozen=True, slots=True)
class _Slowness:
    method: re.Pattern[str]
    path: re.Pattern[str]
    seconds: float


class FaultProxy:
    """The proxy, in a thread of its own; use it as a context manager.

    `seen` has the method and the target of every request, with those that were never passed on. Methods and paths in
    faults are regular expressions; a path's is searched for in the whole target, query included.
    """

    def __init__(self, cluster: ControlPlane) -> None:
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.seen: list[tuple[str, str]] = []
        self._cluster = cluster
        serving = cluster.authority.server(f"fault-proxy-{self.port}")
        self._server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server_tls.load_cert_chain(serving.certificate, serving.key)
        self._client_tls = ssl.create_default_context(cafile=str(cluster.authority.certificate))
        self._faults: list[_Fault] = []
        self._slow: list[_Slowness] = []
        self._under_way: dict[asyncio.Event, str] = {}
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._do(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig of a service account that goes through the proxy."""
        return self._cluster.service_account_kubeconfig(namespace, name, server=self.url)

    def answer_next(
        self, count: int, status: int, *, method: str = ".*", path: str = "", retry_after: int | None = None
    ) -> None:
        """Answer the next matching requests with a status, without passing them on."""
        self._faults.append(_Fault(re.compile(method), re.compile(path), count, status, retry_after, False))

    def fail_next_watches(self, count: int, status: int = 410, *, path: str = "") -> None:
        """Begin the next matching watches well and end them with an ERROR event: 410 is an expired version."""
        self._faults.append(_Fault(re.compile("GET"), re.compile(path), count, status, None, True))

    def delay(self, seconds: float, *, method: str = ".*", path: str = "") -> None:
        """Hold all matching requests up, until `heal`."""
        self._slow.append(_Slowness(re.compile(method), re.compile(path), seconds))

    def refuse(self) -> None:
        """Cut all connections and take no new ones, as if nobody listened, until `heal`."""
        self._do(self._close)

    def cut(self) -> None:
        """Cut all connections; new ones are taken."""
        self._do(self._cut)

    def freeze(self, path: str = "") -> None:
        """Let nothing more through of matching answers that have begun, while connections stay and new ones work.

        So it looks to a program when something between it and the API server forgets a connection.
        """

        async def freeze() -> None:
            for flows, target in self._under_way.items():
                if re.search(path, target):
                    flows.clear()

        self._do(freeze)

    def heal(self) -> None:
        """Be a good proxy again: no faults are left, and what was held up comes through."""

        async def heal() -> None:
            self._faults.clear()
            self._slow.clear()
            for flows in self._under_way:
                flows.set()
            if self._listener is None:
                await self._open()

        self._do(heal)

    def _do(self, action: Callable[[], Awaitable[Result]]) -> Result:
        async def do() -> Result:
            return await action()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(60)

    async def _open(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._server_tls)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._cut()
        # Connections that were taken and are still shaking hands come out of it now, closed or to be cut.
        await asyncio.sleep(HANDSHAKE_SECONDS)
        await self._cut()

    async def _cut(self) -> None:
        tasks = [*self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)

        def done(_: asyncio.Task[None]) -> None:
            self._connections.discard(task)
            writer.transport.abort()  # a task that was cancelled before it began has closed nothing

        task.add_done_callback(done)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        program = _Peer(h11.SERVER, reader, writer)
        upstream: _Peer | None = None
        try:
            while isinstance(request := await program.next_event(), h11.Request):
                body = await program.rest_of_message()
                target = request.target.decode()
                self.seen.append((request.method.decode(), target))
                await self._slow_down(request.method.decode(), target)
                if fault := self._fault(request.method.decode(), target):
                    await _answer(program, fault)
                else:
                    if upstream is None:
                        upstream = await self._connect()
                    await self._pass_on(program, upstream, request, body)
                    upstream.connection.start_next_cycle()
                program.connection.start_next_cycle()
        except (OSError, h11.ProtocolError, EOFError):
            # One side has gone: so does the other.
            return
        finally:
            await program.abort()
            if upstream is not None:
                await upstream.abort()

    async def _connect(self) -> "_Peer":
        return _Peer(h11.CLIENT, *await asyncio.open_connection("127.0.0.1", self._cluster.port, ssl=self._client_tls))

    async def _pass_on(self, program: "_Peer", upstream: "_Peer", request: h11.Request, body: bytes) -> None:
        await upstream.send(request, *([h11.Data(body)] if body else []), h11.EndOfMessage())
        leaving = asyncio.create_task(program.has_left.wait())
        coming = asyncio.create_task(upstream.next_event())
        flows = asyncio.Event()
        flows.set()
        self._under_way[flows] = request.target.decode()
        try:
            while True:
                await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise EOFError
                event = coming.result()
                if isinstance(event, h11.ConnectionClosed):
                    raise EOFError
                if not flows.is_set():
                    thawing = asyncio.create_task(flows.wait())
                    await asyncio.wait({thawing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                    if not thawing.done():
                        await _cancelled(thawing)
                        raise EOFError
                if not isinstance(event, h11.InformationalResponse):
                    await program.send(event)
                if isinstance(event, h11.EndOfMessage):
                    return
                coming = asyncio.create_task(upstream.next_event())
        finally:
            del self._under_way[flows]
            await _cancelled(leaving, coming)

    async def _slow_down(self, method: str, target: str) -> None:
        for slowness in self._slow:
            if slowness.method.fullmatch(method) and slowness.path.search(target):
                await asyncio.sleep(slowness.seconds)

    def _fault(self, method: str, target: str) -> _Fault | None:
        for fault in self._faults:
            is_meant = not fault.within_watch or re.search(r"[?&]watch=(true|1)\b", target, re.IGNORECASE)
            if fault.remaining and is_meant and fault.method.fullmatch(method) and fault.path.search(target):
                fault.remaining -= 1
                return fault
        return None


class _Peer:
    """One side of the proxy: a connection that notices at once when the other end leaves."""

    def __init__(
        self, role: type[h11.CLIENT | h11.SERVER], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connection = h11.Connection(role)
        self.has_left = asyncio.Event()
        self._writer = writer
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read(reader))

    async def next_event(self) -> h11.Event:
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            self.connection.receive_data(await self._pieces.get())
        if event is h11.PAUSED or isinstance(event, type):
            raise EOFError
        return event

    async def rest_of_message(self) -> bytes:
        body = b""
        while isinstance(event := await self.next_event(), h11.Data):
            body += bytes(event.data)
        return body

    async def send(self, *events: h11.Event) -> None:
        for event in events:
            data = self.connection.send(event)
            if data:
                self._writer.write(data)
        await self._writer.drain()

    async def abort(self) -> None:
        self._writer.transport.abort()
        await _cancelled(self._reading)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self._pieces.put_nowait(data)
        self.has_left.set()
        self._pieces.put_nowait(b"")


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(program: _Peer, fault: _Fault) -> None:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": REASONS.get(fault.status, "Unknown"),
        "message": "the test wants this to fail",
        "code": fault.status,
    }
    content = status if not fault.within_watch else {"type": "ERROR", "object": status}
    body = json.dumps(content).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if fault.retry_after is not None:
        headers.append(("Retry-After", str(fault.retry_after)))
    code = 200 if fault.within_watch else fault.status
    await program.send(h11.Response(status_code=code, headers=headers), h11.Data(body), h11.EndOfMessage())
