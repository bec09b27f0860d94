"""Connectors are found by provider: built in, or installed beside."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from connectors import registry
from connectors.connector import Connection
from connectors.context import ConnectorContext
from connectors.egress import EgressPolicy
from connectors.errors import NoConnectorError
from connectors.http import GuardedHttp
from connectors.registry import check_credentials, connector_type, open_connector
from connectors.webhook.connector import WebhookConnector
from contracts.connection import Provider, SecretKeyRef, parse_connection_spec
from contracts.ids import ConnectionUid, TenantId


class NoCredentials:
    def read(self, reference: SecretKeyRef) -> bytes:
        raise AssertionError(f"opening a connector reads no credentials, not even {reference}")


CONTEXT = ConnectorContext(NoCredentials(), GuardedHttp(EgressPolicy()))

WEBHOOK = {"webhook": {"url": "https://a.example/", "signing": {"secretsFrom": [{"name": "s", "key": "k"}]}}}
PIPEDRIVE = {"pipedrive": {"auth": {"apiToken": {"tokenFrom": {"name": "s", "key": "k"}}}}}


def connection(provider: Provider, settings: dict[str, object]) -> Connection:
    spec = parse_connection_spec(
        {"provider": provider.value, "tenant": "acme", "routes": [{"name": "all", "events": ["*"]}], **settings}
    )
    return Connection(ConnectionUid(uuid4()), "acme", "crm", TenantId("acme"), spec)


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what was found before, and that there is a connector for Pipedrive."""
    monkeypatch.delitem(registry._BUILT_IN, Provider.PIPEDRIVE)
    connector_type.cache_clear()
    yield
    connector_type.cache_clear()


def install(folder: Path, package: str, provider: str, target: str) -> None:
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[integrations.connectors]\n{provider} = {target}\n")


def test_webhook_connections_are_served_by_the_built_in_connector() -> None:
    assert isinstance(open_connector(connection(Provider.WEBHOOK, WEBHOOK), CONTEXT), WebhookConnector)


def test_an_installed_package_serves_another_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "other", "Pipedrive", "plugged_in_connector:open_it")
    (tmp_path / "plugged_in_connector.py").write_text("def open_it(connection, context): return connection.name\n")
    monkeypatch.syspath_prepend(tmp_path)

    opened: object = open_connector(connection(Provider.PIPEDRIVE, PIPEDRIVE), CONTEXT)

    assert opened == "crm"


def test_an_installed_package_cannot_replace_what_is_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "other", "Webhook", "plugged_in_connector:open_it")
    monkeypatch.syspath_prepend(tmp_path)

    assert connector_type(Provider.WEBHOOK) is WebhookConnector


def test_a_provider_without_connector_is_refused_with_what_to_do() -> None:
    with pytest.raises(NoConnectorError, match=r"Pipedrive; install a package .*integrations\.connectors"):
        open_connector(connection(Provider.PIPEDRIVE, PIPEDRIVE), CONTEXT)


def test_two_packages_for_one_provider_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "one", "Pipedrive", "a:b")
    install(tmp_path, "two", "Pipedrive", "c:d")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NoConnectorError, match=r"one, two"):
        connector_type(Provider.PIPEDRIVE)


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "broken", "Pipedrive", "no_such_module:open_it")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NoConnectorError, match=r"in broken cannot be loaded"):
        connector_type(Provider.PIPEDRIVE)


def test_a_connection_to_another_provider_is_no_webhook_connection() -> None:
    with pytest.raises(TypeError, match=r"acme/crm"):
        WebhookConnector(connection(Provider.PIPEDRIVE, PIPEDRIVE), CONTEXT)


SIGNING = SecretKeyRef(name="s", key="k")


@pytest.mark.parametrize(
    ("credentials", "problem"),
    [
        ({SIGNING: b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, None),
        ({SIGNING: b"whsec_very-private"}, "key k of Secret s cannot sign"),
        ({}, "Secret acme/s does not exist or has no key k"),
    ],
    ids=["good", "malformed", "missing"],
)
def test_credentials_are_checked_without_asking_the_partner(
    credentials: dict[SecretKeyRef, bytes], problem: str | None
) -> None:
    problems = check_credentials(connection(Provider.WEBHOOK, WEBHOOK), credentials)

    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]
    assert "very-private" not in str(problems)


def test_credentials_for_a_provider_without_a_connector_are_a_problem() -> None:
    (problem,) = check_credentials(connection(Provider.PIPEDRIVE, PIPEDRIVE), {})

    assert "no connector is installed" in problem


def test_what_an_oauth_apps_secret_lacks_is_named() -> None:
    hubspot = {"hubspot": {"auth": {"oauth": {"secretRef": {"name": "s"}}}}}
    route = [{"name": "all", "events": ["company.*"]}]
    spec = parse_connection_spec({"provider": "HubSpot", "tenant": "acme", "routes": route, **hubspot})
    (problem,) = check_credentials(Connection(ConnectionUid(uuid4()), "acme", "crm", TenantId("acme"), spec), {})

    assert problem == "Secret acme/s does not exist or has no key client_id"
