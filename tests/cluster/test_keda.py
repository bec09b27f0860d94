"""Pools sized by KEDA. KEDA is not run; the test does what it does: logs in as told, asks, and sets the number."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.helm import Helm
from tests.cluster.house import House
from tests.cluster.operators import eventually, install_rights
from tests.cluster.test_operator import POOL, backlog

DEFINITIONS = Path(__file__).parent / "keda.yaml"
KINDS = "/apis/keda.sh/v1alpha1/namespaces/{}/{}/" + POOL


@pytest.fixture
def keda(cluster: ControlPlane) -> Iterator[None]:
    """Install KEDA's definitions while the test runs."""
    cluster.kubectl("apply", "--server-side", f"--filename={DEFINITIONS}")
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"--filename={DEFINITIONS}")
    yield
    cluster.kubectl("delete", f"--filename={DEFINITIONS}")


def start(house: House) -> None:
    """Start an operator that hands pools over to KEDA, with the rights that the chart gives it then."""
    values = {"operator": {"namespaces": [house.namespace], "scaling": "KEDA"}}
    install_rights(house.cluster, Helm(house.folder), house.namespace, values)
    house.start(scaling="KEDA")


def read(house: House, plural: str) -> dict[str, Any]:
    """Read what stands beside the pool."""
    found: dict[str, Any] = house.api.get(KINDS.format(house.namespace, plural)).raise_for_status().json()
    return found


def asked(house: House) -> int:
    """Log in as the ScaledObject and its TriggerAuthentication say, and ask."""
    (trigger,) = read(house, "scaledobjects")["spec"]["triggers"]
    (secret,) = read(house, "triggerauthentications")["spec"]["secretTargetRef"]
    path = f"/api/v1/namespaces/{house.namespace}/secrets/{secret['name']}"
    data = house.api.get(path).raise_for_status().json()["data"]
    login = {
        "host": trigger["metadata"]["host"],
        "port": trigger["metadata"]["port"],
        "dbname": trigger["metadata"]["dbName"],
        "user": trigger["metadata"]["userName"],
        "sslmode": trigger["metadata"]["sslmode"],
        secret["parameter"]: base64.b64decode(data[secret["key"]]).decode(),
    }
    with psycopg.connect(**login) as database:
        rows = database.execute(trigger["metadata"]["query"].encode()).fetchall()
    return int(rows[0][0])


def test_keda_is_told_how_many_workers_a_pool_needs_and_is_left_alone(house: House, keda: None) -> None:
    start(house)
    house.apply(house.secret(), house.connection(workers={"replicas": {"min": 0, "max": 3}}))
    eventually(house.is_ready)
    eventually(lambda: house.exists(KINDS.format(house.namespace, "scaledobjects")))
    idle = asked(house)
    backlog(house)
    busy = asked(house)
    house.cluster.kubectl("scale", "deployment", POOL, "--replicas=1", f"--namespace={house.namespace}")
    house.apply(house.connection(workers={"replicas": {"min": 1, "max": 4}}, delivery={"timeout": "90s"}))
    eventually(lambda: read(house, "scaledobjects")["spec"]["maxReplicaCount"] == 4)
    scaled = read(house, "scaledobjects")

    assert (idle, busy) == (0, 1)
    assert house.deployment()["spec"]["replicas"] == 1
    assert scaled["spec"]["minReplicaCount"] == 1
    assert scaled["spec"]["scaleTargetRef"]["name"] == POOL
    assert scaled["metadata"]["ownerReferences"][0]["uid"] == house.deployment()["metadata"]["uid"]


def test_without_keda_the_operator_sizes_pools_by_itself(house: House) -> None:
    start(house)
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)
    backlog(house)
    eventually(lambda: house.deployment()["spec"]["replicas"] == 1)
