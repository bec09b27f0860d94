"""Which connector serves which provider: those built in, and those that are installed beside.

A third party adds a connector with an entry point in the group `integrations.connectors`, named as
`spec.plugin.connector` names it, that refers to a ConnectorType. What is built in cannot be replaced that way: an
installed package must not come between a tenant and its credentials unnoticed.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from pydantic import ValidationError

from connectors.actions import suggestion
from connectors.connector import ChecksCredentials, Connection, Connector, ConnectorType
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.egress import EgressPolicy
from connectors.errors import ConnectorError, NoConnectorError, UnusableCredentialError
from connectors.http import GuardedHttp
from connectors.hubspot.connector import HubSpotConnector
from connectors.pipedrive.connector import PipedriveConnector
from connectors.webhook.connector import WebhookConnector
from contracts.connection import ConnectionSpec, PluginConnectionSpec, Provider
from contracts.fields import InvalidFieldError
from contracts.problems import Problem, problems_of
from contracts.spec_values import SecretKeyRef

ENTRY_POINT_GROUP: Final = "integrations.connectors"

BUILT_IN: Final[Mapping[str, ConnectorType]] = {
    Provider.HUBSPOT.value: HubSpotConnector,
    Provider.PIPEDRIVE.value: PipedriveConnector,
    Provider.WEBHOOK.value: WebhookConnector,
}


def open_connector(connection: Connection, context: ConnectorContext) -> Connector:
    """Open the connector that the spec asks for; raise NoConnectorError if it is not installed."""
    return connector_type(connector_name(connection.spec))(connection, context)


def connector_name(spec: ConnectionSpec) -> str:
    """Return which connector a spec asks for: its provider's, or a plug-in's."""
    return spec.plugin.connector if isinstance(spec, PluginConnectionSpec) else spec.provider.value


def settings_problems(spec: ConnectionSpec, connector: ConnectorType) -> tuple[Problem, ...]:
    """Say what is wrong with a plug-in's settings, by their places; those of others are checked with the spec."""
    if not isinstance(spec, PluginConnectionSpec):
        return ()
    model = getattr(connector, "settings", None)
    place = "spec.plugin.settings"
    if model is None:
        unasked = sorted(spec.plugin.settings)
        return tuple(Problem(f"{place}.{name}", f"{spec.plugin.connector} has no settings") for name in unasked)
    try:
        model.model_validate(spec.plugin.settings)
    except ValidationError as error:
        return problems_of(error, model, root=place, meanings={})
    return ()


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
def connector_type(name: str) -> ConnectorType:
    """Find a connector by its name, which is its provider's or a plug-in's; raise NoConnectorError if there is none."""
    return BUILT_IN.get(name) or _installed(name)


def installed_names() -> list[str]:
    """Name the plug-ins that are installed."""
    return sorted({each.name for each in entry_points(group=ENTRY_POINT_GROUP)} - BUILT_IN.keys())


def _installed(name: str) -> ConnectorType:
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        known = f"; installed are {', '.join(installed_names())}" if installed_names() else ""
        raise NoConnectorError(
            f"no connector {name} is installed{suggestion(name, installed_names())}{known}; install a package with an"
            f" entry point {name} in the group {ENTRY_POINT_GROUP}, in the image of operator and workers"
        )
    if len(found) > 1:
        packages = ", ".join(sorted(map(_package, found)))
        raise NoConnectorError(f"several packages bring a connector {name}: {packages}; keep one of them")
    try:
        factory: ConnectorType = found[0].load()
    except (ImportError, AttributeError) as error:
        raise NoConnectorError(f"the connector {name} in {_package(found[0])} cannot be loaded: {error}") from error
    return factory


def _package(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else entry_point.value
