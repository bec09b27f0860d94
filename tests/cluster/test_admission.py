"""Nobody claims another tenant by writing its name; a withdrawn claim holds up nothing that is under way."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

POLICY = Path(__file__).parents[2] / "crds" / "admission" / "tenant-claim.yaml"
API = "/apis/integrations.queast.io/v1alpha1"
PATIENCE_SECONDS = 60
MERGE = {"Content-Type": "application/merge-patch+json"}

Kubectl = Callable[..., str]


def connection(tenant: str = "acme", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "integrations.queast.io/v1alpha1",
        "kind": "IntegrationConnection",
        "metadata": {"name": "crm"} | metadata,
        "spec": {
            "tenant": tenant,
            "provider": "HubSpot",
            "hubspot": {"auth": {"oauth": {"secretRef": {"name": "crm"}}}},
            "routes": [{"name": "all", "events": ["*"]}],
        },
    }


def create(api: httpx.Client, namespace: str, body: dict[str, Any], **parameters: str) -> httpx.Response:
    return api.post(f"{API}/namespaces/{namespace}/integrationconnections", json=body, params=parameters)


def patch(api: httpx.Client, namespace: str, change: dict[str, Any], subresource: str = "") -> httpx.Response:
    place = f"{API}/namespaces/{namespace}/integrationconnections/crm{subresource}"
    return api.patch(place, content=json.dumps(change), headers=MERGE)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for the API server, which takes note of policies and labels a moment after they are written."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not so after {PATIENCE_SECONDS} s"
        time.sleep(0.05)


def is_denied(api: httpx.Client, namespace: str, tenant: str = "acme") -> bool:
    return create(api, namespace, connection(tenant, name="probe"), dryRun="All").status_code == 403


@pytest.fixture(scope="module", autouse=True)
def policy(crds: list[str], kubectl: Kubectl, api: httpx.Client) -> Iterator[None]:
    """Have the policy in force, for these tests only: other tests label no namespaces."""
    kubectl("apply", "--server-side", "--filename", str(POLICY))
    wait_until(lambda: is_denied(api, "default"))
    yield
    kubectl("delete", "--filename", str(POLICY))
    wait_until(lambda: not is_denied(api, "default"))


@pytest.fixture
def claim(api: httpx.Client, namespace: str) -> Callable[[str | None], None]:
    """Give a way to label the namespace for the tenant acme, or with None to take the label away."""

    def set_label(value: str | None) -> None:
        labels = {"metadata": {"labels": {"tenant.integrations.queast.io/acme": value}}}
        api.patch(f"/api/v1/namespaces/{namespace}", content=json.dumps(labels), headers=MERGE).raise_for_status()
        wait_until(lambda: is_denied(api, namespace) is (value is None))

    return set_label


Claim = Callable[[str | None], None]


def test_a_namespace_without_the_label_may_not_hold_the_connection(api: httpx.Client, namespace: str) -> None:
    answer = create(api, namespace, connection())

    assert answer.status_code == 403
    assert answer.json()["message"].endswith(
        f"namespace {namespace} may not hold connections and replays of tenant acme; somebody who may label namespaces"
        f" can allow it: kubectl label namespace {namespace} tenant.integrations.queast.io/acme=true"
    )


@pytest.mark.parametrize("value", ["true", "", "false"])
def test_a_labelled_namespace_may_whatever_the_value(
    api: httpx.Client, namespace: str, claim: Claim, value: str
) -> None:
    claim(value)

    assert create(api, namespace, connection()).status_code == 201


def test_the_command_that_is_told_helps(api: httpx.Client, kubectl: Kubectl, namespace: str) -> None:
    message = create(api, namespace, connection()).json()["message"]
    kubectl(*message.partition("kubectl ")[2].split())
    wait_until(lambda: not is_denied(api, namespace))

    assert create(api, namespace, connection()).status_code == 201


def test_a_claim_is_for_one_tenant(api: httpx.Client, namespace: str, claim: Claim) -> None:
    claim("true")

    assert is_denied(api, namespace, "globex")
    assert is_denied(api, namespace, "acm")


def test_without_the_claim_the_spec_stays_as_it_is(api: httpx.Client, namespace: str, claim: Claim) -> None:
    claim("true")
    create(api, namespace, connection()).raise_for_status()
    claim(None)

    assert patch(api, namespace, {"spec": {"drainTimeout": "1m"}}).status_code == 403


def test_without_the_claim_metadata_and_status_can_be_written(api: httpx.Client, namespace: str, claim: Claim) -> None:
    claim("true")
    create(api, namespace, connection()).raise_for_status()
    claim(None)

    assert patch(api, namespace, {"metadata": {"annotations": {"a": "b"}}}).status_code == 200
    assert patch(api, namespace, {"status": {"state": "Waiting"}}, "/status").status_code == 200


def test_without_the_claim_a_connection_can_be_deleted_and_its_drain_ended(
    api: httpx.Client, namespace: str, claim: Claim
) -> None:
    claim("true")
    create(api, namespace, connection(finalizers=["integrations.queast.io/drain"])).raise_for_status()
    claim(None)
    place = f"{API}/namespaces/{namespace}/integrationconnections/crm"
    deleted = api.delete(place)
    # While it is drained its spec may still change: a drain is cut short that way.
    shortened = patch(api, namespace, {"spec": {"drainTimeout": "1s"}})
    released = patch(api, namespace, {"metadata": {"finalizers": None}})

    assert [deleted.status_code, shortened.status_code, released.status_code] == [200, 200, 200]
    assert api.get(place).status_code == 404


def test_a_replay_needs_the_claim_as_a_connection_does(api: httpx.Client, namespace: str, claim: Claim) -> None:
    replay = {
        "apiVersion": "integrations.queast.io/v1alpha1",
        "kind": "IntegrationReplay",
        "metadata": {"name": "again"},
        "spec": {"tenant": "acme", "reason": "they lost it", "selection": {"types": ["*"]}},
    }
    place = f"{API}/namespaces/{namespace}/integrationreplays"
    without = api.post(place, json=replay)
    claim("true")
    with_it = api.post(place, json=replay)
    claim(None)
    cancelled = api.patch(f"{place}/again", content=json.dumps({"spec": {"cancel": True}}), headers=MERGE)
    deleted = api.delete(f"{place}/again")

    assert without.status_code == 403
    assert f"namespace {namespace} may not hold connections and replays of tenant acme" in without.json()["message"]
    assert with_it.status_code == 201
    assert (cancelled.status_code, deleted.status_code) == (403, 200)
