"""Probes and scrapes get their answers over a real socket."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter

from programs.health import HealthServer

LOOPBACK = "127.0.0.1"


def answer(request: bytes, not_ready: str | None = None) -> tuple[int, dict[str, str], str]:
    """Serve one request; return status, headers and body."""
    head, _, body = exchange(request, not_ready).decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in headers), body


def exchange(request: bytes, not_ready: str | None = None) -> bytes:
    registry = CollectorRegistry()
    Counter("deliveries", "Deliveries made.", registry=registry).inc(3)

    async def talk() -> bytes:
        server = await HealthServer(registry, lambda: not_ready).start(LOOPBACK, 0)
        async with server:
            reader, writer = await asyncio.open_connection(LOOPBACK, server.sockets[0].getsockname()[1])
            writer.write(request)
            if not request.endswith(b"\r\n\r\n"):
                writer.write_eof()
            received = await reader.read()
            writer.close()
            await writer.wait_closed()
            return received

    return asyncio.run(asyncio.wait_for(talk(), 30))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: pod\r\nUser-Agent: kube-probe/1.33\r\n\r\n".encode()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_ready_program_answers_200(path: str) -> None:
    status, _, _ = answer(get(path))

    assert status == 200


def test_a_program_that_is_not_ready_answers_503() -> None:
    status, _, _ = answer(get("/readyz"), "the database is away")

    assert status == 503


def test_a_program_that_is_not_ready_says_why() -> None:
    _, _, body = answer(get("/readyz"), "the database is away")

    assert body == "the database is away\n"


def test_a_program_that_is_not_ready_is_healthy_all_the_same() -> None:
    status, _, _ = answer(get("/healthz"), "the database is away")

    assert status == 200


@pytest.mark.parametrize(
    "request_head", [get("/"), get("/healthzz"), b"POST /healthz HTTP/1.1\r\n\r\n", b"GET /healthz\r\n\r\n"]
)
def test_anything_else_is_not_found(request_head: bytes) -> None:
    status, _, _ = answer(request_head)

    assert status == 404


def test_metrics_are_the_registrys_in_prometheus_text() -> None:
    _, _, body = answer(get("/metrics"))

    assert "# TYPE deliveries_total counter\ndeliveries_total 3.0\n" in body


def test_metrics_say_that_they_are_prometheus_text() -> None:
    _, headers, _ = answer(get("/metrics"))

    assert headers["Content-Type"].startswith("text/plain; version=")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/nothing"])
def test_an_answer_tells_its_length_in_bytes(path: str) -> None:
    _, headers, body = answer(get(path), "café is away")

    assert int(headers["Content-Length"]) == len(body.encode())


@pytest.mark.parametrize("noise", [b"", b"\x16\x03\x01", b"GET /healthz HTTP/1.1\r\n", b"x" * 20_000 + b"\r\n\r\n"])
def test_what_is_no_request_gets_no_answer(noise: bytes) -> None:
    try:
        received = exchange(noise)
    except ConnectionResetError:
        received = b""

    assert received == b""
