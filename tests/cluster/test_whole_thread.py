"""The whole way on real parts: applied with kubectl, delivered by workers that the operator's Deployment started.

The API server, the database, the programs and the partner's HTTP server are real; nodes are played by the process
kubelet. The first test is what a person does in the first five minutes; the others go on from there.
"""

import time
from typing import Any

from tests.cluster.house import SIGNING, House
from tests.cluster.kubelet.process_kubelet import ProcessKubelet
from tests.cluster.operators import eventually
from tests.cluster.partner import Partner

NEXT_SIGNING = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="


def pods(house: House) -> list[dict[str, Any]]:
    """Return the workers' pods."""
    selector = "integrations.queast.io/pool"
    answer = house.api.get(f"/api/v1/namespaces/{house.namespace}/pods", params={"labelSelector": selector})
    found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return found


def test_a_connection_s_life_from_the_first_event_to_the_last(
    house: House,
    kubelet: ProcessKubelet,
    partner: Partner,
    dispatcher: None,
) -> None:
    house.start(quiet="PT3S")
    house.apply(house.secret(), house.connection(url=partner.url))
    eventually(house.is_ready)
    eventually(lambda: house.deployment()["spec"]["replicas"] == 0)
    assert pods(house) == []

    # The first event starts a worker.
    house.layer.emit("first")
    eventually(lambda: partner.accepted(1))
    worker = pods(house)[0]["metadata"]["name"]

    # A credential changes under load: nothing is lost, nothing restarts.
    partner.set(secrets=[SIGNING, NEXT_SIGNING])
    for number in range(60):
        house.layer.emit(f"under-load-{number}")
        if number == 20:
            house.apply(house.secret(signing=NEXT_SIGNING))
        time.sleep(0.02)
    before = house.get()["status"]["observedSecretHash"]
    eventually(lambda: partner.accepted(61))
    eventually(lambda: _announced(house, worker))
    eventually(lambda: _signs_with_the_next(house, partner))
    assert house.get()["status"]["observedSecretHash"] != ""
    assert before != ""
    refused = partner.stats()["refused"]

    # With nothing to do, the pool goes back to no worker at all.
    eventually(lambda: house.deployment()["spec"]["replicas"] == 0 and not pods(house))

    # Deleted with work left: what is left is delivered, then everything goes.
    count = partner.stats()["unique"]
    partner.set(secrets=[NEXT_SIGNING], script=[{"kind": "delay", "seconds": 0.05, "times": None}])
    for number in range(40):
        house.layer.emit(f"last-{number}")
    eventually(lambda: house.layer.value("select count(*) from integration.job") > 0)
    house.cluster.kubectl("delete", "iconn", "hook", f"--namespace={house.namespace}", "--wait=true", "--timeout=60s")
    assert partner.accepted(count + 40)
    assert partner.stats()["refused"] == refused
    assert house.layer.value("select count(*) from integration.job") == 0
    assert house.layer.value("select count(*) from integration.dead_letter") == 0
    eventually(lambda: not house.exists(_deployment_path(house)))
    eventually(
        lambda: (
            house.layer.value("select count(*) from integration.pool where name like %s", (f"{house.namespace}/%",))
            == 0
        )
    )


def _announced(house: House, worker: str) -> bool:
    """Whether the pod that was there before the rotation was told of it, and has not been restarted."""
    (pod,) = (each for each in pods(house) if each["metadata"]["name"] == worker)
    restarts = sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
    return "integrations.queast.io/secrets" in pod["metadata"].get("annotations", {}) and restarts == 0


def _signs_with_the_next(house: House, partner: Partner) -> bool:
    """Whether a delivery is accepted by a partner that knows the next secret alone."""
    partner.set(secrets=[NEXT_SIGNING])
    known = partner.stats()
    house.layer.emit(f"probe-{time.monotonic_ns()}")
    eventually(lambda: partner.stats()["received"] > known["received"])
    return partner.stats()["unique"] > known["unique"]


def _deployment_path(house: House) -> str:
    return f"/apis/apps/v1/namespaces/{house.namespace}/deployments/integrations-tenant-acme"


def test_a_partner_that_breaks_is_told_by_kubectl_and_heals_on_request(
    house: House,
    kubelet: ProcessKubelet,
    partner: Partner,
    dispatcher: None,
) -> None:
    house.start()
    delivery = {
        "retry": {"initialDelay": "100ms", "maxDelay": "200ms"},
        "quarantine": {"consecutiveFailures": 3, "probeInterval": "1h"},
    }
    house.apply(house.secret(), house.connection(url=partner.url, delivery=delivery))
    eventually(house.is_ready)
    partner.set(script=[{"kind": "status", "status": 503, "times": None}])
    house.layer.emit("refused")
    eventually(lambda: house.reason() == "Quarantined")
    line = house.cluster.kubectl("get", "iconn", "hook", f"--namespace={house.namespace}", "--output=wide")
    described = house.cluster.kubectl("describe", "iconn", "hook", f"--namespace={house.namespace}")
    partner.set(script=[])
    annotation = "integrations.queast.io/releaseAt=now"
    house.cluster.kubectl("annotate", "iconn", "hook", f"--namespace={house.namespace}", annotation)
    eventually(lambda: partner.accepted(1))
    eventually(house.is_ready)

    assert "Quarantined" in line
    assert "503" in described
    assert house.get()["status"]["lastHandledReleaseAt"] == "now"
    assert "Quarantined" not in house.conditions()
