"""What stands beside a pool says everything that its readers need, and no secret."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from integration_operator.companions import (
    BUDGET,
    SCALED_OBJECT,
    TRIGGER_AUTHENTICATION,
    Companion,
    companions_of,
)
from integration_operator.names import HASH, POOL_LABEL, ObjectKey
from integration_operator.observed import connection_of
from integration_operator.settings import OperatorSettings

Json = dict[str, Any]
Make = Callable[..., Json]
POOL = ObjectKey("team", "integrations-tenant-acme")


@pytest.fixture
def describe(make_body: Make, make_spec: Make, settings: OperatorSettings) -> Callable[..., dict[Companion, Json]]:
    def describe(*, keda: bool = True, owner: str = "uid", **spec: Any) -> dict[Companion, Json]:
        members = [connection_of(make_body(spec=make_spec(**spec)))]
        return companions_of(POOL, members, settings, role="integration_pool_1", owner=owner, keda=keda)

    return describe


def test_without_keda_there_is_a_disruption_budget_alone(describe: Callable[..., dict[Companion, Json]]) -> None:
    found = describe(keda=False)

    assert set(found) == {BUDGET}
    assert found[BUDGET]["spec"]["selector"] == {"matchLabels": {POOL_LABEL: POOL.name}}


def test_all_of_them_go_with_the_deployment(describe: Callable[..., dict[Companion, Json]]) -> None:
    owners = [body["metadata"]["ownerReferences"] for body in describe(owner="its-uid").values()]

    assert [[(owner["kind"], owner["uid"]) for owner in each] for each in owners] == [[("Deployment", "its-uid")]] * 3


def test_keda_logs_in_by_name_and_finds_the_password_in_the_pool_s_secret(
    describe: Callable[..., dict[Companion, Json]],
) -> None:
    found = describe()
    (trigger,) = found[SCALED_OBJECT]["spec"]["triggers"]

    assert trigger["authenticationRef"] == {"name": POOL.name}
    assert "connection" not in trigger["metadata"]
    assert (
        trigger["metadata"].items()
        >= {
            "host": "database",
            "port": "5432",
            "dbName": "layer",
            "userName": "integration_pool_1",
            "sslmode": "verify-full",
        }.items()
    )
    assert found[TRIGGER_AUTHENTICATION]["spec"]["secretTargetRef"] == [
        {"parameter": "password", "name": POOL.name, "key": "password"}
    ]


def test_keda_keeps_to_the_bounds_of_the_connections(describe: Callable[..., dict[Companion, Json]]) -> None:
    spec = describe(workers={"replicas": {"min": 2, "max": 7}})[SCALED_OBJECT]["spec"]

    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 7)
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_the_digest_changes_with_what_is_said_and_with_nothing_else(
    describe: Callable[..., dict[Companion, Json]],
) -> None:
    def digest(**given: Any) -> str:
        found: str = describe(**given)[SCALED_OBJECT]["metadata"]["annotations"][HASH]
        return found

    assert digest() == digest(delivery={"timeout": "90s"})
    assert len({digest(), digest(owner="other"), digest(workers={"replicas": {"min": 0, "max": 7}})}) == 3
    assert "password=" not in json.dumps(list(describe().values()))
