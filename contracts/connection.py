"""The spec of an IntegrationConnection: what a person writes to link a tenant to a partner account.

These models are the one source of that document's shape: manifests are read through them and the custom resource
definition follows from them. Names are camelCase on the wire and snake_case in Python; everything is bounded,
unknown fields are refused, and a value of the wrong type is refused rather than converted, as the API server does.
A spec is immutable and hashable, and `spec.model_dump(mode="json", exclude_none=True)` is its wire form.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated, Any, Final, Literal, Self, assert_never

from pydantic import (
    AfterValidator,
    Field,
    Strict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from contracts.durations import Duration, DurationBounds
from contracts.errors import InvalidSpecError
from contracts.ids import TenantId
from contracts.patterns import EVENT_TYPE_LIMIT, EVENT_TYPE_PATTERN
from contracts.problems import Problem, describe, problems_of, show
from contracts.throttle import TIME_ZONE, ThrottleSpec
from contracts.webhook_batch import BATCH_NEEDS_CLOUD_EVENTS, WebhookBatch
from contracts.wire import DNS_LABEL, WireModel

DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
DATA_KEY = r"^[-._a-zA-Z0-9]+$"
HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
HEADER_VALUE = r"^[!-~]([ -~]*[!-~])?$"
WEB_ADDRESS = r"^https?://([A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|#|%[0-9A-Fa-f]{2})+$"
ACTION = r"^[A-Z][A-Za-z0-9]*$"

OAUTH_SECRET_KEYS: Final = ("client_id", "client_secret")
"""The keys that a Secret named by `oauth.secretRef` holds, called as RFC 6749 calls them."""

OAUTH_SCOPE = r"^[!#-\[\]-~]+$"

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

_HOST: Final = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?|\[[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]"
_PORT: Final = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"

ADDRESS_RULES: Final = (
    (
        r"^https?://[^/?#@]*([/?#]|$)",
        "the address must not hold a user name or password; use headers with valueFrom instead",
    ),
    (
        r"^https?://([^/?#]*@)?(" + _HOST + r")(:[^/?#]*)?([/?#]|$)",
        "the address needs a host name or IP address after http:// or https://, an IPv6 address in brackets",
    ),
    (
        r"^https?://([^/?#]*@)?([^/?#:]*|\[[^/?#]*\])(:0*(" + _PORT + r"))?([/?#]|$)",
        "the port of the address must be from 1 to 65535, or left out together with its ':'",
    ),
    (r"^[^#]*$", "the address must not have a fragment; remove '#' and what follows it"),
)
"""What an address must match to be called, beyond WEB_ADDRESS, and what to tell those whose address does not."""

NOT_AN_IPV6_ADDRESS: Final = (
    "what is in brackets in the address must be an IPv6 address, and not an IPv4 one in disguise"
)

_BRACKETED = re.compile(r"https?://\[([^\]]*)\]")

MEANINGS: Final = {
    DNS_LABEL: "lower-case letters, digits and '-', beginning and ending with a letter or digit",
    DNS_SUBDOMAIN: "lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit",
    DATA_KEY: "letters, digits, '-', '_' and '.'",
    HEADER_NAME: "an HTTP header name: letters, digits and any of !#$%&'*+.^_`|~-",
    HEADER_VALUE: "printable ASCII without line breaks and without spaces at either end",
    WEB_ADDRESS: "an absolute address that begins with http:// or https://, in ASCII "
    "(international names as xn--, other characters percent-encoded)",
    EVENT_TYPE_PATTERN: "an event type such as company.updated, a prefix such as company.*, or *",
    OAUTH_SCOPE: "a scope such as crm.objects.companies.read, one in each entry",
    ACTION: "a name such as UpsertCompany: letters and digits, beginning with a capital letter",
    TIME_ZONE: "a time zone such as Europe/Berlin, America/New_York or UTC",
}
"""What each pattern means, in words for the person whose value does not match it."""


class Provider(StrEnum):
    """The kind of partner."""

    HUBSPOT = "HubSpot"
    PIPEDRIVE = "Pipedrive"
    WEBHOOK = "Webhook"
    PLUGIN = "Plugin"


class WebhookFormat(StrEnum):
    """How an event is laid out in a webhook request."""

    STANDARD = "Standard"
    """Standard Webhooks: `{type, timestamp, data}` as JSON."""
    CLOUD_EVENTS = "CloudEvents"
    """CloudEvents 1.0, structured mode: the envelope is in the body."""
    CLOUD_EVENTS_BINARY = "CloudEventsBinary"
    """CloudEvents 1.0, binary mode: the envelope is in `ce-` headers, the body is the data."""


class Ordering(StrEnum):
    """Whether jobs of one subject wait for each other."""

    PER_SUBJECT = "PerSubject"
    """Jobs of one subject are delivered in event order; a failing subject holds back only itself."""
    UNORDERED = "Unordered"
    """No job waits for another."""


class OnDeadLetter(StrEnum):
    """What becomes of the later jobs of a subject when one of its jobs is given up."""

    PASS = "Pass"  # noqa: S105 -- no password
    """They are delivered without it."""
    BLOCK = "Block"
    """They wait until a person resends or discards it."""


class DeletionPolicy(StrEnum):
    """What becomes of undelivered jobs when the connection is deleted."""

    DRAIN = "Drain"
    """Accept nothing new, deliver what is there for as long as drainTimeout says, then delete."""
    DELETE = "Delete"
    """Delete at once, with what is undelivered."""
    ORPHAN = "Orphan"
    """Stop managing the connection and leave its rows as they are."""


class Isolation(StrEnum):
    """Who shares a pool of workers, and so a database role and mounted credentials."""

    SHARED = "Shared"
    TENANT = "Tenant"
    CONNECTION = "Connection"


SecretName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
SecretKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DATA_KEY)]


class SecretRef(WireModel):
    """A whole Secret in the connection's own namespace."""

    name: SecretName
    """Name of the Secret."""


class SecretKeyRef(WireModel):
    """One key of a Secret in the connection's own namespace."""

    name: SecretName
    """Name of the Secret."""
    key: SecretKey
    """Key in the Secret's data."""


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


def _check_address(url: str) -> str:
    for pattern, message in ADDRESS_RULES:
        if not re.search(pattern, url):
            raise ValueError(message)
    bracketed = _BRACKETED.match(url)
    if bracketed and not _is_ipv6_address(bracketed[1]):
        raise ValueError(NOT_AN_IPV6_ADDRESS)
    return url


def _is_ipv6_address(text: str) -> bool:
    try:
        return IPv6Address(text).ipv4_mapped is None
    except AddressValueError:
        return False


Address = Annotated[
    str, StringConstraints(min_length=1, max_length=2048, pattern=WEB_ADDRESS), AfterValidator(_check_address)
]


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
        _refuse_repeated("header", [header.name.lower() for header in self.headers])
        return self


class OAuth(WireModel):
    """An OAuth 2.0 app. An account's owner grants it access with `integrations connect`."""

    secret_ref: SecretRef
    """Secret with the keys client_id and client_secret."""
    refresh_token_from: SecretKeyRef | None = None
    """A refresh token of a grant that was made elsewhere, to begin with. When it changes, it replaces the grant."""
    scopes: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=OAUTH_SCOPE)], ...],
        Field(max_length=64),
    ] = ()
    """What the app asks to be allowed; if left out, what the connector needs."""
    server_url: Address | None = None
    """Where the partner's OAuth pages and token endpoint are; only for tests and for proxies of your own."""


class StaticToken(WireModel):
    """A token that does not run out by itself."""

    token_from: SecretKeyRef
    """Where the token is kept."""


class HubSpotAuth(WireModel):
    """How we prove to HubSpot who we are: exactly one of the fields."""

    oauth: OAuth | None = None
    """As an OAuth app."""
    private_app: StaticToken | None = None
    """With the access token of a private app."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.oauth is None) == (self.private_app is None):
            raise ValueError("exactly one of oauth and privateApp must be given")
        return self


class HubSpotVersion(StrEnum):
    """A version of HubSpot's API, which are dated; each is supported for 18 months."""

    V2026_03 = "2026-03"
    V2026_09 = "2026-09"


class HubSpotSettings(WireModel):
    """A HubSpot account."""

    auth: HubSpotAuth
    """How we prove who we are."""
    api_version: HubSpotVersion = HubSpotVersion.V2026_03
    """The version of HubSpot's API that is called."""
    api_url: Address = "https://api.hubapi.com"
    """Where HubSpot's API is; another address is for tests and for proxies of your own."""


class PipedriveAuth(WireModel):
    """How we prove to Pipedrive who we are: exactly one of the fields."""

    oauth: OAuth | None = None
    """As an OAuth app."""
    api_token: StaticToken | None = None
    """With a user's API token."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.oauth is None) == (self.api_token is None):
            raise ValueError("exactly one of oauth and apiToken must be given")
        return self


PIPEDRIVE_API: Final = "https://api.pipedrive.com"


class PipedriveSettings(WireModel):
    """A Pipedrive company."""

    daily_tokens: Annotated[int, Strict(), Field(ge=1_000, le=100_000_000)] | None = None
    """How many of the company's daily API tokens the connection may spend; without it, all that there are."""

    auth: PipedriveAuth
    """How we prove who we are."""
    api_url: Address = PIPEDRIVE_API
    """Where Pipedrive's API is; another address is for tests and for proxies of your own. With OAuth, Pipedrive says
    itself where a company's is."""


PLUGIN_SETTINGS_LIMIT: Final = 16 * 1024
"""Bytes of a plug-in's settings as JSON."""


def _check_plugin_settings(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError("settings are JSON: texts, numbers, true, false, null, lists and objects") from None
    if size > PLUGIN_SETTINGS_LIMIT:
        raise ValueError(f"settings of more than {PLUGIN_SETTINGS_LIMIT} bytes are not allowed")
    return settings


class PluginSecret(WireModel):
    """A credential of a plug-in's connection."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """What the connector calls it, once in a connection."""
    secret: SecretKeyRef
    """Where it is kept."""


class PluginSettings(WireModel):
    """A partner of a connector that is installed beside ours."""

    connector: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=ACTION)]
    """Name of the connector, as its package registers it; `integrations connectors` lists those that are installed."""
    settings: Annotated[
        dict[str, Any],
        AfterValidator(_check_plugin_settings),
        WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 64}),
    ] = Field(default={})
    """What the connector wants to know; it checks that itself, when the connection is published."""
    secrets_from: Annotated[tuple[PluginSecret, ...], Field(max_length=16)] = ()
    """The connection's credentials, by the names that the connector has for them."""

    def __hash__(self) -> int:
        return hash((self.connector, json.dumps(self.settings, sort_keys=True), self.secrets_from))

    @model_validator(mode="after")
    def _secret_names_are_unique(self) -> Self:
        _refuse_repeated("secret", [each.name for each in self.secrets_from])
        return self

    def secret(self, name: str) -> SecretKeyRef | None:
        """Return where a credential is kept; None if the spec does not say."""
        return next((each.secret for each in self.secrets_from if each.name == name), None)


TypePattern = Annotated[str, StringConstraints(min_length=1, max_length=EVENT_TYPE_LIMIT, pattern=EVENT_TYPE_PATTERN)]


class FieldEntry(WireModel):
    """What one property of the partner is set to."""

    property: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """Name of the partner's property, once in a route."""
    value: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """CEL expression over `event`. Null clears the property; a field that the event does not have leaves it alone."""


class RouteSpec(WireModel):
    """A rule that selects events and says what to do with them."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Name of the route, once in a connection; part of the idempotency key, so a renamed route is a new one."""
    events: Annotated[tuple[TypePattern, ...], Field(min_length=1, max_length=32)]
    """Event types: exact (`company.updated`), by prefix (`company.*`), or `*`."""
    filter: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """CEL expression over `event`; the events for which it is true are delivered."""
    action: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=ACTION)] | None = None
    """What the connector shall do; its default action if left out."""
    fields: Annotated[tuple[FieldEntry, ...], Field(max_length=100)] = ()
    """What the partner's properties are set to, for actions that take fields; if left out, the connector chooses."""
    ordering: Ordering = Ordering.PER_SUBJECT
    """Whether jobs of one subject wait for each other: PerSubject delivers them in event order, Unordered does not."""
    on_dead_letter: OnDeadLetter = OnDeadLetter.PASS
    """What becomes of the later jobs of a subject when one of this route is given up: Pass delivers them without it,
    Block has them wait until a person resends or discards it."""
    collapse: Annotated[bool, Strict()] = False
    """Let a newer event of the same type and subject supersede older ones that are not delivered yet; those are
    recorded as superseded."""

    @model_validator(mode="after")
    def _properties_are_unique(self) -> Self:
        _refuse_repeated("property", [field.property for field in self.fields])
        return self

    @model_validator(mode="after")
    def _subjects_are_ordered(self) -> Self:
        if self.ordering is Ordering.UNORDERED and (self.collapse or self.on_dead_letter is OnDeadLetter.BLOCK):
            raise ValueError("collapse and onDeadLetter: Block need ordering: PerSubject; this route is Unordered")
        return self


class RetrySpec(WireModel):
    """What happens after a failed attempt: exponential delays with full jitter, or a schedule."""

    max_attempts: Annotated[int, Strict(), Field(ge=1, le=100)] = 12
    """Attempts before a job becomes a dead letter."""
    schedule: (
        Annotated[tuple[Annotated[Duration, DurationBounds("100ms", "168h")], ...], Field(min_length=1, max_length=32)]
        | None
    ) = None
    """The delays after the first, second, … failed attempt, in the place of initialDelay and maxDelay; the last one
    goes on for as long as maxAttempts allows. Each is lengthened at random by up to a tenth."""
    expire_after: Annotated[Duration, DurationBounds("1s", "720h")] | None = None
    """How long after its event a job may still be tried; then it becomes a dead letter with the reason Expired."""
    initial_delay: Annotated[Duration, DurationBounds("100ms", "1h")] = timedelta(seconds=5)
    """Bound of the first delay; it doubles with each attempt."""
    max_delay: Annotated[Duration, DurationBounds("100ms", "168h")] = timedelta(hours=10)
    """Bound of any delay."""
    retry_after_max: Annotated[Duration, DurationBounds("1s", "168h")] = timedelta(hours=24)
    """The longest wait that a partner can ask for and is granted in full."""

    @model_validator(mode="after")
    def _delays_grow(self) -> Self:
        if self.initial_delay > self.max_delay:
            raise ValueError("initialDelay must not be longer than maxDelay")
        return self


class FailureRateSpec(WireModel):
    """A part of the recent attempts that fails."""

    percent: Annotated[int, Strict(), Field(ge=1, le=100)] = 50
    """Failed attempts of a hundred that stop the connection."""
    window: Annotated[Duration, DurationBounds("10s", "24h")] = timedelta(minutes=5)
    """Time over which attempts are counted."""
    minimum_attempts: Annotated[int, Strict(), Field(ge=1, le=100_000)] = 20
    """Attempts within the window below which nothing is concluded."""


class RampSpec(WireModel):
    """How a connection comes back from quarantine: with 10, 25 and 50 percent of its limits, then with all of them."""

    successes: Annotated[int, Strict(), Field(ge=1, le=10_000)] = 20
    """Deliveries that complete a step."""
    duration: Annotated[Duration, DurationBounds("1s", "24h")] = timedelta(minutes=1)
    """Time without a failure that completes a step as well."""


class QuarantineSpec(WireModel):
    """When a failing connection is stopped, how often it is tried again, and how it comes back."""

    consecutive_failures: Annotated[int, Strict(), Field(ge=1, le=10_000)] = 10
    """Failed attempts in a row, over all jobs, that stop the connection."""
    failure_rate: FailureRateSpec | None = None
    """A rate of failures that stops the connection as well, however few come in a row."""
    probe_interval: Annotated[Duration, DurationBounds("1s", "24h")] = timedelta(minutes=5)
    """Time between two probes of a stopped connection; it doubles with each failed probe, up to an hour."""
    ramp: RampSpec = RampSpec()
    """How the connection comes back."""


class DeliverySpec(WireModel):
    """How jobs are delivered."""

    throttle: ThrottleSpec = ThrottleSpec()
    """How fast the partner is called."""
    retry: RetrySpec = RetrySpec()
    """What happens after a failed attempt."""
    quarantine: QuarantineSpec = QuarantineSpec()
    """When the connection is stopped."""
    weight: Annotated[int, Strict(), Field(ge=1, le=100)] = 1
    """Share of the tenant's turns that the connection gets beside the tenant's other connections."""
    timeout: Annotated[Duration, DurationBounds("100ms", "120s")] = timedelta(seconds=15)
    """Time that one attempt may take."""


class ReplicasSpec(WireModel):
    """Between which numbers the workers follow the backlog."""

    min: Annotated[int, Strict(), Field(ge=0, le=50)] = 0
    """Workers that run even when there is nothing to deliver."""
    max: Annotated[int, Strict(), Field(ge=1, le=50)] = 4
    """Workers that run at most."""

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min > self.max:
            raise ValueError("min must not be larger than max, which is 4 if left out; lower min or raise max")
        return self


class WorkersSpec(WireModel):
    """The workers that deliver for the connection."""

    isolation: Isolation = Isolation.TENANT
    """Who shares the workers, their database role and mounted credentials: the connections of a namespace that ask for
    it (Shared), those of one tenant (Tenant), or nobody (Connection); immutable."""
    replicas: ReplicasSpec = ReplicasSpec()
    """How many workers there are."""


class CommonConnectionSpec(WireModel):
    """What every connection says, whichever its provider."""

    tenant: Annotated[TenantId, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """The tenant whose events are delivered; immutable."""
    suspend: Annotated[bool, Strict()] = False
    """Deliver nothing for now; events keep becoming jobs."""
    deletion_policy: DeletionPolicy = DeletionPolicy.DRAIN
    """What becomes of undelivered jobs when the connection is deleted: Drain delivers them first, Delete drops them,
    Orphan leaves the rows of the connection as they are."""
    drain_timeout: Annotated[Duration, DurationBounds("1s", "24h")] = timedelta(minutes=10)
    """How long a deleted connection with the policy Drain goes on delivering; what is left becomes dead letters."""
    routes: Annotated[tuple[RouteSpec, ...], Field(min_length=1, max_length=32)]
    """Which events are delivered; an event is delivered once for every route that selects it."""
    delivery: DeliverySpec = DeliverySpec()
    """How jobs are delivered."""
    workers: WorkersSpec = WorkersSpec()
    """The workers that deliver for the connection."""

    @model_validator(mode="after")
    def _route_names_are_unique(self) -> Self:
        _refuse_repeated("route", [route.name for route in self.routes])
        return self


class WebhookConnectionSpec(CommonConnectionSpec):
    """A connection to any webhook receiver."""

    provider: Literal[Provider.WEBHOOK]
    """The kind of partner; immutable."""
    webhook: WebhookSettings
    """The receiver."""


class HubSpotConnectionSpec(CommonConnectionSpec):
    """A connection to a HubSpot account."""

    provider: Literal[Provider.HUBSPOT]
    """The kind of partner; immutable."""
    hubspot: HubSpotSettings
    """The account."""


class PipedriveConnectionSpec(CommonConnectionSpec):
    """A connection to a Pipedrive company."""

    provider: Literal[Provider.PIPEDRIVE]
    """The kind of partner; immutable."""
    pipedrive: PipedriveSettings
    """The account."""


class PluginConnectionSpec(CommonConnectionSpec):
    """A connection to a partner of a connector that is installed beside ours."""

    provider: Literal[Provider.PLUGIN]
    """The kind of partner; immutable."""
    plugin: PluginSettings
    """The connector and its settings."""


ConnectionSpec = Annotated[
    WebhookConnectionSpec | HubSpotConnectionSpec | PipedriveConnectionSpec | PluginConnectionSpec,
    Field(discriminator="provider"),
]
"""The spec of a connection: a union by `provider`."""

_SPECS: Final[Mapping[object, type[ConnectionSpec]]] = {
    Provider.WEBHOOK: WebhookConnectionSpec,
    Provider.HUBSPOT: HubSpotConnectionSpec,
    Provider.PIPEDRIVE: PipedriveConnectionSpec,
    Provider.PLUGIN: PluginConnectionSpec,
}


def parse_connection_spec(document: object) -> ConnectionSpec:
    """Read a spec in its wire form (camelCase); raise InvalidSpecError with every problem found."""
    if not isinstance(document, dict):
        raise InvalidSpecError((Problem("spec", f"found {describe(document)}; a mapping is required"),))
    provider = document.get("provider")
    if not isinstance(provider, str) or provider not in _SPECS:
        message = f"found {show(provider)}; allowed are {', '.join(Provider)}"
        raise InvalidSpecError((Problem("spec.provider", message),))
    model = _SPECS[provider]
    try:
        return model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidSpecError(problems_of(error, model, root="spec", meanings=MEANINGS)) from error


def secret_references(spec: ConnectionSpec) -> frozenset[SecretKeyRef]:
    """Name every key of every Secret that the connection reads."""
    return frozenset(_referenced_keys(spec))


def oauth_of(spec: ConnectionSpec) -> OAuth | None:
    """Return the OAuth app that the connection proves itself with, if it does so."""
    match spec:
        case HubSpotConnectionSpec(hubspot=hubspot):
            return hubspot.auth.oauth
        case PipedriveConnectionSpec(pipedrive=pipedrive):
            return pipedrive.auth.oauth
        case _:
            return None


def _referenced_keys(spec: ConnectionSpec) -> Iterator[SecretKeyRef]:
    match spec:
        case WebhookConnectionSpec(webhook=webhook):
            yield from webhook.signing.secrets_from
            yield from (header.value_from for header in webhook.headers if header.value_from)
            if webhook.tls and webhook.tls.ca_from:
                yield webhook.tls.ca_from
        case HubSpotConnectionSpec(hubspot=hubspot):
            yield from _credential_keys(hubspot.auth.oauth, hubspot.auth.private_app)
        case PipedriveConnectionSpec(pipedrive=pipedrive):
            yield from _credential_keys(pipedrive.auth.oauth, pipedrive.auth.api_token)
        case PluginConnectionSpec(plugin=plugin):
            yield from (each.secret for each in plugin.secrets_from)
        case _:
            assert_never(spec)


def _credential_keys(oauth: OAuth | None, token: StaticToken | None) -> Iterator[SecretKeyRef]:
    if oauth:
        yield from (SecretKeyRef(name=oauth.secret_ref.name, key=key) for key in OAUTH_SECRET_KEYS)
        if oauth.refresh_token_from:
            yield oauth.refresh_token_from
    if token:
        yield token.token_from


def _refuse_repeated(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"each {what} name may occur only once; repeated: {', '.join(repeated)}")
