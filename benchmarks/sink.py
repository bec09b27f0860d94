"""The receiving end of a load test: answers every request at once and remembers when each body came.

It reads only what it must of HTTP (`Content-Length`, keep-alive), since its CPU is taken from the programs under test.
Requests to `/hang` are never answered, those to `/drip` a byte a second, those to `/limit` with 429; none is
remembered.
Run as a process: prints its port, counts on request (a line on standard input), and writes all arrivals to a file.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
_DRIPPING = b"HTTP/1.1 200 OK\r\nContent-Length: 3600\r\n\r\n"
_arrivals: list[tuple[float, bytes, bytes]] = []


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._answer: Callable[[bytes], None]
        self._dripping: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._answer = cast("asyncio.Transport", transport).write

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the protocol's form
        if self._dripping is not None:
            self._dripping.cancel()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end].lower()
            at = head.find(b"content-length:")
            line_end = head.find(b"\r\n", at)
            length = int(head[at + 15 : line_end if line_end > 0 else None])
            if len(buffer) < end + 4 + length:
                break
            path = buffer[buffer.index(b" ") + 1 : buffer.index(b" ", 5)]
            if path.startswith(b"/hook"):
                _arrivals.append((time.time(), path, buffer[end + 4 : end + 4 + length]))
                self._answer(_ANSWER)
            else:
                self._misbehave(path)
            buffer = buffer[end + 4 + length :]
        self._buffer = buffer

    def _misbehave(self, path: bytes) -> None:
        if path == b"/limit":
            self._answer(_REFUSAL)
        elif path == b"/drip":
            self._answer(_DRIPPING)
            self._drip()

    def _drip(self) -> None:
        self._dripping = asyncio.get_running_loop().call_later(1, self._drip)
        self._answer(b".")


async def main(arrivals_file: Path) -> None:
    """Serve until standard input ends; on `count` print how many came, on `write` write them down and start anew."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "write":
            with arrivals_file.open("wb") as file:
                for at, path, body in _arrivals:
                    file.write(b"%.6f %s %s\n" % (at, path, body))
            _arrivals.clear()
            print("written", flush=True)
        else:
            print(len(_arrivals), flush=True)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
