"""The operator on a real API server with its own rights: connections become routing, workers and honest statuses."""

from tests.cluster.house import House
from tests.cluster.operators import eventually


def test_an_applied_connection_becomes_ready_with_routing_and_an_empty_pool(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)

    status = house.get()["status"]
    assert house.routes() == [("hook", True)]
    assert status["state"] == "Delivering"
    assert status["pool"] == f"{house.namespace}/integrations-tenant-acme"
    eventually(lambda: house.deployment()["spec"]["replicas"] == 0)
