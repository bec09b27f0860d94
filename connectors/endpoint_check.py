"""Whether a connection's partner can be reached and takes what we send, step by step, for people who ask.

The steps go the way of a delivery: credentials, name, egress rules, connection, TLS, request, status. Each is told
when it has ended, with its time, what was found and, if it failed, what to do. The request is a real delivery, signed
and guarded like any other: an event of the type `integrations.test` that is stored nowhere and says that it is a test.
In a CRM that would become a record, so there the account is looked at instead, and nothing is changed.

Connection and TLS are looked at beforehand, over a connection of their own to the vetted address, since the HTTP client
does not tell them apart. It has a mind of its own on certificates, so a failed look at TLS does not end the check.
"""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from time import monotonic

import orjson
from pyreqwest.http import Url

from connectors.connector import ChecksAccount, Connection, Connector, Delivery, Endpoint, HasEndpoint
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.endpoint_advice import advice_on
from connectors.errors import (
    EgressRefusedError,
    MalformedRequestError,
    NoConnectorError,
    NotSentError,
    UnusableCredentialError,
)
from connectors.http import ADDRESS_LIMIT, parse_url
from connectors.looking import LookFailedError, handshake, open_socket
from connectors.registry import open_connector
from contracts.ids import EventId, message_id, public_event_id
from contracts.outcomes import Delivered, Report

TEST_TYPE = "integrations.test"

LOOK_LIMIT = timedelta(seconds=5)
"""For the name, the connection and TLS, each."""

_NO_EVENT = EventId(0)
"""No stored event has this number."""


class StepName(StrEnum):
    """The steps in their order."""

    CREDENTIALS = "credentials"
    """Secrets are there and can be used."""
    RESOLVE = "resolve"
    """The host has addresses."""
    VET = "vet"
    """All of them may be called."""
    CONNECT = "connect"
    """Something listens there."""
    TLS = "tls"
    """It proves who it is; only where the address is https."""
    REQUEST = "request"
    """It answers a signed request."""
    STATUS = "status"
    """It takes the event."""
    ACCOUNT = "account"
    """The partner knows us, and what the routes name is there; in the place of request and status."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that has ended; `advice` says what to do, and is empty if it went well."""

    name: StepName
    passed: bool
    seconds: float
    found: str
    advice: str = ""


async def check_endpoint(connection: Connection, context: ConnectorContext, now: float) -> AsyncIterator[Step]:
    """Take the steps, ending with the first that fails, but for TLS; the check passed if the last one did.

    `now` is the database's clock in seconds since 1970. The last step is `status` or `account` unless one failed.
    """
    began = monotonic()
    try:
        connector = open_connector(connection, context)
        if not isinstance(connector, HasEndpoint):
            raise NoConnectorError(f"the connector of {connection.spec.provider} has nothing that could be tested")
        endpoint = connector.endpoint()
        target = parse_url(endpoint.url)
    except (NoConnectorError, CredentialMissingError, UnusableCredentialError, MalformedRequestError) as error:
        advice = "Correct the Secret or the connection's spec, and test again."
        yield _ended(StepName.CREDENTIALS, began, str(error), advice)
        return
    yield _ended(StepName.CREDENTIALS, began, "every Secret is there and can be used")
    reached = False
    async for step in _look(context, endpoint, target):
        yield step
        reached = step.passed or step.name is StepName.TLS
    if reached:
        steps = _ask(connector) if isinstance(connector, ChecksAccount) else _send(connector, connection, now)
        async for step in steps:
            yield step


async def _look(context: ConnectorContext, endpoint: Endpoint, target: Url) -> AsyncIterator[Step]:
    """Look at name, egress rules, connection and TLS; the last step given says how far it came."""
    host, port = target.host_str or "", target.port_or_known_default or 0
    began = monotonic()
    try:
        addresses = await context.http.names.resolve(host, port, LOOK_LIMIT)
    except NotSentError as error:
        advice = "Correct the host in the connection's address, or see what this machine's name server says of it."
        yield _ended(StepName.RESOLVE, began, str(error), advice)
        return
    listed = ", ".join(dict.fromkeys(map(str, addresses)))
    yield _ended(StepName.RESOLVE, began, f"{host} is {listed}")
    began = monotonic()
    try:
        context.http.names.vet(host, addresses)
    except EgressRefusedError as error:
        advice = "Give an address on the public internet, or have an administrator allow this network."
        yield _ended(StepName.VET, began, str(error), advice)
        return
    yield _ended(StepName.VET, began, "the egress rules allow every address")
    began = monotonic()
    try:
        opened = await open_socket(dict.fromkeys(map(str, addresses[:ADDRESS_LIMIT])), port, LOOK_LIMIT)
    except LookFailedError as error:
        advice = "See that the partner listens there, and that no firewall or NetworkPolicy is in between."
        yield _ended(StepName.CONNECT, began, str(error), advice)
        return
    async with opened:
        yield _ended(StepName.CONNECT, began, f"connected to {opened.address}, port {port}")
        if target.scheme != "https":
            return
        began = monotonic()
        try:
            found = await handshake(opened, host.strip("[]"), endpoint.ca, LOOK_LIMIT)
        except LookFailedError as error:
            advice = "If the partner has a certificate authority of its own, name it in spec.webhook.tls.caFrom."
            yield _ended(StepName.TLS, began, str(error), advice)
            return
        yield _ended(StepName.TLS, began, found)


async def _ask(connector: ChecksAccount) -> AsyncIterator[Step]:
    began = monotonic()
    for finding in await connector.check_account():
        yield _ended(StepName.ACCOUNT, began, f"{finding.what}: {finding.found}", finding.advice)


async def _send(connector: Connector, connection: Connection, now: float) -> AsyncIterator[Step]:
    delivery = trial_delivery(connection, now)
    began = monotonic()
    report = await connector.send(delivery)
    if report.status_code is None:
        yield _ended(StepName.REQUEST, began, report.detail, advice_on(report))
        return
    answering = report.exchange.answering_seconds if report.exchange else None
    took = monotonic() - began if answering is None else answering
    yield Step(StepName.REQUEST, True, took, f"sent {delivery.message_id}, and an answer came")
    accepted = isinstance(report.outcome, Delivered)
    yield Step(StepName.STATUS, accepted, monotonic() - began, _status(report), "" if accepted else advice_on(report))


def trial_delivery(connection: Connection, now: float) -> Delivery:
    """Write a delivery of an event that happened nowhere; it says so, and has a message id of its own."""
    event = public_event_id(_NO_EVENT, secrets.randbits(32))
    name = f"{connection.namespace}/{connection.name}"
    return Delivery(
        message_id(connection.uid, event, TEST_TYPE),
        event,
        connection.tenant,
        TEST_TYPE,
        name,
        datetime.fromtimestamp(now, UTC),
        orjson.dumps({"test": True, "connection": name}),
        TEST_TYPE,
        1,
        now,
    )


def _status(report: Report) -> str:
    return f"HTTP {report.status_code}{f': {report.detail}' if report.detail else ''}"


def _ended(name: StepName, began: float, found: str, advice: str = "") -> Step:
    return Step(name, not advice, monotonic() - began, found, advice)
