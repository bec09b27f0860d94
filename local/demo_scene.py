"""The demo's scene, set by the manifests of its folder: each connection there gets an endpoint at the partner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from contracts.connection import WebhookConnectionSpec, WebhookSettings
from contracts.manifests import Manifests
from local.demo_counts import Endpoint
from local.demo_partner import HOST
from local.errors import DemoError

_FITTING = (
    f"a demo needs webhook connections whose addresses are http://{HOST}:PORT/PATH, all with one port and each with a"
    " path of its own; the folder examples/local of the source has such manifests"
)


@dataclass(frozen=True, slots=True)
class Scene:
    """The endpoints of one partner, the secrets it shares with each by path, and the port it listens on."""

    endpoints: tuple[Endpoint, ...]
    secrets: Mapping[str, list[str]] = field(repr=False)
    port: int


def set_scene(manifests: Manifests) -> Scene:
    """Set the scene that the manifests describe; raise DemoError."""
    if manifests.problems:
        listed = "\n".join(map(str, manifests.problems))
        raise DemoError(f"the demo's manifests have problems; correct them first:\n{listed}")
    endpoints: dict[str, Endpoint] = {}
    secrets: dict[str, list[str]] = {}
    ports: set[int] = set()
    for connection in manifests.connections:
        spec = connection.spec
        address = urlsplit(spec.webhook.url) if isinstance(spec, WebhookConnectionSpec) else None
        if not isinstance(spec, WebhookConnectionSpec) or address is None or address.hostname != HOST:
            raise DemoError(f"connection {connection.namespace}/{connection.name} does not fit: {_FITTING}")
        if address.path in endpoints:
            raise DemoError(f"two connections have the path {address.path}: {_FITTING}")
        endpoints[address.path] = Endpoint(connection, address.path)
        secrets[address.path] = _signing_secrets(manifests, connection.namespace, spec.webhook)
        ports.add(address.port or 80)
    if len(ports) != 1:
        raise DemoError(f"the manifests name {len(ports) or 'no'} ports: {_FITTING}")
    return Scene(tuple(endpoints.values()), secrets, ports.pop())


def _signing_secrets(manifests: Manifests, namespace: str, webhook: WebhookSettings) -> list[str]:
    data = {(secret.namespace, secret.name): secret.data for secret in manifests.secrets}
    values = []
    for reference in webhook.signing.secrets_from:
        value = data.get((namespace, reference.name), {}).get(reference.key)
        if value is None:
            raise DemoError(f"the demo's manifests lack key {reference.key} of Secret {namespace}/{reference.name}")
        values.append(value.decode().strip())
    return values
