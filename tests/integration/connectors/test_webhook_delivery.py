"""Webhooks reach a receiver that verifies them with the official library, and every answer has its outcome."""

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from connectors.connector import BatchLimits, Connection, Connector, Delivery, SendsMany
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp
from connectors.registry import open_connector
from connectors.simulation import Exchange, SimulatorServer
from connectors.simulation_faults import (
    Delay,
    Drip,
    Endless,
    Fault,
    Hang,
    Huge,
    Redirect,
    RefuseSignature,
    Reset,
    ResetInBody,
    Status,
)
from connectors.webhook.simulator import WebhookSimulator
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, MessageId, PublicEventId, TenantId
from contracts.outcomes import (
    DETAIL_LIMIT,
    Ambiguous,
    Delivered,
    Gone,
    Invalid,
    Misconfigured,
    Outcome,
    RateLimited,
    Report,
    TooManyAtOnce,
    Transient,
)
from contracts.spec_values import SecretKeyRef

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + b64encode(b"the key that signs everything").decode()
NEXT_SECRET = "whsec_" + b64encode(b"the key that follows that one").decode()
TOKEN = "Bearer hunter2-hunter2/hunter2+"


class FakeCredentials:
    def __init__(self, **values: str) -> None:
        self.values = {"signing": SECRET, "next": NEXT_SECRET, "token": TOKEN, **values}

    def read(self, reference: SecretKeyRef) -> bytes:
        if reference.key not in self.values:
            raise CredentialMissingError(f"Secret {reference.name} has no key {reference.key}")
        return self.values[reference.key].encode()


def delivery(number: int = 1, subject: str = "company-1", attempt: int = 1) -> Delivery:
    return Delivery(
        message_id=MessageId(f"msg_{number:024}"),
        event_id=PublicEventId(f"evt_{number:x}_0a1b2c3d"),
        tenant=TenantId("acme"),
        type="company.updated",
        subject=subject,
        occurred_at=datetime(2026, 11, 20, 12, 30, tzinfo=UTC),
        data=b'{"name":"Queast","employees":50}',
        route="companies",
        attempt=attempt,
        sent_at=time.time(),
    )


def connect(
    http: GuardedHttp,
    url: str,
    credentials: FakeCredentials | None = None,
    *,
    content_format: str = "Standard",
    signing: tuple[str, ...] = ("signing",),
    time_limit: str = "20s",
    batch: dict[str, object] | None = None,
) -> Connector:
    spec = parse_connection_spec(
        {
            "provider": "Webhook",
            "tenant": "acme",
            "routes": [{"name": "companies", "events": ["company.*"]}],
            "delivery": {"timeout": time_limit},
            "webhook": {
                "url": url,
                "format": content_format if batch is None else "CloudEvents",
                **({} if batch is None else {"batch": batch}),
                "signing": {"secretsFrom": [{"name": "hook", "key": key} for key in signing]},
                "headers": [{"name": "Authorization", "valueFrom": {"name": "hook", "key": "token"}}],
            },
        }
    )
    connection = Connection(ConnectionUid(uuid4()), "acme", "hook", TenantId("acme"), spec)
    return open_connector(connection, ConnectorContext(credentials or FakeCredentials(), http))


@pytest.fixture
async def simulator() -> AsyncIterator[WebhookSimulator]:
    async with WebhookSimulator([SECRET]) as simulator:
        yield simulator


async def send(simulator: WebhookSimulator, http: GuardedHttp, *script: Fault, time_limit: str = "20s") -> Report:
    simulator.change("/", script=script)
    return await connect(http, simulator.url(), time_limit=time_limit).send(delivery())


# Delivery.


@pytest.mark.parametrize("content_format", ["Standard", "CloudEvents", "CloudEventsBinary"])
async def test_every_format_is_verified_and_understood(
    simulator: WebhookSimulator, http: GuardedHttp, content_format: str
) -> None:
    report = await connect(http, simulator.url(), content_format=content_format).send(delivery())

    (arrival,) = simulator.records().arrivals.values()
    assert (report.outcome, report.status_code, report.detail) == (Delivered(), 200, "")
    assert arrival.message_id == delivery().message_id
    assert (arrival.event.event_id, arrival.event.type, arrival.event.subject) == (
        delivery().event_id,
        "company.updated",
        "company-1",
    )


@pytest.mark.parametrize("known", [SECRET, NEXT_SECRET])
async def test_during_a_rotation_a_receiver_may_know_either_secret(
    simulator: WebhookSimulator, http: GuardedHttp, known: str
) -> None:
    simulator.change("/", secrets=[known])

    report = await connect(http, simulator.url(), signing=("signing", "next")).send(delivery())

    assert report.outcome == Delivered()


async def test_a_new_secret_is_used_without_opening_the_connection_again(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    credentials = FakeCredentials()
    connector = connect(http, simulator.url(), credentials)
    await connector.send(delivery(1))
    simulator.change("/", secrets=[NEXT_SECRET])
    refused = await connector.send(delivery(2))
    credentials.values["signing"] = NEXT_SECRET

    accepted = await connector.send(delivery(2))

    assert (refused.outcome, refused.status_code) == (Transient(), 401)
    assert accepted.outcome == Delivered()


async def test_every_attempt_of_a_delivery_has_the_same_id_and_body(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    simulator.change("/", script=[Status(status=500)])
    connector = connect(http, simulator.url())
    for attempt in (1, 2):
        await connector.send(delivery(attempt=attempt))

    (arrival,) = simulator.records().arrivals.values()
    assert arrival.statuses == [500, 200]
    assert arrival.same_body


async def test_many_deliveries_over_many_faults_are_told_apart_without_a_mistake(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    faults = [Status(status=503), Reset(), Status(status=429, retry_after_seconds=1), ResetInBody(), Redirect()] * 40
    simulator.change("/", script=faults)
    connector = connect(http, simulator.url())
    waiting = [delivery(number, subject=f"company-{number % 10}") for number in range(2_000)]
    delivered = 0

    async def work() -> None:
        nonlocal delivered
        while waiting:
            one = waiting.pop()
            if (await connector.send(one)).outcome == Delivered():
                delivered += 1
            else:
                waiting.append(one)

    await asyncio.gather(*(work() for _ in range(32)))

    stats = simulator.stats()
    assert delivered == 2_000
    assert (stats.unique, stats.accepted, stats.repeats, stats.changed, stats.refused) == (2_000, 2_000, 0, 0, 0)
    assert stats.received == 2_000 + 160


# Outcomes.


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Status(status=200), Delivered()),
        (Status(status=202), Delivered()),
        (Status(status=204), Delivered()),
        (Status(status=304), Transient()),
        (Status(status=400), Transient()),
        (Status(status=401), Transient()),
        (Status(status=404), Transient()),
        (Status(status=408), Transient()),
        (Status(status=409, retry_after_seconds=3), Transient(timedelta(seconds=3))),
        (Status(status=410), Gone()),
        (Status(status=413), Invalid()),
        (Status(status=414), Invalid()),
        (Status(status=422), Transient()),
        (Status(status=429), RateLimited()),
        (Status(status=429, retry_after_seconds=30), RateLimited(timedelta(seconds=30))),
        (Status(status=429, headers={"Retry-After": "soon"}), RateLimited()),
        (Status(status=431), Invalid()),
        (Status(status=477), Transient()),
        (Status(status=500), Transient()),
        (Status(status=500, retry_after_seconds=7), Transient(timedelta(seconds=7))),
        (Status(status=501), Transient()),
        (Status(status=502), Transient()),
        (Status(status=502, retry_after_seconds=7), RateLimited(timedelta(seconds=7))),
        (Status(status=503), Transient()),
        (Status(status=503, retry_after_seconds=7), RateLimited(timedelta(seconds=7))),
        (Status(status=504), Transient()),
        (Status(status=504, retry_after_seconds=7), RateLimited(timedelta(seconds=7))),
        (Status(status=599), Transient()),
        (RefuseSignature(), Transient()),
    ],
    ids=lambda value: f"{value.status}" if isinstance(value, Status | RefuseSignature) else type(value).__name__,
)
async def test_every_status_has_its_outcome(
    simulator: WebhookSimulator, http: GuardedHttp, fault: Status, outcome: Outcome
) -> None:
    report = await send(simulator, http, fault)

    assert report.outcome == outcome
    assert report.status_code == fault.status


async def test_a_moment_to_retry_after_counts_from_the_receivers_clock(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    wrong_clock = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}

    report = await send(
        simulator,
        http,
        Status(status=429, headers={**wrong_clock, "Retry-After": "Sun, 06 Nov 1994 08:50:37 GMT"}),
    )

    assert report.outcome == RateLimited(timedelta(minutes=1))


async def test_a_date_to_retry_after_is_obeyed(simulator: WebhookSimulator, http: GuardedHttp) -> None:
    report = await send(simulator, http, Status(status=429, retry_after_seconds=90, retry_after_as_date=True))

    assert report.outcome == RateLimited(timedelta(seconds=90))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_that_says_where_it_pointed(
    simulator: WebhookSimulator, http: GuardedHttp, status: int
) -> None:
    location = "https://user:hunter2@elsewhere.example:8443/new/path?token=hunter2#hunter2"

    report = await send(simulator, http, Redirect.model_validate({"status": status, "location": location}))

    assert report.outcome == Transient()
    assert "https://elsewhere.example:8443/new/path" in report.detail
    assert "hunter2" not in report.detail


@pytest.mark.parametrize("location", ["http://[", "//", "", "http://169.254.169.254/latest", "/relative?x=y"])
async def test_any_location_is_told_without_an_error(
    simulator: WebhookSimulator, http: GuardedHttp, location: str
) -> None:
    report = await send(simulator, http, Redirect(location=location))

    assert report.outcome == Transient()
    assert "pointed to" in report.detail


@pytest.mark.parametrize("fault", [Hang(), Reset()], ids=["hang", "reset"])
async def test_sent_and_unanswered_is_ambiguous(simulator: WebhookSimulator, http: GuardedHttp, fault: Fault) -> None:
    report = await send(simulator, http, fault, time_limit="500ms")

    assert report.outcome == Ambiguous()
    assert "127.0.0.1" in report.detail
    assert simulator.stats().received == 1


@pytest.mark.parametrize(
    "fault",
    [ResetInBody(), Drip(), Huge(), Endless(), Delay(seconds=0.05)],
    ids=["reset in body", "drip", "huge", "endless", "delay"],
)
async def test_a_success_is_a_success_however_its_body_ends(
    simulator: WebhookSimulator, http: GuardedHttp, fault: Fault
) -> None:
    report = await send(simulator, http, fault, time_limit="1s")

    assert (report.outcome, report.status_code, report.detail) == (Delivered(), 200, "")


@pytest.mark.parametrize("fault", [Huge(status=500), Endless(status=500), ResetInBody(status=500)])
async def test_the_detail_of_a_failure_is_bounded(simulator: WebhookSimulator, http: GuardedHttp, fault: Fault) -> None:
    report = await send(simulator, http, fault)

    assert report.outcome == Transient()
    assert 0 < len(report.detail) <= DETAIL_LIMIT


async def test_a_receiver_that_does_not_listen_is_transient(http: GuardedHttp) -> None:
    async with WebhookSimulator([SECRET]) as simulator:
        url = simulator.url()

    report = await connect(http, url).send(delivery())

    assert report.outcome == Transient()
    assert "could not be connected to" in report.detail


async def test_an_address_that_the_egress_rules_refuse_is_misconfigured(simulator: WebhookSimulator) -> None:
    async with GuardedHttp(EgressPolicy()) as http:
        report = await connect(http, simulator.url()).send(delivery())

    assert report.outcome == Misconfigured()
    assert "egress_allowed_networks" in report.detail
    assert simulator.opened_connections == 0


@pytest.mark.parametrize("key", ["signing", "token"])
async def test_a_missing_credential_is_misconfigured(simulator: WebhookSimulator, http: GuardedHttp, key: str) -> None:
    credentials = FakeCredentials()
    del credentials.values[key]

    report = await connect(http, simulator.url(), credentials).send(delivery())

    assert report == Report(Misconfigured(), detail=f"Secret hook has no key {key}")
    assert simulator.opened_connections == 0


async def test_an_unusable_credential_is_misconfigured_and_not_shown(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    credentials = FakeCredentials(signing="whsec_hunter2")

    report = await connect(http, simulator.url(), credentials).send(delivery())

    assert report.outcome == Misconfigured()
    assert "key signing of Secret hook" in report.detail
    assert "hunter2" not in report.detail


# Secrets.


async def test_a_receiver_that_echoes_the_request_gets_no_secret_into_the_detail(http: GuardedHttp) -> None:
    echoed: list[str] = []

    async def echo(exchange: Exchange) -> None:
        request = exchange.request
        echoed.append(request.headers["authorization"])
        await exchange.respond_json(
            500, {"you sent": dict(request.headers), "and": request.body.decode(), "with": SECRET}
        )

    server = await SimulatorServer(echo).start()
    report = await connect(http, f"http://127.0.0.1:{server.port}/").send(delivery())
    await server.close()

    assert echoed == [TOKEN]
    assert "company.updated" in report.detail
    assert "hunter2" not in report.detail
    assert SECRET[6:] not in report.detail


# Batches.


def batching(simulator: WebhookSimulator, http: GuardedHttp) -> SendsMany:
    connector = connect(http, simulator.url(), batch={"maxItems": 10, "maxDelay": "2s"})
    assert isinstance(connector, SendsMany)
    return connector


async def test_a_connection_without_a_batch_block_sends_no_batches(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    connector = connect(http, simulator.url(), content_format="CloudEvents")

    assert isinstance(connector, SendsMany)
    assert connector.batch is None


async def test_a_batch_arrives_verified_and_its_answer_holds_for_every_item(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    connector = batching(simulator, http)
    reports = await connector.send_many([delivery(number, f"company-{number}") for number in range(5)])

    stats = simulator.stats()
    assert connector.batch == BatchLimits(10, 500_000, timedelta(seconds=2))
    assert [report.outcome for report in reports] == [Delivered()] * 5
    assert (stats.received, stats.refused, stats.accepted, stats.largest_batch) == (1, 0, 5, 5)


async def test_what_was_sent_in_a_batch_is_a_repeat_when_it_is_sent_again_alone(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    connector = batching(simulator, http)
    await connector.send_many([delivery(1), delivery(2, "company-2")])
    await connector.send_many([delivery(2, "company-2")])

    stats = simulator.stats()
    assert (stats.accepted, stats.repeats, stats.changed) == (2, 1, 0)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Status(status=500), Transient()),
        (Status(status=429, retry_after_seconds=7), RateLimited(timedelta(seconds=7))),
        (Status(status=410), Gone()),
        (Status(status=413), TooManyAtOnce()),
        (Status(status=414), Invalid()),
        (Reset(), Ambiguous()),
    ],
    ids=repr,
)
async def test_an_answer_to_a_batch_is_the_outcome_of_every_item(
    simulator: WebhookSimulator, http: GuardedHttp, fault: Fault, outcome: Outcome
) -> None:
    simulator.change("/", script=[fault])
    reports = await batching(simulator, http).send_many([delivery(1), delivery(2, "company-2")])

    assert [report.outcome for report in reports] == [outcome, outcome]


async def test_a_batch_of_one_that_is_too_large_is_invalid(simulator: WebhookSimulator, http: GuardedHttp) -> None:
    simulator.change("/", script=[Status(status=413)])
    (report,) = await batching(simulator, http).send_many([delivery()])

    assert report.outcome == Invalid()


async def test_a_missing_secret_is_the_outcome_of_every_item(simulator: WebhookSimulator, http: GuardedHttp) -> None:
    connector = connect(http, simulator.url(), signing=("absent",), batch={})
    assert isinstance(connector, SendsMany)
    reports = await connector.send_many([delivery(1), delivery(2, "company-2")])

    assert [report.outcome for report in reports] == [Misconfigured(), Misconfigured()]
