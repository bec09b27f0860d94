"""The operator on a real API server with its own rights: connections become routing, workers and honest statuses."""

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from programs.key_ring import new_key
from tests.cluster.audit import AuditLog
from tests.cluster.house import CONNECTIONS, House
from tests.cluster.operators import eventually

MERGE = {"Content-Type": "application/merge-patch+json"}
POOL = "integrations-tenant-acme"


def patch(house: House, path: str, body: dict[str, Any]) -> None:
    """Change an object as somebody else."""
    answer = house.api.patch(path, json=body, headers=MERGE, params={"fieldManager": "somebody-else"})
    answer.raise_for_status()


def delete(house: House, name: str = "hook") -> None:
    """Delete a connection without waiting."""
    house.api.delete(f"{CONNECTIONS.format(house.namespace)}/{name}").raise_for_status()


def is_gone(house: House, name: str = "hook") -> bool:
    """Whether a connection's object is gone."""
    return not house.exists(f"{CONNECTIONS.format(house.namespace)}/{name}")


def backlog(house: House, jobs: int = 3) -> None:
    """Give the connection undelivered jobs, as a dispatcher does."""
    house.layer.rows(
        "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at)"
        " select l.pool_id, nextval('integration.job_id'), l.connection_id, r.id, n, now()"
        " from integration.lane l join integration.route r using (connection_id)"
        " join integration.connection c on c.id = l.connection_id, generate_series(1, %s) n where c.namespace = %s",
        (jobs, house.namespace),
    )


def dead_letters(house: House) -> list[str]:
    """Return the reasons of all dead letters."""
    return [str(reason) for reason in house.layer.column("select reason from integration.dead_letter")]


def test_an_applied_connection_becomes_ready_with_routing_and_an_empty_pool(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)

    status = house.get()["status"]
    assert house.routes() == [("hook", True)]
    assert status["state"] == "Delivering"
    assert status["pool"] == f"{house.namespace}/integrations-tenant-acme"
    eventually(lambda: house.deployment()["spec"]["replicas"] == 0)


def test_a_steady_state_is_silent_and_so_is_a_restart(house: House, audit: AuditLog) -> None:
    operator = house.start()
    names = [f"hook-{number}" for number in range(6)]
    for name in names:
        house.apply(house.secret(name), house.connection(name))
    eventually(lambda: all(house.is_ready(name) for name in names))
    eventually(lambda: house.deployment()["metadata"]["annotations"]["integrations.queast.io/secrets"])
    time.sleep(2)  # what is silent can only be shown by listening
    user = f"system:serviceaccount:{house.namespace}:.*"
    mark = audit.mark()
    time.sleep(8)
    idle = [record for record in audit.requests(user=user, since=mark) if record.resource != "leases"]
    operator.stop()
    again = house.start("operator-1")
    eventually(lambda: again.says("everything seen"))
    time.sleep(4)
    written = [
        record
        for record in audit.requests(user=user, since=mark)
        if record.resource != "leases" and record.verb not in ("get", "list", "watch")
    ]

    assert idle == []
    assert written == []


def test_a_missing_secret_is_told_and_heals_by_itself(house: House) -> None:
    house.start()
    house.apply(house.connection())
    eventually(lambda: house.reason() == "CredentialsMissing")
    message = house.conditions()["Ready"]["message"]
    published = house.routes()
    house.apply(house.secret())
    eventually(house.is_ready)

    assert "Secret hook" in message
    assert published == [("hook", True)]


def test_an_unusable_secret_is_told_without_its_value(house: House) -> None:
    house.start()
    house.apply(house.secret(signing="whsec_not base64 at all"), house.connection())
    eventually(lambda: house.reason() == "CredentialsInvalid")

    status = str(house.get()["status"])
    assert "key signing of Secret" in status
    assert "not base64 at all" not in status
    assert "not base64 at all" not in house.operators[0].log.read_text()


def test_a_secret_without_the_label_works_and_the_status_says_what_the_label_is_good_for(house: House) -> None:
    house.start()
    house.apply(house.secret(watched=False), house.connection())
    eventually(house.is_ready)

    assert "integrations.queast.io/credentials=true" in house.conditions()["CredentialsValid"]["message"]


def test_a_suspended_connection_is_ready_and_says_so(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection(suspend=True))
    eventually(house.is_ready)
    suspended = (house.get()["status"]["state"], house.layer.value("select suspended from integration.lane"))
    house.apply(house.connection(suspend=False))
    eventually(lambda: house.get()["status"]["state"] == "Delivering")

    assert suspended == ("Suspended", True)
    assert house.layer.value("select suspended from integration.lane") is False


def test_a_namespace_without_the_tenant_s_label_gets_nothing(house: House) -> None:
    house.look_after_all_namespaces()
    house.start()
    house.apply(house.secret(), house.connection(tenant="globex"))
    eventually(lambda: house.reason() == "ForbiddenTenant")
    message = house.conditions()["Ready"]["message"]
    stalled = house.conditions()["Stalled"]["status"]
    published = house.routes()
    house.cluster.kubectl("label", "namespace", house.namespace, "tenant.integrations.queast.io/globex=")
    eventually(house.is_ready)

    assert f"kubectl label namespace {house.namespace} tenant.integrations.queast.io/globex=" in message
    assert stalled == "True"
    assert published == []


@pytest.mark.parametrize("what", ["deployment", "secret", "poddisruptionbudget"])
def test_a_deleted_child_comes_back(house: House, what: str) -> None:
    house.start(resync="PT10S")
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)
    find = ("get", what, POOL, f"--namespace={house.namespace}", "--output=jsonpath={.metadata.uid}")
    eventually(lambda: house.cluster.kubectl(*find))
    former = house.cluster.kubectl(*find)
    house.cluster.kubectl("delete", what, POOL, f"--namespace={house.namespace}")
    eventually(lambda: house.cluster.kubectl(*find, "--ignore-not-found") not in ("", former))


def test_edited_fields_of_ours_are_repaired_and_those_of_others_survive(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)
    path = f"/apis/apps/v1/namespaces/{house.namespace}/deployments/{POOL}"
    patch(house, path, {"metadata": {"annotations": {"theirs": "1"}}})
    patch(house, path, {"spec": {"template": {"metadata": {"annotations": {"theirs": "2"}}}}})
    patch(house, path, {"spec": {"progressDeadlineSeconds": 77}})
    eventually(lambda: house.deployment()["spec"]["progressDeadlineSeconds"] == 300)

    deployment = house.deployment()
    assert deployment["metadata"]["annotations"]["theirs"] == "1"
    assert deployment["spec"]["template"]["metadata"]["annotations"]["theirs"] == "2"


def test_the_number_of_workers_belongs_to_whoever_sets_it(house: House) -> None:
    house.start(quiet="PT1S")
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)
    house.cluster.kubectl("scale", "deployment", POOL, "--replicas=2", f"--namespace={house.namespace}")
    house.apply(house.connection(delivery={"timeout": "90s"}))
    eventually(lambda: house.deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 105)
    time.sleep(3)  # three looks of the scaler

    assert house.deployment()["spec"]["replicas"] == 2


def test_the_least_number_of_workers_is_kept(house: House) -> None:
    house.start(quiet="PT1S")
    house.apply(house.secret(), house.connection(workers={"replicas": {"min": 2, "max": 3}}))
    eventually(lambda: house.deployment()["spec"]["replicas"] == 2)
    house.apply(house.connection(workers={"replicas": {"min": 0, "max": 3}}))
    eventually(lambda: house.deployment()["spec"]["replicas"] == 0)


def test_waiting_jobs_wake_a_pool(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection())
    eventually(house.is_ready)
    backlog(house)
    eventually(lambda: house.deployment()["spec"]["replicas"] == 1)


def test_a_connection_deleted_with_the_policy_delete_takes_its_jobs_with_it(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection(deletionPolicy="Delete"))
    eventually(house.is_ready)
    backlog(house)
    delete(house)
    eventually(lambda: house.layer.value("select count(*) from integration.job") == 0)
    eventually(lambda: not house.exists(f"/apis/apps/v1/namespaces/{house.namespace}/deployments/{POOL}"))

    assert is_gone(house)
    assert dead_letters(house) == []


def test_an_orphaned_connection_goes_on_without_its_object(house: House) -> None:
    house.start(resync="PT10S")
    house.apply(house.secret(), house.connection(deletionPolicy="Orphan"))
    eventually(house.is_ready)
    delete(house)
    eventually(lambda: is_gone(house))
    time.sleep(12)  # a resync has passed

    assert house.routes() == [("hook", True)]
    assert house.exists(f"/apis/apps/v1/namespaces/{house.namespace}/deployments/{POOL}")


def test_what_is_not_drained_in_time_becomes_dead_letters(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection(drainTimeout="3s"))
    eventually(house.is_ready)
    backlog(house)
    delete(house)
    eventually(lambda: house.get()["status"].get("state") == "Draining")
    drain = house.get()["status"]["drain"]
    eventually(lambda: is_gone(house))

    assert drain["deadline"] > drain["since"]
    assert dead_letters(house) == ["ConnectionDeleted"] * 3


def test_a_namespace_can_always_be_deleted(house: House) -> None:
    house.look_after_all_namespaces()
    house.start()
    tenants = replace(house, namespace=f"{house.namespace}-tenants")
    labels = {"tenant.integrations.queast.io/acme": ""}
    metadata = {"name": tenants.namespace, "labels": labels}
    house.api.post("/api/v1/namespaces", json={"metadata": metadata}).raise_for_status()
    tenants.apply(tenants.secret(), tenants.connection(drainTimeout="24h"))
    eventually(tenants.is_ready)
    backlog(tenants)
    house.cluster.kubectl("delete", "namespace", tenants.namespace, "--wait=false")
    eventually(lambda: not house.exists(f"/api/v1/namespaces/{tenants.namespace}"))

    assert dead_letters(house) == ["ConnectionDeleted"] * 3


def test_a_pool_s_password_changes_when_it_is_old(house: House) -> None:
    house.start()
    house.apply(house.secret(), house.connection())
    eventually(lambda: house.layer.column("select credential from integration.pool where credential is not null"))
    former = house.layer.value("select credential from integration.pool")
    path = f"/api/v1/namespaces/{house.namespace}/secrets/{POOL}"
    patch(house, path, {"metadata": {"annotations": {"integrations.queast.io/rotatedAt": "2020-01-01T00:00:00+00:00"}}})
    eventually(lambda: house.layer.value("select credential from integration.pool") != former)

    secret = house.api.get(path).json()
    credential = secret["metadata"]["annotations"]["integrations.queast.io/credential"]
    assert credential == house.layer.value("select credential from integration.pool")


def test_a_pool_with_an_oauth_app_gets_keys_of_its_own_and_follows_the_master_s(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "oauth-keys"
    folder.mkdir()
    (folder / "2026").write_text(new_key())
    house.start(oauth_keys_directory=str(folder), resync="PT10S")
    app = house.secret("app") | {"stringData": {"client_id": "a", "client_secret": "b"}}
    hubspot = {"auth": {"oauth": {"secretRef": {"name": "app"}}}}
    connection = house.connection("crm", provider="HubSpot", hubspot=hubspot)
    del connection["spec"]["webhook"]
    house.apply(app, connection)
    path = f"/api/v1/namespaces/{house.namespace}/secrets/{POOL}"

    def held() -> dict[str, bytes]:
        data = house.api.get(path).raise_for_status().json()["data"]
        return {name: base64.b64decode(value) for name, value in data.items()}

    eventually(lambda: held()["oauth-keys"])
    first = held()
    (folder / "2027").write_text(new_key())
    eventually(lambda: b"2027" in held()["oauth-keys"])
    second = held()
    former = house.layer.value("select credential from integration.pool")
    for file in folder.iterdir():
        file.unlink()
    patch(house, path, {"metadata": {"annotations": {"integrations.queast.io/rotatedAt": "2020-01-01T00:00:00+00:00"}}})
    eventually(lambda: house.layer.value("select credential from integration.pool") != former)
    third = held()

    assert [set(json.loads(each["oauth-keys"])) for each in (first, second)] == [{"2026"}, {"2026", "2027"}]
    assert json.loads(first["oauth-keys"]).items() <= json.loads(second["oauth-keys"]).items()
    assert second["password"] == first["password"] != third["password"]
    assert third["oauth-keys"] == second["oauth-keys"]
