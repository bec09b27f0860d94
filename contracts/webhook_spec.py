"""The part of a connection's spec that says what a webhook receiver is like."""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    model_validator,
)

from contracts.spec_values import DNS_SUBDOMAIN, Address, SecretKeyRef, refuse_repeated
from contracts.webhook_batch import BATCH_NEEDS_CLOUD_EVENTS, WebhookBatch
from contracts.wire import WireModel

HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
HEADER_VALUE = r"^[!-~]([ -~]*[!-~])?$"


RESERVED_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Header names (lower-case) that the delivery itself sets, or that steer the HTTP connection (RFC 9110, 7.6.1)."""

RESERVED_HEADER_PREFIXES: Final = ("webhook-", "ce-")
"""Beginnings of header names (lower-case) that Standard Webhooks and CloudEvents own."""


class WebhookFormat(StrEnum):
    """How an event is laid out in a webhook request."""

    STANDARD = "Standard"
    """Standard Webhooks: `{type, timestamp, data}` as JSON."""
    CLOUD_EVENTS = "CloudEvents"
    """CloudEvents 1.0, structured mode: the envelope is in the body."""
    CLOUD_EVENTS_BINARY = "CloudEventsBinary"
    """CloudEvents 1.0, binary mode: the envelope is in `ce-` headers, the body is the data."""


def _check_header_name(name: str) -> str:
    lowered = name.lower()
    if lowered in RESERVED_HEADERS or lowered.startswith(RESERVED_HEADER_PREFIXES):
        raise ValueError(f"the header {name} is set by the delivery itself and cannot be chosen; leave it out")
    return name


class HeaderEntry(WireModel):
    """One more header for every request: its value written here, or read from a Secret."""

    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=128, pattern=HEADER_NAME),
        AfterValidator(_check_header_name),
    ]
    """Name of the header; those that the delivery itself sets are reserved."""
    value: Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=HEADER_VALUE)] | None = None
    """The value, if it is no secret."""
    value_from: SecretKeyRef | None = None
    """Where the value is kept, if it is a secret."""

    @model_validator(mode="after")
    def _exactly_one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError("exactly one of value and valueFrom must be given")
        return self


class WebhookSigning(WireModel):
    """The secrets that sign every request."""

    secrets_from: Annotated[tuple[SecretKeyRef, ...], Field(min_length=1, max_length=10)]
    """Every secret signs each request, so that receivers can move from one to the next."""


class WebhookTls(WireModel):
    """What the receiver's certificate is checked against."""

    ca_from: SecretKeyRef | None = None
    """CA certificates (PEM) to trust beside the public ones."""


class WebhookHandshake(WireModel):
    """How the receiver is asked whether it wants to be sent events (CloudEvents' HTTP Web Hooks 1.0, section 4)."""

    origin: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
    """DNS name by which the receiver knows us, such as events.example.com; it is part of every request then."""


class WebhookSettings(WireModel):
    """A webhook receiver."""

    url: Address
    """Absolute http or https address that events are sent to."""
    signing: WebhookSigning
    """The secrets that sign every request."""
    format: WebhookFormat = WebhookFormat.STANDARD
    """How an event is laid out in a request: Standard is `{type, timestamp, data}` as Standard Webhooks has it,
    CloudEvents puts the envelope of CloudEvents 1.0 into the body, CloudEventsBinary into `ce-` headers."""
    headers: Annotated[tuple[HeaderEntry, ...], Field(max_length=32)] = ()
    """More headers for every request, each name once."""
    tls: WebhookTls | None = None
    """What the receiver's certificate is checked against; the public CAs by default."""
    handshake: WebhookHandshake | None = None
    """Asks the receiver for permission, by OPTIONS, before the first event; by default it is not asked."""
    batch: WebhookBatch | None = None
    """Send many events in one request, in the batch format of CloudEvents; needs format: CloudEvents. One event in a
    request by default."""

    @model_validator(mode="after")
    def _batches_are_cloud_events(self) -> Self:
        if self.batch is not None and self.format is not WebhookFormat.CLOUD_EVENTS:
            raise ValueError(BATCH_NEEDS_CLOUD_EVENTS)
        return self

    @model_validator(mode="after")
    def _header_names_are_unique(self) -> Self:
        refuse_repeated("header", [header.name.lower() for header in self.headers])
        return self
