"""What is recorded of a request is what the receiver got and answered."""

from ipaddress import ip_network

import pytest

from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp, Timings
from connectors.redaction import MASK, Redactor
from connectors.simulation import Exchange, SimulatorServer
from connectors.webhook.client import send_webhook
from connectors.webhook.settings import Receiver
from contracts.durations import parse_duration
from contracts.exchange import Particulars
from contracts.outcomes import Report

pytestmark = pytest.mark.anyio

LIMIT = parse_duration("5s")
TOKEN = "hunter2-hunter2"
HEADERS = [("Content-Type", "application/json"), ("Authorization", f"Bearer {TOKEN}")]


async def send(http: GuardedHttp, url: str) -> Report:
    receiver = Receiver(url, (), (), None, Redactor([TOKEN]))
    return await send_webhook(http, receiver, HEADERS, b'{"a":1}', LIMIT)


async def answer_with(status: int, headers: dict[str, str]) -> SimulatorServer:
    async def handle(exchange: Exchange) -> None:
        await exchange.respond(status, headers, b"")

    server = SimulatorServer(handle)
    await server.start("127.0.0.1", 0)
    return server


async def test_a_success_keeps_digest_and_timings_and_no_particulars(http: GuardedHttp) -> None:
    server = await answer_with(200, {"X-Request-Id": "r-1"})
    report = await send(http, f"http://127.0.0.1:{server.port}/hook/{TOKEN}")
    await server.close()

    assert report.exchange is not None
    assert report.exchange.body_digest is not None
    assert report.exchange.particulars is None
    assert report.exchange.answering_seconds is not None
    assert report.exchange.resolving_seconds is None  # an address needs no resolving


async def test_a_refusal_keeps_what_was_asked_and_what_was_answered_without_secrets(http: GuardedHttp) -> None:
    answered = {"X-Request-Id": f"r-1 {TOKEN}", "Retry-After": "7", "Set-Cookie": "session=1", "X-Other": "2"}
    server = await answer_with(503, answered)
    report = await send(http, f"http://127.0.0.1:{server.port}/hook/{TOKEN}")
    await server.close()

    assert report.exchange is not None
    assert report.exchange.particulars == Particulars(
        "POST",
        f"http://127.0.0.1:{server.port}/{MASK}",
        {"Content-Type": "application/json", "Authorization": MASK},
        {"content-length": "0", "retry-after": "7", "x-request-id": f"r-1 {MASK}"},
    )


async def test_what_did_not_happen_has_no_time(http: GuardedHttp) -> None:
    server = await answer_with(200, {})
    await server.close()
    report = await send(http, f"http://127.0.0.1:{server.port}/")

    assert report.exchange is not None
    assert report.exchange.answering_seconds is None
    assert report.exchange.particulars is not None
    assert report.exchange.particulars.response_headers == {}


async def test_resolving_is_timed_when_a_name_is_resolved_and_not_when_it_is_known() -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    server = await answer_with(200, {})
    url = f"http://partner.example:{server.port}/"
    first, second = Timings(), Timings()
    async with GuardedHttp(EgressPolicy((ip_network("127.0.0.0/8"),)), resolver=resolver) as http:
        for timings in (first, second):
            await http.post(url, [], b"", LIMIT, timings=timings)
    await server.close()

    assert first.resolving_seconds is not None
    assert second.resolving_seconds is None
