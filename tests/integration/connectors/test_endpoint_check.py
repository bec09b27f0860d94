"""A check goes the way of a delivery and says at which step it ended, and what to do."""

import asyncio
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors.connector import Connection
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.egress import EgressPolicy
from connectors.endpoint_check import Step, StepName, check_endpoint
from connectors.http import GuardedHttp
from connectors.hubspot.simulator import HubSpotSimulator
from connectors.simulation_faults import Hang, Redirect, RefuseSignature, Status
from connectors.webhook.simulator import WebhookSimulator
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, TenantId
from contracts.spec_values import SecretKeyRef

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + b64encode(b"the key that signs everything").decode()

BEFORE_TLS = [StepName.CREDENTIALS, StepName.RESOLVE, StepName.VET, StepName.CONNECT]


class FakeCredentials:
    def __init__(self, values: dict[str, bytes]) -> None:
        self.values = values

    def read(self, reference: SecretKeyRef) -> bytes:
        if reference.key not in self.values:
            raise CredentialMissingError(f"Secret {reference.name} has no key {reference.key}")
        return self.values[reference.key]


async def check(http: GuardedHttp, url: str, *, ca: bytes | None = None, **keys: str) -> list[Step]:
    tls = {"tls": {"caFrom": {"name": "hook", "key": "ca"}}} if ca else {}
    spec = parse_connection_spec(
        {
            "provider": "Webhook",
            "tenant": "acme",
            "routes": [{"name": "all", "events": ["*"]}],
            "delivery": {"timeout": "1s"},
            "webhook": {"url": url, "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]}, **tls},
        }
    )
    connection = Connection(ConnectionUid(uuid4()), "acme", "hook", TenantId("acme"), spec)
    values = {"signing": SECRET.encode(), "ca": ca or b""} | {key: value.encode() for key, value in keys.items()}
    context = ConnectorContext(FakeCredentials({key: value for key, value in values.items() if value}), http)
    return [step async for step in check_endpoint(connection, context, time.time())]


def names(steps: Sequence[Step]) -> list[StepName]:
    return [step.name for step in steps]


def assert_ends_with(steps: Sequence[Step], name: StepName, found: str, advice: str) -> None:
    """Check that all steps passed but the last, and what that one says."""
    assert [step.passed for step in steps] == [True] * (len(steps) - 1) + [False]
    assert steps[-1].name is name
    assert found in steps[-1].found
    assert advice in steps[-1].advice


@pytest.fixture
async def simulator() -> AsyncIterator[WebhookSimulator]:
    async with WebhookSimulator([SECRET]) as simulator:
        yield simulator


# What is sent


async def test_a_partner_that_takes_the_test_passes_every_step(simulator: WebhookSimulator, http: GuardedHttp) -> None:
    steps = await check(http, simulator.url("/hook"))

    assert names(steps) == [*BEFORE_TLS, StepName.REQUEST, StepName.STATUS]
    assert all(step.passed and step.seconds >= 0 and not step.advice for step in steps)


async def test_the_partner_sees_one_verified_event_that_says_it_is_a_test(
    simulator: WebhookSimulator, http: GuardedHttp
) -> None:
    await check(http, simulator.url("/hook"))

    (arrival,) = simulator.records("/hook").arrivals.values()
    assert (arrival.event.type, arrival.event.subject, arrival.accepted) == ("integrations.test", "acme/hook", 1)
    assert simulator.stats("/hook").refused == 0


async def test_every_test_has_a_message_id_of_its_own(simulator: WebhookSimulator, http: GuardedHttp) -> None:
    for _ in range(2):
        await check(http, simulator.url("/hook"))

    assert simulator.stats("/hook").unique == 2


# Where it ends


async def test_a_missing_secret_ends_the_check_before_anything_is_sent(http: GuardedHttp) -> None:
    steps = await check(http, "http://127.0.0.1:9/", signing="")

    assert_ends_with(steps, StepName.CREDENTIALS, "Secret hook has no key signing", "Correct the Secret")
    assert len(steps) == 1


async def test_a_name_that_does_not_exist_is_told(loopback: EgressPolicy) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async with GuardedHttp(loopback, resolver=resolver) as http:
        steps = await check(http, "https://partner.example/")

    assert_ends_with(steps, StepName.RESOLVE, "partner.example was not resolved: no such name", "Correct the host")


async def test_an_address_that_the_egress_rules_refuse_is_never_connected_to(simulator: WebhookSimulator) -> None:
    async with GuardedHttp(EgressPolicy()) as http:
        steps = await check(http, simulator.url("/hook"))

    assert_ends_with(steps, StepName.VET, "a loopback address", "administrator")
    assert simulator.opened_connections == 0


async def test_nothing_that_listens_is_told_with_its_address(http: GuardedHttp) -> None:
    async with WebhookSimulator([SECRET]) as simulator:
        url = simulator.url("/hook")
    steps = await check(http, url)

    assert_ends_with(steps, StepName.CONNECT, "127.0.0.1, port", "firewall")


@pytest.mark.parametrize(
    ("fault", "found", "advice"),
    [
        (RefuseSignature(), "HTTP 401", "compare the signing secret"),
        (Status(status=404), "HTTP 404", "correct the path"),
        (Status(status=410), "HTTP 410", "wants nothing more"),
        (Status(status=429), "HTTP 429", "throttle"),
        (Status(status=500, body="out of disk"), "HTTP 500: out of disk", "its own log"),
        (Redirect(location="https://elsewhere.example/"), "https://elsewhere.example", "that it points to"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_refusal_is_told_with_what_to_do(
    simulator: WebhookSimulator, http: GuardedHttp, fault: Status, found: str, advice: str
) -> None:
    simulator.change("/hook", script=[fault])
    steps = await check(http, simulator.url("/hook"))

    assert_ends_with(steps, StepName.STATUS, found, advice)


async def test_a_partner_that_does_not_answer_is_told(simulator: WebhookSimulator, http: GuardedHttp) -> None:
    simulator.change("/hook", script=[Hang()])
    steps = await check(http, simulator.url("/hook"))

    assert_ends_with(steps, StepName.REQUEST, "did not answer", "answer first and to work later")


# TLS


@dataclass(frozen=True)
class TlsServer:
    url: str
    certificate: bytes


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[TlsServer]:
    """Answer every request over TLS with 204, under a certificate that is its own authority."""
    certificate = _write_certificate(tmp_path / "server.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a look without a request
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    yield TlsServer(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", certificate)
    server.close()


def _write_certificate(file: Path) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of tests")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + pem)
    return pem


async def test_a_trusted_certificate_passes_and_says_until_when_it_is_good(
    http: GuardedHttp, tls_server: TlsServer
) -> None:
    steps = await check(http, tls_server.url, ca=tls_server.certificate)

    assert names(steps) == [*BEFORE_TLS, StepName.TLS, StepName.REQUEST, StepName.STATUS]
    assert all(step.passed for step in steps)
    assert "TLSv1.3" in steps[4].found


async def test_a_certificate_that_nobody_trusts_is_told_and_the_client_says_so_too(
    http: GuardedHttp, tls_server: TlsServer
) -> None:
    steps = await check(http, tls_server.url)

    assert names(steps) == [*BEFORE_TLS, StepName.TLS, StepName.REQUEST]
    assert [step.passed for step in steps[4:]] == [False, False]
    assert "is not trusted" in steps[4].found
    assert "caFrom" in steps[4].advice


# CRMs -------------------------------------------------------------------------------------------------------------


async def check_hubspot(http: GuardedHttp, url: str, field: str) -> list[Step]:
    route = {"name": "all", "events": ["company.updated"], "fields": [{"property": field, "value": "event.subject"}]}
    auth = {"privateApp": {"tokenFrom": {"name": "crm", "key": "token"}}}
    spec = parse_connection_spec(
        {
            "provider": "HubSpot",
            "tenant": "acme",
            "routes": [route],
            "hubspot": {"auth": auth, "apiUrl": url},
            "delivery": {"timeout": "2s"},
        }
    )
    connection = Connection(ConnectionUid(uuid4()), "acme", "crm", TenantId("acme"), spec)
    context = ConnectorContext(FakeCredentials({"token": b"pat-test"}), http)
    return [step async for step in check_endpoint(connection, context, time.time())]


async def test_of_a_crm_the_account_is_looked_at_and_nothing_is_written(http: GuardedHttp) -> None:
    async with HubSpotSimulator() as simulator:
        account = simulator.open_account("pat-test", zone="Europe/Berlin")
        steps = await check_hubspot(http, simulator.url, "name")

    assert names(steps) == [*BEFORE_TLS, StepName.ACCOUNT, StepName.ACCOUNT]
    assert [step.found for step in steps[-2:]] == [
        f"account: hubspot:{account.hub_id}, time zone Europe/Berlin",
        "route all: its fields fit",
    ]
    assert {call.method for call in account.calls} == {"GET"}


async def test_a_field_that_the_crm_does_not_have_is_told_with_what_was_meant(http: GuardedHttp) -> None:
    async with HubSpotSimulator() as simulator:
        simulator.open_account("pat-test")
        steps = await check_hubspot(http, simulator.url, "nmae")

    assert_ends_with(steps, StepName.ACCOUNT, "no property `nmae`: did you mean name?", "Correct the route")


async def test_a_crm_that_refuses_the_token_is_told(http: GuardedHttp) -> None:
    async with HubSpotSimulator() as simulator:
        steps = await check_hubspot(http, simulator.url, "name")

    assert_ends_with(steps, StepName.ACCOUNT, "INVALID_AUTHENTICATION", "token is valid")
