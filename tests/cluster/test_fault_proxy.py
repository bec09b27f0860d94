"""The fault proxy: what a program behind it meets."""

import gc
import json
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.cluster.control_plane import ControlPlane
    from tests.cluster.fault_proxy import FaultProxy


@pytest.fixture
def program(
    cluster: "ControlPlane", fault_proxy: "FaultProxy", api: httpx.Client, namespace: str
) -> Iterator[httpx.Client]:
    """Give a program's client, with a token that may read and write config maps, through the proxy."""
    role = {
        "metadata": {"name": "program"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}],
    }
    binding = {
        "metadata": {"name": "program"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "program"},
        "subjects": [{"kind": "ServiceAccount", "name": "program", "namespace": namespace}],
    }
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    account = {"metadata": {"name": "program"}}
    api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", json=account).raise_for_status()
    api.post(f"{rbac}/roles", json=role).raise_for_status()
    api.post(f"{rbac}/rolebindings", json=binding).raise_for_status()
    kubeconfig = json.loads(fault_proxy.service_account_kubeconfig(namespace, "program").read_text())
    token = kubeconfig["users"][0]["user"]["token"]
    with httpx.Client(
        base_url=f"{fault_proxy.url}/api/v1/namespaces/{namespace}",
        headers={"Authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cafile=str(cluster.authority.certificate)),
        trust_env=False,
    ) as client:
        # Rights are true a moment after they are given.
        deadline = time.monotonic() + 30
        while client.get("/configmaps").status_code == 403:
            assert time.monotonic() < deadline
        yield client


def make_config_map(api: httpx.Client, namespace: str, name: str) -> None:
    api.post(f"/api/v1/namespaces/{namespace}/configmaps", json={"metadata": {"name": name}}).raise_for_status()


def test_the_next_matching_requests_get_the_status_and_later_ones_pass(
    fault_proxy: "FaultProxy", program: httpx.Client
) -> None:
    fault_proxy.answer_next(1, 429, method="POST", path="/configmaps$", retry_after=7)

    listed = program.get("/configmaps")
    refused = program.post("/configmaps", json={"metadata": {"name": "one"}})
    made = program.post("/configmaps", json={"metadata": {"name": "one"}})

    assert listed.status_code == 200
    assert (refused.status_code, refused.headers["Retry-After"], refused.json()["reason"]) == (
        429,
        "7",
        "TooManyRequests",
    )
    assert made.status_code == 201


def test_a_watch_streams_freezes_in_silence_and_is_cut(
    fault_proxy: "FaultProxy", program: httpx.Client, api: httpx.Client, namespace: str
) -> None:
    with program.stream("GET", "/configmaps?watch=true&fieldSelector=metadata.name!=kube-root-ca.crt") as watch:
        lines = watch.iter_lines()
        make_config_map(api, namespace, "streamed")
        streamed = json.loads(next(lines))["object"]["metadata"]["name"]

        fault_proxy.freeze("watch=true")
        make_config_map(api, namespace, "held-up")
        other = program.get("/configmaps/held-up").status_code
        fault_proxy.heal()
        held_up = json.loads(next(lines))["object"]["metadata"]["name"]

        fault_proxy.cut()
        with pytest.raises(httpx.TransportError):
            next(lines)

    assert (streamed, other, held_up) == ("streamed", 200, "held-up")


def test_a_frozen_stream_brings_nothing_while_its_connection_stays_and_new_ones_work(
    fault_proxy: "FaultProxy", program: httpx.Client, api: httpx.Client, namespace: str
) -> None:
    patience = httpx.Timeout(30, read=1)
    with program.stream("GET", "/configmaps?watch=true&fieldSelector=metadata.name=one", timeout=patience) as watch:
        fault_proxy.freeze("watch=true")
        make_config_map(api, namespace, "one")

        with pytest.raises(httpx.ReadTimeout):
            next(watch.iter_lines())
    with program.stream("GET", "/configmaps?watch=true&fieldSelector=metadata.name=one", timeout=patience) as another:
        assert json.loads(next(another.iter_lines()))["object"]["metadata"]["name"] == "one"


def test_a_watch_ends_with_an_expired_version(fault_proxy: "FaultProxy", program: httpx.Client) -> None:
    fault_proxy.fail_next_watches(1, path="/configmaps")

    event = program.get("/configmaps?watch=true").json()

    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_a_refusing_proxy_takes_no_connections_until_it_is_healed(
    fault_proxy: "FaultProxy", program: httpx.Client
) -> None:
    fault_proxy.refuse()
    with pytest.raises(httpx.ConnectError):
        program.get("/configmaps")
    fault_proxy.heal()

    assert program.get("/configmaps").status_code == 200


def test_a_cut_at_any_moment_of_a_request_leaves_no_connection_open(
    fault_proxy: "FaultProxy", program: httpx.Client
) -> None:
    with ThreadPoolExecutor(1) as asking:
        for number in range(100):
            asked = asking.submit(program.get, "/configmaps")
            time.sleep(number * 0.0002)
            fault_proxy.cut()
            with suppress(httpx.TransportError):
                asked.result()

    gc.collect()  # an open connection is now a warning, and a warning is an error
