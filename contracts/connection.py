"""The spec of an IntegrationConnection: what a person writes to link a tenant to a partner account.

The parts are beside it: `delivery_spec`, and one for each kind of partner (`webhook_spec`, `crm_spec`, `plugin_spec`).
These models are the one source of that document's shape: manifests are read through them and the custom resource
definition follows from them. Names are camelCase on the wire and snake_case in Python; everything is bounded,
unknown fields are refused, and a value of the wrong type is refused rather than converted, as the API server does.
A spec is immutable and hashable, and `spec.model_dump(mode="json", exclude_none=True)` is its wire form.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self, assert_never

from pydantic import (
    Field,
    Strict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from contracts.crm_spec import OAUTH_SCOPE, OAUTH_SECRET_KEYS, HubSpotSettings, OAuth, PipedriveSettings, StaticToken
from contracts.delivery_spec import DeliverySpec, RouteSpec
from contracts.durations import Duration, DurationBounds
from contracts.errors import InvalidSpecError
from contracts.ids import TenantId
from contracts.patterns import EVENT_TYPE_PATTERN
from contracts.plugin_spec import PluginSettings
from contracts.problems import Problem, describe, problems_of, show
from contracts.spec_values import ACTION, DATA_KEY, DNS_SUBDOMAIN, WEB_ADDRESS, SecretKeyRef, refuse_repeated
from contracts.throttle import TIME_ZONE
from contracts.webhook_spec import HEADER_NAME, HEADER_VALUE, WebhookSettings
from contracts.wire import DNS_LABEL, WireModel

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
        refuse_repeated("route", [route.name for route in self.routes])
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
