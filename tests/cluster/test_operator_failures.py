"""The operator among failures: killed, frozen, cut off from the API server or the database, told lies by watches.

Whatever happens, in the end every object is published with its newest spec and says so, and nothing else is touched.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from tests.cluster.audit import AuditLog
from tests.cluster.control_plane import free_port
from tests.cluster.fault_proxy import FaultProxy
from tests.cluster.house import CONNECTIONS, House
from tests.cluster.operators import OperatorProcess, eventually
from tests.integration.conftest import Layer

OTHER_SIGNING = "whsec_OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg="
DEFECTS = {"reconciling failed by a defect", "leading ended by an error; the Lease is given back"}


def holder(house: House) -> str:
    """Name the replica that holds the Lease."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{house.namespace}/leases/integration-operator"
    answer = house.api.get(path)
    identity = answer.json()["spec"].get("holderIdentity", "") if answer.is_success else ""
    return str(identity).rpartition("_")[0]


def defects(house: House) -> list[dict[str, object]]:
    """Return what operators logged that no failure around them excuses."""
    found = {str(operator.log): operator.lines() for operator in house.operators}
    return [line for lines in found.values() for line in lines if line.get("message") in DEFECTS]


def term(house: House) -> str:
    """Name the replica whose term the database knows."""
    return str(house.layer.value("select holder from integration.operator_term")).rpartition("_")[0]


def published(house: House, name: str = "hook") -> str:
    """Return the URL that a connection is published with."""
    query = "select spec #>> '{webhook,url}' from integration.connection where name = %s and deleted_at is null"
    return str(house.layer.value(query, (name,)))


def epoch(house: House) -> int:
    """Return how often anything was published."""
    return int(house.layer.value("select epoch from integration.routing"))


def stands_by(port: int) -> bool:
    """Whether the replica that answers for its health on a port is at work."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False


def delete(house: House, name: str = "hook") -> None:
    """Ask for a connection's deletion."""
    house.api.delete(f"{CONNECTIONS.format(house.namespace)}/{name}").raise_for_status()


def is_gone(house: House, name: str = "hook") -> bool:
    """Whether neither the API server nor delivery has a connection any more."""
    rows = house.layer.rows("select 1 from integration.connection where name = %s and deleted_at is null", (name,))
    return not rows and not house.exists(f"{CONNECTIONS.format(house.namespace)}/{name}")


def ready(house: House, operator: OperatorProcess, name: str = "hook") -> None:
    """Have a connection published by a replica that leads."""
    eventually(lambda: operator.says("leading"))
    house.apply(house.secret(name), house.connection(name))
    eventually(lambda: house.is_ready(name))


@contextmanager
def database_away(layer: Layer) -> Iterator[None]:
    """Let operators no longer into the database, and throw out those who are in it."""
    allow = sql.SQL("alter database {} with allow_connections {}")
    with psycopg.connect(layer.postgres.dsn(), autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(layer.name), sql.SQL("false")))
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and usename = 'operator'",
            (layer.name,),
        )
        try:
            yield
        finally:
            admin.execute(allow.format(sql.Identifier(layer.name), sql.SQL("true")))


@pytest.fixture
def behind_proxy(house: House, fault_proxy: FaultProxy) -> FaultProxy:
    """Let the house's operators reach the API server through the proxy only."""
    house.environment["KUBECONFIG"] = str(fault_proxy.service_account_kubeconfig(house.namespace, house.account))
    return fault_proxy


# Who leads ------------------------------------------------------------------------------------------------------------


def test_a_leader_that_is_told_to_stop_hands_over_at_once(house: House) -> None:
    first = house.start("operator-0")
    ready(house, first)
    port = free_port()
    house.start("operator-1", health_host="127.0.0.1", health_port=str(port))
    eventually(lambda: stands_by(port))
    first.stop()
    eventually(lambda: holder(house) == "operator-1")
    house.apply(house.secret("next"), house.connection("next"))
    eventually(lambda: house.is_ready("next"))

    released = [line for line in first.lines() if line.get("message") == "no longer leading"]
    assert [line.get("lost") for line in released] == [False]
    assert defects(house) == []


def test_another_replica_takes_over_from_a_killed_leader(house: House) -> None:
    first = house.start("operator-0")
    ready(house, first)
    second = house.start("operator-1")
    first.kill()
    house.apply(house.secret("next"), house.connection("next"))
    eventually(lambda: house.is_ready("next"))

    assert holder(house) == term(house) == "operator-1"
    assert second.says("leading")
    assert defects(house) == []


def test_a_leader_that_was_frozen_publishes_nothing_and_stands_by(house: House) -> None:
    first = house.start("operator-0")
    ready(house, first)
    house.start("operator-1")
    first.send(signal.SIGSTOP)
    eventually(lambda: term(house) == "operator-1")
    house.apply(house.connection(url="http://127.0.0.1:9/new"))
    eventually(lambda: published(house) == "http://127.0.0.1:9/new")
    eventually(house.is_ready)
    before = epoch(house)
    first.send(signal.SIGCONT)
    eventually(lambda: first.says("no longer leading"))
    house.operators[1].stop()
    eventually(lambda: holder(house) == "operator-0")

    assert epoch(house) == before
    assert published(house) == "http://127.0.0.1:9/new"
    assert defects(house) == []
    house.apply(house.connection(url="http://127.0.0.1:9/newest"))
    eventually(lambda: house.is_ready() and published(house) == "http://127.0.0.1:9/newest")


# The API server -------------------------------------------------------------------------------------------------------


def test_an_api_server_that_was_away_costs_nothing_but_time(house: House, audit: AuditLog) -> None:
    operator = house.start()
    ready(house, operator)
    before, mark = epoch(house), audit.mark()
    house.cluster.stop_apiserver()
    try:
        eventually(lambda: operator.says("no longer leading"))
    finally:
        house.cluster.start_apiserver()
    assert epoch(house) == before
    house.apply(house.secret("next"), house.connection("next"))
    eventually(lambda: house.is_ready("next"))

    user = f"system:serviceaccount:{house.namespace}:.*"
    assert house.routes() == [("hook", True), ("next", True)]
    assert audit.requests(user=user, since=mark, verb="delete") == []


def test_what_was_deleted_while_no_watch_told_is_found_and_ended(house: House, behind_proxy: FaultProxy) -> None:
    operator = house.start(resync="PT10S")
    house.apply(house.secret("other"), house.connection("other", deletionPolicy="Delete"))
    ready(house, operator)
    behind_proxy.refuse()
    delete(house, "other")
    behind_proxy.heal()
    eventually(lambda: is_gone(house, "other"))

    assert house.routes() == [("hook", True)]


def test_watches_that_fell_silent_begin_again(house: House, behind_proxy: FaultProxy) -> None:
    operator = house.start(resync="PT10S")
    ready(house, operator)
    begun = watches_begun(behind_proxy)
    behind_proxy.freeze("integrationconnections[?].*watch=")
    house.apply(house.connection(suspend=True))
    eventually(lambda: house.reason() == "Suspended")
    eventually(lambda: watches_begun(behind_proxy) > begun)

    assert operator.says("a watch did not tell of changes; the watches begin again")
    assert defects(house) == []


def watches_begun(proxy: FaultProxy) -> int:
    """Count the watches of connections so far."""
    return sum("integrationconnections?" in target and "watch=" in target for _, target in proxy.seen)


def test_a_deployment_and_secrets_deleted_while_no_watch_told_are_noticed(
    house: House, behind_proxy: FaultProxy
) -> None:
    operator = house.start(resync="PT10S")
    ready(house, operator)
    pool = "integrations-tenant-acme"
    deployment = f"/apis/apps/v1/namespaces/{house.namespace}/deployments/{pool}"
    secrets = f"/api/v1/namespaces/{house.namespace}/secrets"
    eventually(lambda: house.exists(deployment) and house.exists(f"{secrets}/{pool}"))
    behind_proxy.refuse()
    for path in (f"{secrets}/{pool}", f"{secrets}/hook", deployment):
        house.api.delete(path).raise_for_status()
    eventually(lambda: not house.exists(deployment))
    behind_proxy.heal()
    eventually(lambda: house.exists(deployment) and house.exists(f"{secrets}/{pool}"))
    eventually(lambda: house.reason() == "CredentialsMissing")
    house.apply(house.secret())
    eventually(house.is_ready)

    assert defects(house) == []


def cut(proxy: FaultProxy) -> None:
    """Break all streams and requests."""
    for _ in range(5):
        proxy.cut()


def expire(proxy: FaultProxy) -> None:
    """Let the next watches end as expired."""
    proxy.fail_next_watches(6)
    proxy.cut()


def throttle(proxy: FaultProxy) -> None:
    """Have too many requests, and say for how long."""
    proxy.answer_next(6, 429, method="PATCH", retry_after=2)


def forbid(proxy: FaultProxy) -> None:
    """Forbid lists of one kind for a while."""
    proxy.answer_next(4, 403, method="GET", path="/secrets[?]")
    proxy.cut()


def fail(proxy: FaultProxy) -> None:
    """Fail whatever comes."""
    proxy.answer_next(25, 500)
    proxy.cut()


@pytest.mark.parametrize("harm", [cut, expire, throttle, forbid, fail])
def test_connections_become_ready_after_the_way_to_the_api_server_was_broken(
    house: House, behind_proxy: FaultProxy, harm: Callable[[FaultProxy], None]
) -> None:
    operator = house.start(resync="PT10S")
    ready(house, operator)
    harm(behind_proxy)
    house.apply(house.secret("next"), house.connection("next"))
    eventually(lambda: house.is_ready("next"))
    before = house.get("next")["status"]["observedSecretHash"]
    house.apply(house.secret("next", OTHER_SIGNING))
    eventually(lambda: house.get("next")["status"]["observedSecretHash"] != before)
    delete(house)
    eventually(lambda: is_gone(house))

    assert house.routes() == [("next", True)]


def test_a_kind_whose_watch_was_refused_for_long_is_watched_again(house: House, behind_proxy: FaultProxy) -> None:
    operator = house.start()
    ready(house, operator)
    behind_proxy.answer_next(5, 403, path="/secrets[?]watch")
    behind_proxy.cut()
    eventually(lambda: operator.says("the watches ended and begin again"))
    before = house.get()["status"]["observedSecretHash"]
    house.apply(house.secret(signing=OTHER_SIGNING))
    eventually(lambda: house.get()["status"]["observedSecretHash"] != before)

    assert house.is_ready()


def test_an_operator_forbidden_a_kind_at_its_start_sees_it_when_allowed(house: House, behind_proxy: FaultProxy) -> None:
    behind_proxy.answer_next(6, 403, method="GET", path="/secrets[?]")
    operator = house.start(resync="PT10S")
    ready(house, operator)
    before = house.get()["status"]["observedSecretHash"]
    house.apply(house.secret(signing=OTHER_SIGNING))
    eventually(lambda: house.get()["status"]["observedSecretHash"] != before)

    assert house.is_ready()


def test_a_definition_of_another_release_is_told_of(house: House, crds: list[str]) -> None:
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crds[0]}"
    place = "/spec/versions/0/schema/openAPIV3Schema/description"
    headers = {"Content-Type": "application/json-patch+json"}
    ours = house.api.get(definition).json()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"]

    def describe(text: str) -> None:
        patch = [{"op": "replace", "path": place, "value": text}]
        house.api.patch(definition, json=patch, headers=headers).raise_for_status()
        published = "/openapi/v3/apis/integrations.queast.io/v1alpha1"
        eventually(lambda: text in house.api.get(published).text)

    operator = house.start(resync="PT10S")
    ready(house, operator)
    warning = "the definitions that are served are not those of this release; apply crds/ of it"
    before = operator.says(warning)
    try:
        describe("An older one. (schema 0123456789ab)")
        eventually(lambda: operator.says(warning))
    finally:
        describe(ours)

    assert not before
    assert house.is_ready()


# The database ---------------------------------------------------------------------------------------------------------


def test_a_database_that_is_away_is_told_and_healed(house: House) -> None:
    operator = house.start()
    ready(house, operator)
    with database_away(house.layer):
        house.apply(house.connection(url="http://127.0.0.1:9/new"))
        eventually(lambda: house.conditions()["RoutingPublished"]["reason"] == "DatabaseUnavailable")
        told = house.conditions()
        house.apply(house.secret("next"), house.connection("next"))
        eventually(lambda: house.conditions("next")["RoutingPublished"]["reason"] == "DatabaseUnavailable")
        assert published(house) == "http://127.0.0.1:9/"
    eventually(lambda: published(house) == "http://127.0.0.1:9/new")
    eventually(house.is_ready)
    eventually(lambda: house.is_ready("next"))

    assert told["RoutingPublished"]["status"] == told["Ready"]["status"] == "False"
    assert not operator.says("no longer leading")
    assert defects(house) == []


# Bad objects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["event.data.", 'event.type == "\u0000"'])
def test_one_malformed_object_is_told_of_and_keeps_nobody_else_waiting(house: House, expression: str) -> None:
    operator = house.start()
    routes = [{"name": "good", "events": ["*"]}, {"name": "bad", "events": ["*"], "filter": expression}]
    house.apply(house.secret("bad"), house.connection("bad", routes=routes))
    eventually(lambda: house.conditions("bad")["Stalled"]["reason"] == "InvalidSpec")
    ready(house, operator)
    told = house.conditions("bad")
    house.apply(house.connection("bad", routes=routes[:1]))
    eventually(lambda: house.is_ready("bad"))

    assert "spec.routes[1].filter" in told["Ready"]["message"]
    assert "Stalled" not in house.conditions("bad")
    assert defects(house) == []


# Many at once ---------------------------------------------------------------------------------------------------------


def test_many_connections_deleted_at_once_all_end(house: House) -> None:
    operator = house.start()
    eventually(lambda: operator.says("leading"))
    names = [f"hook-{number}" for number in range(20)]
    house.apply(*(document for name in names for document in (house.secret(name), house.connection(name))))
    eventually(lambda: all(house.is_ready(name) for name in names))
    house.api.delete(CONNECTIONS.format(house.namespace)).raise_for_status()
    eventually(lambda: all(is_gone(house, name) for name in names))

    assert house.routes() == []
    assert defects(house) == []


class Killer:
    """Kills the operator at random moments and starts it again."""

    def __init__(self, house: House, random: Random) -> None:
        self._house = house
        self._random = random
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.kills = 0

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._enough.is_set():
            operator = self._house.start(lease_name=f"lease-{self.kills}")
            # No two terms may share a Lease here: each would wait for the former to run out.
            self._enough.wait(self._random.uniform(2, 8))
            operator.kill()
            self.kills += 1


def test_an_operator_killed_at_random_moments_leaves_everything_agreed(house: House) -> None:
    random = Random(20)
    wanted: dict[str, str] = {}
    policies = ("Drain", "Delete")
    house.apply(house.secret())

    def manifest(name: str, url: str) -> dict[str, Any]:
        number = int(name.rpartition("-")[2])
        written = house.connection(
            name,
            url,
            deletionPolicy=policies[number % 2],
            workers={"isolation": ("Tenant", "Shared", "Connection")[number % 3]},
        )
        written["spec"]["webhook"]["signing"] = {"secretsFrom": [{"name": "hook", "key": "signing"}]}
        return written

    with Killer(house, random) as killer:
        for turn in range(12):
            for name in random.sample([f"hook-{number}" for number in range(20)], 10):
                if name in wanted and random.random() < 0.3:
                    # It may have gone already: what is applied to an object that drains goes with it.
                    house.api.delete(f"{CONNECTIONS.format(house.namespace)}/{name}")
                    del wanted[name]
                else:
                    wanted[name] = f"http://127.0.0.1:9/{turn}"
            present = [manifest(name, url) for name, url in wanted.items()]
            house.apply(*present)
            eventually(lambda turn=turn: killer.kills > turn // 2)  # type: ignore[misc]
    house.start(resync="PT10S", lease_name="last")

    def agreed() -> bool:
        house.apply(*(manifest(name, url) for name, url in wanted.items()))
        rows = house.layer.rows(
            "select c.name, c.spec #>> '{webhook,url}', c.uid::text from integration.connection c"
            " where c.deleted_at is null order by 1"
        )
        items = house.api.get(CONNECTIONS.format(house.namespace)).json()["items"]
        objects = [
            (each["metadata"]["name"], each["spec"]["webhook"]["url"], each["metadata"]["uid"]) for each in items
        ]
        return sorted(objects) == rows and {name: url for name, url, _ in objects} == wanted

    eventually(agreed)
    eventually(lambda: all(house.is_ready(name) for name in wanted))

    assert killer.kills > 5
    assert agreed()
    assert [line for line in defects(house) if "SupersededError" not in str(line)] == []
