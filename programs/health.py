"""Health and metrics over HTTP: `/healthz` (the process turns), `/readyz` (it can do its work), `/metrics`."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_HEAD_LIMIT = 8_192
_TIMEOUT_SECONDS = 5.0


class HealthServer:
    """A few lines of HTTP/1.0 on the program's own event loop: if the loop is stuck, the probe fails, as it should."""

    def __init__(
        self,
        registry: CollectorRegistry,
        not_ready: Callable[[], str | None],
        not_alive: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._not_ready = not_ready
        self._not_alive = not_alive

    async def start(self, host: str, port: int) -> asyncio.Server:
        """Serve until the returned server is closed."""
        return await asyncio.start_server(self._serve, host, port, limit=_HEAD_LIMIT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, content_type, body = self._answer(head.split(b" ", 2))
                writer.write(
                    f"HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that went away or was no HTTP
        finally:
            writer.close()

    def _answer(self, request: list[bytes]) -> tuple[str, str, bytes]:
        match request:
            case [b"GET", b"/metrics", _]:
                return "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry)
            case [b"GET", b"/healthz", _]:
                return _judgement(self._not_alive())
            case [b"GET", b"/readyz", _]:
                return _judgement(self._not_ready())
            case _:
                return "404 Not Found", "text/plain", b"try /metrics, /healthz or /readyz\n"


def _judgement(reason: str | None) -> tuple[str, str, bytes]:
    if reason is None:
        return "200 OK", "text/plain", b"ok\n"
    return "503 Service Unavailable", "text/plain", f"{reason}\n".encode()
