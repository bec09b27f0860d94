"""What a folder of manifests says is published; what it says wrongly is told once and touches nothing."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from contracts.manifests import parse_manifests
from local.reconciler import Reconciler
from local.reports import Reporter
from store.database import Database
from store.publication import write_pool

pytestmark = pytest.mark.anyio

SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: hook, namespace: acme}
stringData: {signing: a secret value}
"""
CONNECTION = """
apiVersion: integrations.queast.io/v1alpha1
kind: IntegrationConnection
metadata: {name: NAME, namespace: acme}
spec:
  tenant: TENANT
  provider: Webhook
  webhook: {url: "https://example.com/", signing: {secretsFrom: [{name: hook, key: signing}]}}
  routes: [{name: all, events: ["*"]}]
"""


def connection(name: str = "crm", tenant: str = "acme") -> str:
    return CONNECTION.replace("NAME", name).replace("TENANT", tenant)


class Scene:
    """A reconciler, and what it told."""

    def __init__(self, database: Database, reconciler: Reconciler, told: io.StringIO) -> None:
        self.reconciler = reconciler
        self._database = database
        self._told = told

    async def apply(self, *documents: str) -> list[str]:
        """Apply documents of one file; return the lines that were told, without their time."""
        self._told.truncate(self._told.seek(0))
        await self.reconciler.apply(self._database, parse_manifests("\n---\n".join(documents), "crm.yaml"))
        return [line.split(" ", 1)[1] for line in self._told.getvalue().splitlines()]


@pytest.fixture
async def scene(layer: Any, tmp_path: Path) -> AsyncIterator[Scene]:
    told = io.StringIO()
    async with await layer.connect("operator") as database:
        pool = await write_pool(database, "local", "pool_a")
        yield Scene(database, Reconciler(pool, tmp_path / "secrets", Reporter(Console(file=told))), told)


def active(layer: Any) -> list[str]:
    query = """select c.name from integration.connection c
               where exists (select from integration.route r where r.connection_id = c.id and r.active) order by 1"""
    return [row[0] for row in layer.rows(query)]


async def test_connections_and_secrets_of_the_folder_are_in_force(scene: Scene, layer: Any, tmp_path: Path) -> None:
    told = await scene.apply(SECRET, connection())

    assert told == ["connection acme/crm published"]
    assert active(layer) == ["crm"]
    assert (tmp_path / "secrets" / "acme" / "hook" / "signing").read_text() == "a secret value"


async def test_a_removed_connection_is_retired(scene: Scene, layer: Any) -> None:
    await scene.apply(SECRET, connection("crm"), connection("erp"))

    told = await scene.apply(SECRET, connection("erp"))

    assert told == ["connection acme/crm retired: it takes no new events, and delivers what it has"]
    assert active(layer) == ["erp"]


@pytest.mark.parametrize(
    "broken",
    [
        connection("crm").replace("https://example.com/", "gopher://example.com"),
        connection("crm").replace("kind: IntegrationConnection", "kind: IntegrationConection"),
        connection("crm").replace("name: crm", "name: CRM"),
        "apiVersion: [",
    ],
    ids=["a field", "the kind", "the name", "the YAML"],
)
async def test_a_document_that_became_wrong_leaves_its_connection_running(
    scene: Scene, layer: Any, tmp_path: Path, broken: str
) -> None:
    await scene.apply(SECRET, connection("crm"))

    told = await scene.apply(SECRET, broken)

    assert told[0].startswith("crm.yaml, document 2")
    assert told[1:] == ["what runs goes on as it was; correct the file, it is read again at once"]
    assert active(layer) == ["crm"]


async def test_a_problem_of_one_connection_does_not_keep_another_that_is_gone(scene: Scene, layer: Any) -> None:
    await scene.apply(SECRET, connection("crm"), connection("erp"))

    await scene.apply(SECRET, connection("crm").replace("https://", "gopher://"))

    assert active(layer) == ["crm"]


async def test_a_problem_is_told_once_until_it_changes_and_when_it_is_gone(scene: Scene) -> None:
    broken = connection().replace("https://", "gopher://")
    first = await scene.apply(SECRET, broken)
    second = await scene.apply(SECRET, broken)
    third = await scene.apply(SECRET, connection())

    assert "spec.webhook.url" in first[0]
    assert second == []
    assert third == ["connection acme/crm published", "all manifests are right again"]


async def test_a_connection_cannot_be_given_to_another_tenant(scene: Scene, layer: Any) -> None:
    await scene.apply(SECRET, connection("crm", "acme"))

    told = await scene.apply(SECRET, connection("crm", "globex"))

    assert "spec.tenant: found 'globex'; the tenant of a connection is immutable and is 'acme'" in told[0]
    assert layer.rows("select tenant_id, spec ->> 'tenant' from integration.connection") == [("acme", "acme")]
    assert active(layer) == ["crm"]


async def test_a_secret_that_is_missing_is_told_and_the_connection_waits_for_it(scene: Scene, layer: Any) -> None:
    told = await scene.apply(connection())

    assert "key signing of Secret acme/hook is in no manifest here; deliveries wait until it is" in told[1]
    assert active(layer) == ["crm"]
    assert scene.reconciler.problems == 0
