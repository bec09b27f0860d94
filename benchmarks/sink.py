"""The receiving end of a load test: answers every request at once and remembers when each body came.

It reads only what it must of HTTP (`Content-Length`, keep-alive), since its CPU is taken from the programs under test.
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
_arrivals: list[tuple[float, bytes]] = []


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""
        self._answer: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._answer = cast("asyncio.Transport", transport).write

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end].lower()
            at = head.find(b"content-length:")
            line_end = head.find(b"\r\n", at)
            length = int(head[at + 15 : line_end if line_end > 0 else None])
            if len(buffer) < end + 4 + length:
                break
            _arrivals.append((time.time(), buffer[end + 4 : end + 4 + length]))
            buffer = buffer[end + 4 + length :]
            self._answer(_ANSWER)
        self._buffer = buffer


async def main(arrivals_file: Path) -> None:
    """Serve until standard input ends; on `count` print how many came, on `write` write them down and start anew."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "write":
            with arrivals_file.open("wb") as file:
                for at, body in _arrivals:
                    file.write(b"%.6f " % at + body + b"\n")
            _arrivals.clear()
            print("written", flush=True)
        else:
            print(len(_arrivals), flush=True)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
