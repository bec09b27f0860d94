"""Whoever may annotate a connection can have its partner's endpoint tested, from where deliveries come from, once."""

from typing import Any

from tests.cluster.house import House
from tests.cluster.kubelet.process_kubelet import ProcessKubelet
from tests.cluster.operators import eventually
from tests.cluster.partner import Partner


def ask(house: House, request: str, name: str = "hook") -> None:
    annotation = f"integrations.queast.io/testAt={request}"
    house.cluster.kubectl("annotate", "iconn", name, f"--namespace={house.namespace}", annotation, "--overwrite")


def answered(house: House, request: str, name: str = "hook") -> bool:
    return house.get(name)["status"].get("lastHandledTestAt") == request


def check(house: House, name: str = "hook") -> dict[str, Any]:
    found: dict[str, Any] = house.get(name)["status"]["endpointCheck"]
    return found


def check_pods(house: House) -> list[dict[str, Any]]:
    selector = {"labelSelector": "integrations.queast.io/endpoint-check"}
    answer = house.api.get(f"/api/v1/namespaces/{house.namespace}/pods", params=selector)
    found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return found


def events(house: House) -> list[tuple[str, str]]:
    items = house.api.get(f"/apis/events.k8s.io/v1/namespaces/{house.namespace}/events").json()["items"]
    return [(each["type"], each["note"]) for each in items if each["reason"] == "EndpointChecked"]


def test_a_request_is_answered_in_the_status_and_by_an_event(
    house: House, kubelet: ProcessKubelet, partner: Partner
) -> None:
    house.start()
    house.apply(house.secret(), house.connection(url=partner.url))
    eventually(house.is_ready)
    ask(house, "one")
    eventually(lambda: answered(house, "one"))
    first = check(house)
    partner.set(script=[{"kind": "status", "status": 401, "times": None}])
    ask(house, "two")
    eventually(lambda: answered(house, "two"))
    second = check(house)

    assert (first["passed"], second["passed"]) == (True, False)
    steps = ["credentials", "resolve", "vet", "connect", "request", "status"]
    assert [step["name"] for step in first["steps"]] == steps
    assert "HTTP 401" in second["message"]
    assert "signing secret" in second["message"]
    assert partner.stats()["received"] == 2
    eventually(lambda: check_pods(house) == [])
    eventually(lambda: sorted(kind for kind, _ in events(house)) == ["Normal", "Warning"])
    assert house.deployment()["spec"]["replicas"] == 0


def test_an_operator_that_is_killed_meanwhile_sends_nothing_twice(
    house: House, kubelet: ProcessKubelet, partner: Partner
) -> None:
    operator = house.start()
    house.apply(house.secret(), house.connection(url=partner.url))
    eventually(house.is_ready)
    partner.set(script=[{"kind": "delay", "seconds": 3, "times": None}])
    ask(house, "once")
    eventually(lambda: partner.stats()["received"] == 1)
    operator.kill()
    house.start("operator-1")
    eventually(lambda: answered(house, "once"))
    eventually(lambda: check_pods(house) == [])

    assert check(house)["passed"] is True
    assert partner.stats()["received"] == 1


def test_tests_of_partners_that_hang_keep_nobody_from_being_reconciled(
    house: House, kubelet: ProcessKubelet, partner: Partner
) -> None:
    house.start(reconcilers="1")
    names = [f"hook-{number}" for number in range(6)]
    for name in names:
        house.apply(house.secret(name), house.connection(name, url=partner.url))
    eventually(lambda: all(house.is_ready(name) for name in names))
    partner.set(script=[{"kind": "delay", "seconds": 8, "times": None}])
    for name in names:
        ask(house, "slow", name)
    eventually(lambda: partner.stats()["received"] > 0)
    house.apply(house.secret("late"), house.connection("late"))
    eventually(lambda: house.is_ready("late"))
    hanging = [name for name in names if not answered(house, "slow", name)]
    at_once = len(check_pods(house))
    partner.set(script=[])
    eventually(lambda: all(answered(house, "slow", name) for name in names))

    assert len(hanging) == len(names)
    assert at_once <= 4


def test_what_keeps_the_test_from_running_is_told(house: House) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    house.apply(quota)
    eventually(
        lambda: "used" in house.api.get(f"/api/v1/namespaces/{house.namespace}/resourcequotas/none").json()["status"]
    )
    house.start()
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)
    ask(house, "refused")
    eventually(lambda: answered(house, "refused"))

    assert check(house)["passed"] is False
    assert "exceeded quota" in check(house)["message"]
