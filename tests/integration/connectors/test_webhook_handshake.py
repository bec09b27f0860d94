"""A receiver that is to be asked is asked before the first event, once, and what it allows is kept to."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from connectors.connector import Connection, Connector, Delivery, SendsMany
from connectors.context import ConnectorContext
from connectors.endpoint_check import StepName, check_endpoint
from connectors.http import GuardedHttp
from connectors.registry import open_connector
from connectors.simulation import Exchange, Request, SimulatorServer
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, MessageId, PublicEventId, TenantId
from contracts.outcomes import Delivered, Gone, Misconfigured, RateLimited, Transient
from contracts.spec_values import SecretKeyRef

pytestmark = pytest.mark.anyio

ORIGIN = "events.example.com"
SECRETS = [
    "whsec_" + b64encode(key).decode() for key in (b"the key that signs everything", b"the key that follows that one")
]
GRANTED = {"WebHook-Allowed-Origin": ORIGIN, "WebHook-Allowed-Rate": "*"}


@dataclass
class Receiver:
    """A receiver that takes every delivery and answers OPTIONS with a status and headers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(GRANTED))
    seen: list[Request] = field(default_factory=list)
    slowness: float = 0.0
    port: int = 0

    async def handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange.request)
        if exchange.request.method == "OPTIONS":
            await asyncio.sleep(self.slowness)
            await exchange.respond(self.status, self.headers)
        else:
            await exchange.respond(204)

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.seen]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await SimulatorServer(receiver.handle).start()
    receiver.port = server.port
    yield receiver
    await server.close()


class Credentials:
    """The present signing secret and a token."""

    def __init__(self) -> None:
        self.signing = SECRETS[0]

    def read(self, reference: SecretKeyRef) -> bytes:
        return (self.signing if reference.key == "signing" else "Bearer token-of-theirs").encode()


def opened(
    http: GuardedHttp,
    receiver: Receiver,
    credentials: Credentials | None = None,
    *,
    asks: bool = True,
    webhook: Mapping[str, object] | None = None,
    **delivery: object,
) -> tuple[Connection, ConnectorContext]:
    handshake = {"handshake": {"origin": ORIGIN}} if asks else {}
    spec = parse_connection_spec(
        {
            "provider": "Webhook",
            "tenant": "acme",
            "routes": [{"name": "companies", "events": ["company.*"]}],
            "delivery": {"timeout": "5s", **delivery},
            "webhook": {
                "url": f"http://127.0.0.1:{receiver.port}/in",
                "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]},
                "headers": [{"name": "Authorization", "valueFrom": {"name": "hook", "key": "token"}}],
                **handshake,
                **(webhook or {}),
            },
        }
    )
    connection = Connection(ConnectionUid(uuid4()), "acme", "hook", TenantId("acme"), spec)
    return connection, ConnectorContext(credentials or Credentials(), http)


def connect(http: GuardedHttp, receiver: Receiver, credentials: Credentials | None = None, **how: Any) -> Connector:
    return open_connector(*opened(http, receiver, credentials, **how))


def delivery(number: int = 1) -> Delivery:
    return Delivery(
        message_id=MessageId(f"msg_{number:024}"),
        event_id=PublicEventId(f"evt_{number:x}_0a1b2c3d"),
        tenant=TenantId("acme"),
        type="company.updated",
        subject="company-1",
        occurred_at=datetime(2026, 11, 20, 12, 30, tzinfo=UTC),
        data=b"{}",
        route="companies",
        attempt=1,
        sent_at=time.time(),
    )


# Asking -----------------------------------------------------------------------------------------------------------


async def test_a_receiver_is_asked_before_the_first_event_and_not_again(http: GuardedHttp, receiver: Receiver) -> None:
    connector = connect(http, receiver, throttle={"requestsPerSecond": 2.5})
    reports = [await connector.send(delivery(number)) for number in range(3)]
    question, *deliveries = receiver.seen

    assert {report.outcome for report in reports} == {Delivered()}
    assert receiver.methods == ["OPTIONS", "POST", "POST", "POST"]
    assert (question.headers["webhook-request-origin"], question.headers["webhook-request-rate"]) == (ORIGIN, "150")
    assert (question.path, question.body, question.headers["authorization"]) == ("/in", b"", "Bearer token-of-theirs")
    assert {each.headers["webhook-request-origin"] for each in deliveries} == {ORIGIN}


async def test_a_batch_asks_as_a_single_event_does(http: GuardedHttp, receiver: Receiver) -> None:
    connector = connect(http, receiver, webhook={"format": "CloudEvents", "batch": {}})
    assert isinstance(connector, SendsMany)
    reports = [report for _ in range(2) for report in await connector.send_many([delivery(1), delivery(2)])]

    assert [report.outcome for report in reports] == [Delivered()] * 4
    assert receiver.methods == ["OPTIONS", "POST", "POST"]
    assert receiver.seen[1].headers["webhook-request-origin"] == ORIGIN


async def test_a_receiver_that_is_not_to_be_asked_is_not(http: GuardedHttp, receiver: Receiver) -> None:
    await connect(http, receiver, asks=False).send(delivery())

    assert receiver.methods == ["POST"]
    assert "webhook-request-origin" not in receiver.seen[0].headers


async def test_deliveries_that_come_together_ask_once(http: GuardedHttp, receiver: Receiver) -> None:
    receiver.slowness = 0.2
    connector = connect(http, receiver)
    reports = await asyncio.gather(*(connector.send(delivery(number)) for number in range(8)))

    assert {report.outcome for report in reports} == {Delivered()}
    assert receiver.methods == ["OPTIONS"] + ["POST"] * 8


async def test_changed_credentials_ask_again(http: GuardedHttp, receiver: Receiver) -> None:
    credentials = Credentials()
    connector = connect(http, receiver, credentials)
    await connector.send(delivery(1))
    credentials.signing = SECRETS[1]
    await connector.send(delivery(2))

    assert receiver.methods == ["OPTIONS", "POST", "OPTIONS", "POST"]


@pytest.mark.parametrize("allowed", ["*", ORIGIN, ORIGIN.upper()])
@pytest.mark.parametrize("status", [200, 204, 404, 405])
async def test_permission_is_what_the_headers_say_whatever_the_status(
    http: GuardedHttp, receiver: Receiver, allowed: str, status: int
) -> None:
    receiver.status, receiver.headers = status, {"WebHook-Allowed-Origin": allowed}

    assert (await connect(http, receiver).send(delivery())).outcome == Delivered()


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (200, {"Allow": "GET, POST"}, "HTTP 200 and no WebHook-Allowed-Origin"),
        (405, {}, "HTTP 405 and no WebHook-Allowed-Origin"),
        (200, {"WebHook-Allowed-Origin": "others.example.com"}, "WebHook-Allowed-Origin: others.example.com"),
        (200, {"WebHook-Allowed-Origin": f"sub.{ORIGIN}"}, f"WebHook-Allowed-Origin: sub.{ORIGIN}"),
        (200, {"WebHook-Allowed-Origin": ""}, "WebHook-Allowed-Origin: ;"),
    ],
)
async def test_without_permission_no_event_is_sent_and_the_report_says_what_to_do(
    http: GuardedHttp, receiver: Receiver, status: int, headers: dict[str, str], told: str
) -> None:
    receiver.status, receiver.headers = status, headers
    report = await connect(http, receiver).send(delivery())

    assert receiver.methods == ["OPTIONS"]
    assert (report.outcome, report.status_code) == (Misconfigured(), None)
    assert told in report.detail
    assert f"does not allow events from {ORIGIN}" in report.detail
    assert "leave out spec.webhook.handshake" in report.detail


async def test_a_receiver_that_comes_to_allow_it_is_sent_to(http: GuardedHttp, receiver: Receiver) -> None:
    receiver.headers = {}
    connector = connect(http, receiver)
    before = await connector.send(delivery())
    receiver.headers = dict(GRANTED)
    after = await connector.send(delivery())

    assert (before.outcome, after.outcome) == (Misconfigured(), Delivered())
    assert receiver.methods == ["OPTIONS", "OPTIONS", "POST"]


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (500, {}, Transient()),
        (503, {"Retry-After": "7"}, RateLimited(timedelta(seconds=7))),
        (429, {"Retry-After": "7"}, RateLimited(timedelta(seconds=7))),
        (408, {}, Transient()),
        (410, {}, Gone()),
    ],
)
async def test_a_receiver_that_cannot_say_is_treated_as_by_a_delivery(
    http: GuardedHttp, receiver: Receiver, status: int, headers: dict[str, str], outcome: object
) -> None:
    receiver.status, receiver.headers = status, headers
    report = await connect(http, receiver).send(delivery())

    assert report.outcome == outcome
    assert report.detail.endswith(f"it answered OPTIONS with HTTP {status}")
    assert receiver.methods == ["OPTIONS"]


async def test_a_question_without_an_answer_is_not_ambiguous_for_nothing_was_sent(
    http: GuardedHttp, receiver: Receiver
) -> None:
    receiver.slowness = 30
    report = await connect(http, receiver, timeout="300ms").send(delivery())

    assert report.outcome == Transient()
    assert "asked for permission" in report.detail
    assert report.exchange is not None
    assert report.exchange.particulars is not None
    assert report.exchange.particulars.method == "OPTIONS"
    assert "token-of-theirs" not in str(report)


# The rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "rests"),
    [
        ("*", [None, None, None]),
        ("3000", [None, None, None]),  # more than the connection's own throttle
        ("0", [None, None, None]),
        ("many", [None, None, None]),
        (None, [None, None, None]),
        ("30", [2, 4, 6]),
        ("120", [None, None, 1.5]),
    ],
)
async def test_what_goes_ahead_of_the_allowed_rate_is_rested_for(
    http: GuardedHttp, receiver: Receiver, rate: str | None, rests: list[float | None]
) -> None:
    receiver.headers = {"WebHook-Allowed-Origin": "*"} | ({} if rate is None else {"WebHook-Allowed-Rate": rate})
    connector = connect(http, receiver)
    began = time.monotonic()
    reports = [await connector.send(delivery(number)) for number in range(3)]
    took = time.monotonic() - began

    for report, rest in zip(reports, rests, strict=True):
        if rest is None:
            assert report.rest is None
        else:
            assert report.rest is not None
            assert rest - took <= report.rest.total_seconds() <= rest


# Testing ----------------------------------------------------------------------------------------------------------


async def test_a_test_of_the_endpoint_asks_too_and_says_that_nothing_was_sent(
    http: GuardedHttp, receiver: Receiver
) -> None:
    receiver.headers = {}
    connection, context = opened(http, receiver)
    steps = [step async for step in check_endpoint(connection, context, time.time())]

    assert (steps[-1].name, steps[-1].passed) == (StepName.REQUEST, False)
    assert f"does not allow events from {ORIGIN}" in steps[-1].found
    assert receiver.methods == ["OPTIONS"]
