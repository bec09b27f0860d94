"""Connections are judged one by one: the good ones are published, and a bad one changes nothing."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from contracts.connection import ConnectionSpec, parse_connection_spec
from contracts.ids import ConnectionUid, PoolId
from contracts.manifests import IntegrationConnection, Origin
from integration_operator.publication import (
    ConnectionResource,
    PublicationResult,
    Verdict,
    find_problems,
    publish_resources,
    read_statuses,
)
from store.database import Database
from store.dispatch import read_epoch
from store.publication import write_pool

pytestmark = pytest.mark.anyio

PIPEDRIVE = parse_connection_spec(
    {
        "tenant": "acme",
        "provider": "Pipedrive",
        "routes": [{"name": "all", "events": ["*"]}],
        "pipedrive": {"auth": {"apiToken": {"tokenFrom": {"name": "crm", "key": "token"}}}},
    }
)


def webhook(expression: str | None = None, path: str = "/") -> ConnectionSpec:
    route: dict[str, Any] = {"name": "all", "events": ["*"]}
    if expression is not None:
        route["filter"] = expression
    return parse_connection_spec(
        {
            "tenant": "acme",
            "provider": "Webhook",
            "routes": [route],
            "webhook": {
                "url": f"https://example.com{path}",
                "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]},
            },
        }
    )


def uid_of(name: str) -> ConnectionUid:
    return ConnectionUid(uuid5(NAMESPACE_URL, name))


@pytest.fixture
async def operator(layer: Any) -> AsyncIterator[Database]:
    async with await layer.connect("operator") as database:
        yield database


@pytest.fixture
async def pool(operator: Database) -> PoolId:
    return await write_pool(operator, "pool_a", "pool_a")


class Cluster:
    """Applies connections the way the operator or a folder does: all that there are, every time."""

    def __init__(self, database: Database, pool: PoolId) -> None:
        self.database = database
        self._pool = pool

    async def apply(self, *, unreadable: tuple[str, ...] = (), **specs: ConnectionSpec) -> dict[str, PublicationResult]:
        resources = [
            ConnectionResource(uid_of(name), IntegrationConnection("acme", name, spec, Origin("test", 1)), self._pool)
            for name, spec in specs.items()
        ]
        self.publication = await publish_resources(self.database, resources, unreadable=[*map(uid_of, unreadable)])
        return {result.resource.connection.name: result for result in self.publication.results}


@pytest.fixture
def cluster(operator: Database, pool: PoolId) -> Cluster:
    return Cluster(operator, pool)


def routes(layer: Any) -> list[tuple[str, str | None]]:
    """Return connections that take new events, with their filters."""
    query = """select c.name, r.filter from integration.route r
               join integration.connection c on c.id = r.connection_id where r.active order by 1"""
    return list(layer.rows(query))


async def test_a_new_connection_is_published_and_then_unchanged(cluster: Cluster) -> None:
    first = await cluster.apply(crm=webhook())
    epoch = await read_epoch(cluster.database)
    second = await cluster.apply(crm=webhook())

    assert (first["crm"].verdict, second["crm"].verdict) == (Verdict.PUBLISHED, Verdict.UNCHANGED)
    assert await read_epoch(cluster.database) == epoch


async def test_a_changed_connection_is_published_again(cluster: Cluster, layer: Any) -> None:
    await cluster.apply(crm=webhook())

    results = await cluster.apply(crm=webhook("event.data.employees > 50"))

    assert results["crm"].verdict is Verdict.PUBLISHED
    assert routes(layer) == [("crm", "event.data.employees > 50")]


async def test_a_connection_that_became_wrong_stays_as_it_was_and_holds_back_no_other(
    cluster: Cluster, layer: Any
) -> None:
    await cluster.apply(crm=webhook("event.data.employees > 50"))

    results = await cluster.apply(crm=webhook("event.data.employees >"), erp=webhook())

    assert {name: result.verdict for name, result in results.items()} == {
        "crm": Verdict.REFUSED,
        "erp": Verdict.PUBLISHED,
    }
    assert routes(layer) == [("crm", "event.data.employees > 50"), ("erp", None)]


async def test_a_connection_that_is_gone_takes_no_new_events(cluster: Cluster, layer: Any) -> None:
    await cluster.apply(crm=webhook(), erp=webhook())

    await cluster.apply(erp=webhook())

    assert cluster.publication.retired == {uid_of("crm")}
    assert routes(layer) == [("erp", None)]


async def test_a_connection_is_retired_once_and_can_come_back(cluster: Cluster, layer: Any) -> None:
    await cluster.apply(crm=webhook())
    await cluster.apply()
    await cluster.apply()
    retired_again = cluster.publication.retired

    results = await cluster.apply(crm=webhook())

    assert retired_again == frozenset()
    assert results["crm"].verdict is Verdict.PUBLISHED
    assert routes(layer) == [("crm", None)]


async def test_a_connection_that_cannot_be_read_is_not_taken_for_gone(cluster: Cluster, layer: Any) -> None:
    await cluster.apply(crm=webhook())

    await cluster.apply(unreadable=("crm",))

    assert routes(layer) == [("crm", None)]


async def test_statuses_tell_of_every_published_connection(cluster: Cluster) -> None:
    await cluster.apply(crm=webhook())

    statuses = await read_statuses(cluster.database)

    assert [(status.uid, status.state, status.owned) for status in statuses.values()] == [
        (uid_of("crm"), "Open", False)
    ]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("event.data.employees >", "does not compile"),
        ("evnt.data.employees > 5", "Undefined variable or function: 'evnt'"),
        ("employs(event)", "Undefined variable or function: 'employs'"),
        ("1 + 2", "answered int, not true or false"),
    ],
)
def test_a_filter_that_can_never_work_is_a_problem_at_its_place(expression: str, said: str) -> None:
    (problem,) = find_problems(webhook(expression))

    assert problem.path == "spec.routes[0].filter"
    assert said in problem.message


@pytest.mark.parametrize("expression", ["event.data.employees > 5", "event.data.tags.exists(t, t == 'x')", "true"])
def test_a_filter_over_data_that_only_an_event_has_is_no_problem(expression: str) -> None:
    assert list(find_problems(webhook(expression))) == []


def test_a_plug_in_that_is_not_installed_is_a_problem() -> None:
    document = PIPEDRIVE.model_dump(mode="json", by_alias=True, exclude_none=True)
    del document["pipedrive"]
    spec = parse_connection_spec({**document, "provider": "Plugin", "plugin": {"connector": "Acme"}})
    (problem,) = find_problems(spec)

    assert problem.path == "spec.plugin.connector"
    assert "no connector Acme is installed" in problem.message
