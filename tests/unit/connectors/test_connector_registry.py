"""Connectors are found by name: built in, or installed beside, whose settings they check themselves."""

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from connectors.connector import Connection
from connectors.context import ConnectorContext
from connectors.egress import EgressPolicy
from connectors.errors import NoConnectorError
from connectors.http import GuardedHttp
from connectors.registry import check_credentials, connector_type, open_connector, settings_problems
from connectors.webhook.connector import WebhookConnector
from contracts.connection import Provider, parse_connection_spec
from contracts.ids import ConnectionUid, TenantId
from contracts.spec_values import SecretKeyRef


class NoCredentials:
    def read(self, reference: SecretKeyRef) -> bytes:
        raise AssertionError(f"opening a connector reads no credentials, not even {reference}")


CONTEXT = ConnectorContext(NoCredentials(), GuardedHttp(EgressPolicy()))

WEBHOOK = {"webhook": {"url": "https://a.example/", "signing": {"secretsFrom": [{"name": "s", "key": "k"}]}}}
PLUGIN = {"plugin": {"connector": "Acme", "settings": {"url": "https://acme.example", "room": "x"}}}
PIPEDRIVE = {"pipedrive": {"auth": {"apiToken": {"tokenFrom": {"name": "s", "key": "k"}}}}}


def connection(provider: Provider, settings: dict[str, object]) -> Connection:
    spec = parse_connection_spec(
        {"provider": provider.value, "tenant": "acme", "routes": [{"name": "all", "events": ["*"]}], **settings}
    )
    return Connection(ConnectionUid(uuid4()), "acme", "crm", TenantId("acme"), spec)


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """Forget what was found before."""
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
    install(tmp_path, "other", "Acme", "plugged_in_connector:open_it")
    (tmp_path / "plugged_in_connector.py").write_text("def open_it(connection, context): return connection.name\n")
    monkeypatch.syspath_prepend(tmp_path)

    opened: object = open_connector(connection(Provider.PLUGIN, PLUGIN), CONTEXT)

    assert opened == "crm"


def test_an_installed_package_cannot_replace_what_is_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "other", "Webhook", "plugged_in_connector:open_it")
    monkeypatch.syspath_prepend(tmp_path)

    assert connector_type("Webhook") is WebhookConnector


def test_a_provider_without_connector_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        NoConnectorError, match=r"no connector Acme is installed; install a package .*integrations\.connectors"
    ):
        open_connector(connection(Provider.PLUGIN, PLUGIN), CONTEXT)


def test_two_packages_for_one_provider_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "one", "Acme", "a:b")
    install(tmp_path, "two", "Acme", "c:d")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NoConnectorError, match=r"one, two"):
        connector_type("Acme")


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "broken", "Acme", "no_such_module:open_it")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(NoConnectorError, match=r"in broken cannot be loaded"):
        connector_type("Acme")


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
    (problem,) = check_credentials(connection(Provider.PLUGIN, PLUGIN), {})

    assert "no connector Acme is installed" in problem


def test_what_an_oauth_apps_secret_lacks_is_named() -> None:
    hubspot = {"hubspot": {"auth": {"oauth": {"secretRef": {"name": "s"}}}}}
    route = [{"name": "all", "events": ["company.*"]}]
    spec = parse_connection_spec({"provider": "HubSpot", "tenant": "acme", "routes": route, **hubspot})
    (problem,) = check_credentials(Connection(ConnectionUid(uuid4()), "acme", "crm", TenantId("acme"), spec), {})

    assert problem == "Secret acme/s does not exist or has no key client_id"


def plug_in(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    install(folder, "acme", "Acme", "acme_connector:Acme")
    monkeypatch.delitem(sys.modules, "acme_connector", raising=False)
    (folder / "acme_connector.py").write_text(source)
    monkeypatch.syspath_prepend(folder)


SETTINGS = """
from pydantic import BaseModel, ConfigDict, Field
from connectors.connector import Action

class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str = Field(pattern="^https://")
    retries: int = 3

class Acme:
    actions = (Action("Post", ("*",), "Post it."),)
    settings = Settings
"""


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ({"url": "https://acme.example"}, []),
        ({"url": "https://acme.example", "retries": "many"}, ["spec.plugin.settings.retries"]),
        ({"url": "ftp://acme.example", "colour": "red"}, ["spec.plugin.settings.colour", "spec.plugin.settings.url"]),
        ({}, ["spec.plugin.settings.url"]),
    ],
)
def test_a_plug_in_checks_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], paths: list[str]
) -> None:
    plug_in(tmp_path, monkeypatch, SETTINGS)
    spec = connection(Provider.PLUGIN, {"plugin": {"connector": "Acme", "settings": settings}}).spec
    problems = settings_problems(spec, connector_type("Acme"))

    assert sorted(problem.path for problem in problems) == paths


def test_a_plug_in_without_settings_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, monkeypatch, "class Acme:\n    actions = ()\n")
    problems = settings_problems(connection(Provider.PLUGIN, PLUGIN).spec, connector_type("Acme"))

    assert [problem.path for problem in problems] == ["spec.plugin.settings.room", "spec.plugin.settings.url"]


def test_a_name_that_is_nearly_right_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, monkeypatch, SETTINGS)
    with pytest.raises(NoConnectorError, match="no connector Acne is installed: did you mean Acme"):
        connector_type("Acne")


def test_what_is_built_in_needs_no_check_of_its_own() -> None:
    assert settings_problems(connection(Provider.WEBHOOK, WEBHOOK).spec, WebhookConnector) == ()
