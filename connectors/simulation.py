"""A small HTTP server for simulated partners, which can misbehave as real ones do.

Frameworks answer politely; a simulator must also hang, drip, break off and reset. A handler is given an Exchange and
decides every step of the answer itself. HTTP is parsed and written by h11, so what a simulator accepts is what a
strict server accepts. For demo and tests only: it listens on loopback unless told otherwise and trusts who calls.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import h11
import orjson

BODY_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a request's body that are accepted; a longer one ends the connection."""

_PHRASES: Final[dict[int, str]] = {status.value: status.phrase for status in HTTPStatus}
_READ_SIZE = 65_536
_RESET_AT_ONCE = struct.pack("ii", 1, 0)


class RequestTooLongError(ValueError):
    """A request with a longer body than a simulator accepts."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lower-case, of a repeated one the last value counts.

    `query` has the last value of each parameter, `parameters` all of them.
    """

    method: str
    path: str
    query: Mapping[str, str]
    parameters: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(
        self, request: Request, protocol: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.request = request
        self._protocol = protocol
        self._reader = reader
        self._writer = writer

    async def respond(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Answer completely."""
        self._begin(status, {**(headers or {}), "Content-Length": str(len(body))})
        if body:
            self._write(body)
        await self.end()

    async def respond_json(self, status: int, document: object) -> None:
        """Answer with a JSON document."""
        await self.respond(status, {"Content-Type": "application/json"}, orjson.dumps(document))

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer; without Content-Length its body is chunked."""
        self._begin(status, headers)
        await self._writer.drain()

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        self._write(data)
        await self._writer.drain()

    async def end(self) -> None:
        """Complete the answer."""
        self._writer.write(self._protocol.send(h11.EndOfMessage()) or b"")
        await self._writer.drain()

    async def wait_until_closed(self) -> None:
        """Say nothing until the client gives up."""
        await self._reader.read(1)

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        transport = self._writer.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
        transport.abort()

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        head = h11.Response(status_code=status, headers=encoded, reason=_PHRASES.get(status, ""))
        self._writer.write(self._protocol.send(head) or b"")

    def _write(self, data: bytes) -> None:
        self._writer.write(self._protocol.send(h11.Data(data)) or b"")


Handler = Callable[[Exchange], Awaitable[None]]


class SimulatorServer:
    """Serves a handler until it is closed; what is in flight then is cut off."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.opened_connections = 0
        self.port = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Listen; with port 0 the system chooses one, see `port`."""
        self._server = await asyncio.start_server(self._connected, host, port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def until_left(self) -> None:
        """Return when no client is connected: all that those who left had asked for has been dealt with."""
        while self._connections:
            await asyncio.wait(self._connections)

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        connections = dict(self._connections)
        for task, writer in connections.items():
            task.cancel()
            writer.transport.abort()
        closings = (writer.wait_closed() for writer in connections.values())
        await asyncio.gather(*connections, *closings, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened_connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = h11.Connection(h11.SERVER)
        try:
            while (request := await _next_request(protocol, reader)) is not None:
                await self._handler(Exchange(request, protocol, reader, writer))
                if protocol.our_state is not h11.DONE or protocol.their_state is not h11.DONE:
                    break
                protocol.start_next_cycle()
        except (ConnectionError, h11.RemoteProtocolError, RequestTooLongError):
            pass
        finally:
            writer.close()


async def _next_request(protocol: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None when the client has closed the connection."""
    head: h11.Request | None = None
    body = b""
    while True:
        match protocol.next_event():
            case h11.NEED_DATA:
                protocol.receive_data(await reader.read(_READ_SIZE))
            case h11.Request() as head:
                pass
            case h11.Data(data=data):
                body += data
                if len(body) > BODY_LIMIT:
                    raise RequestTooLongError(f"a simulator accepts bodies of at most {BODY_LIMIT} bytes")
            case h11.EndOfMessage() if head is not None:
                return _request(head, body)
            case _:
                return None


def _request(head: h11.Request, body: bytes) -> Request:
    target = urlsplit(head.target.decode("ascii"))
    parameters = parse_qs(target.query)
    return Request(
        method=head.method.decode("ascii"),
        path=target.path,
        query={name: values[-1] for name, values in parameters.items()},
        parameters=parameters,
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )
