"""The demo's scene, set by the manifests of its folder: each connection there gets an endpoint at the partner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from contracts.connection import HubSpotConnectionSpec, PipedriveConnectionSpec, PluginConnectionSpec
from contracts.manifests import IntegrationConnection, Manifests
from contracts.spec_values import SecretKeyRef
from contracts.webhook_spec import WebhookSettings
from local.demo_counts import Endpoint
from local.demo_crm import Crm
from local.demo_partner import HOST
from local.errors import DemoError

_FITTING = (
    f"a demo needs webhook connections whose addresses are http://{HOST}:PORT/PATH, all with one port and each with a"
    " path of its own; the folder examples/local of the source has such manifests"
)


@dataclass(frozen=True, slots=True)
class Scene:
    """The endpoints of one partner, the secrets it shares with each by path, the port it listens on, and the CRMs."""

    endpoints: tuple[Endpoint, ...]
    secrets: Mapping[str, list[str]] = field(repr=False)
    port: int
    crms: tuple[Crm, ...]


def set_scene(manifests: Manifests) -> Scene:
    """Set the scene that the manifests describe; raise DemoError."""
    if manifests.problems:
        listed = "\n".join(map(str, manifests.problems))
        raise DemoError(f"the demo's manifests have problems; correct them first:\n{listed}")
    endpoints: dict[str, Endpoint] = {}
    secrets: dict[str, list[str]] = {}
    ports: set[int] = set()
    crms: list[Crm] = []
    for connection in manifests.connections:
        spec = connection.spec
        if isinstance(spec, HubSpotConnectionSpec | PipedriveConnectionSpec):
            crms.append(_crm(manifests, connection, spec))
            continue
        if isinstance(spec, PluginConnectionSpec):
            raise DemoError(f"connection {connection.namespace}/{connection.name} does not fit: {_FITTING}")
        address = urlsplit(spec.webhook.url)
        if address.hostname != HOST:
            raise DemoError(f"connection {connection.namespace}/{connection.name} does not fit: {_FITTING}")
        if address.path in endpoints:
            raise DemoError(f"two connections have the path {address.path}: {_FITTING}")
        endpoints[address.path] = Endpoint(connection, address.path)
        secrets[address.path] = _signing_secrets(manifests, connection.namespace, spec.webhook)
        ports.add(address.port or 80)
    if len(ports) != 1:
        raise DemoError(f"the manifests name {len(ports) or 'no'} ports: {_FITTING}")
    return Scene(tuple(endpoints.values()), secrets, ports.pop(), tuple(crms))


def _crm(
    manifests: Manifests, connection: IntegrationConnection, spec: HubSpotConnectionSpec | PipedriveConnectionSpec
) -> Crm:
    if isinstance(spec, HubSpotConnectionSpec):
        url, token = spec.hubspot.api_url, spec.hubspot.auth.private_app
    else:
        url, token = spec.pipedrive.api_url, spec.pipedrive.auth.api_token
    actions = sorted(route.action or "" for route in spec.routes)
    if token is None or urlsplit(url).hostname != HOST or actions != ["AddNote", "UpsertCompany"]:
        raise DemoError(
            f"connection {connection.namespace}/{connection.name} does not fit: a demo's CRM is at http://{HOST}:PORT,"
            " with a token, a route for UpsertCompany and one for AddNote"
        )
    return Crm(connection, url, _value(manifests, connection.namespace, token.token_from))


def _signing_secrets(manifests: Manifests, namespace: str, webhook: WebhookSettings) -> list[str]:
    return [_value(manifests, namespace, reference) for reference in webhook.signing.secrets_from]


def _value(manifests: Manifests, namespace: str, reference: SecretKeyRef) -> str:
    data = {(secret.namespace, secret.name): secret.data for secret in manifests.secrets}
    value = data.get((namespace, reference.name), {}).get(reference.key)
    if value is None:
        raise DemoError(f"the demo's manifests lack key {reference.key} of Secret {namespace}/{reference.name}")
    return value.decode().strip()
