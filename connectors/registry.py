"""Which connector serves which provider: those built in, and those that are installed beside.

A third party adds a connector with an entry point in the group `integrations.connectors`, named as the provider is
in a spec (`HubSpot`), that refers to a ConnectorType. What is built in cannot be replaced that way: an installed
package must not come between a tenant and its credentials unnoticed.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from connectors.connector import ChecksCredentials, Connection, Connector, ConnectorType
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.egress import EgressPolicy
from connectors.errors import ConnectorError, NoConnectorError, UnusableCredentialError
from connectors.http import GuardedHttp
from connectors.hubspot.connector import HubSpotConnector
from connectors.pipedrive.connector import PipedriveConnector
from connectors.webhook.connector import WebhookConnector
from contracts.connection import Provider, SecretKeyRef
from contracts.fields import InvalidFieldError

ENTRY_POINT_GROUP: Final = "integrations.connectors"

_BUILT_IN: Final[dict[Provider, ConnectorType]] = {
    Provider.HUBSPOT: HubSpotConnector,
    Provider.PIPEDRIVE: PipedriveConnector,
    Provider.WEBHOOK: WebhookConnector,
}


def open_connector(connection: Connection, context: ConnectorContext) -> Connector:
    """Open the connector of the connection's provider; raise NoConnectorError if none is installed."""
    return connector_type(connection.spec.provider)(connection, context)


def check_credentials(connection: Connection, credentials: Mapping[SecretKeyRef, bytes]) -> list[str]:
    """Say why a connection cannot work with these credentials; nothing is sent. Empty if nothing speaks against it."""
    # Opening does no I/O and nothing is sent, so there is nothing to close.
    context = ConnectorContext(_Given(connection.namespace, credentials), GuardedHttp(EgressPolicy()))
    try:
        connector = open_connector(connection, context)
    except (ConnectorError, InvalidFieldError) as error:
        return [str(error)]
    try:
        if isinstance(connector, ChecksCredentials):
            connector.check_credentials()
    except (CredentialMissingError, UnusableCredentialError) as error:
        return [str(error)]
    return []


class _Given:
    """Credentials that somebody holds in hand."""

    def __init__(self, namespace: str, values: Mapping[SecretKeyRef, bytes]) -> None:
        self._namespace = namespace
        self._values = values

    def read(self, reference: SecretKeyRef) -> bytes:
        """Return a value; raise CredentialMissingError."""
        value = self._values.get(reference)
        if value is None:
            name = f"{self._namespace}/{reference.name}"
            raise CredentialMissingError(f"Secret {name} does not exist or has no key {reference.key}")
        return value


@cache
def connector_type(provider: Provider) -> ConnectorType:
    """Find what opens connectors for a provider; raise NoConnectorError if nothing installed does."""
    return _BUILT_IN.get(provider) or _installed(provider)


def _installed(provider: Provider) -> ConnectorType:
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=provider.value))
    if not found:
        raise NoConnectorError(
            f"no connector is installed for the provider {provider.value}; "
            f"install a package with an entry point {provider.value} in the group {ENTRY_POINT_GROUP}"
        )
    if len(found) > 1:
        packages = ", ".join(sorted(map(_package, found)))
        raise NoConnectorError(f"several packages serve the provider {provider.value}: {packages}; keep one of them")
    try:
        factory: ConnectorType = found[0].load()
    except (ImportError, AttributeError) as error:
        raise NoConnectorError(
            f"the connector for the provider {provider.value} in {_package(found[0])} cannot be loaded: {error}"
        ) from error
    return factory


def _package(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else entry_point.value
