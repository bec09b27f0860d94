"""Which connector serves which provider: those built in, and those that are installed beside.

A third party adds a connector with an entry point in the group `integrations.connectors`, named as the provider is
in a spec (`HubSpot`), that refers to a ConnectorFactory. What is built in cannot be replaced that way: an installed
package must not come between a tenant and its credentials unnoticed.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from connectors.connector import Connection, Connector, ConnectorFactory
from connectors.context import ConnectorContext
from connectors.errors import NoConnectorError
from connectors.webhook.connector import WebhookConnector
from contracts.connection import Provider

ENTRY_POINT_GROUP: Final = "integrations.connectors"

_BUILT_IN: Final[dict[Provider, ConnectorFactory]] = {Provider.WEBHOOK: WebhookConnector}


def open_connector(connection: Connection, context: ConnectorContext) -> Connector:
    """Open the connector of the connection's provider; raise NoConnectorError if none is installed."""
    return connector_factory(connection.spec.provider)(connection, context)


@cache
def connector_factory(provider: Provider) -> ConnectorFactory:
    """Find what opens connectors for a provider; raise NoConnectorError if nothing installed does."""
    return _BUILT_IN.get(provider) or _installed(provider)


def _installed(provider: Provider) -> ConnectorFactory:
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
        factory: ConnectorFactory = found[0].load()
    except (ImportError, AttributeError) as error:
        raise NoConnectorError(
            f"the connector for the provider {provider.value} in {_package(found[0])} cannot be loaded: {error}"
        ) from error
    return factory


def _package(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else entry_point.value
