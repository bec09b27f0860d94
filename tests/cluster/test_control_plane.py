"""The test cluster itself: what other tests rely on."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.cluster.control_plane import KubectlError

if TYPE_CHECKING:
    from tests.cluster.audit import AuditLog
    from tests.cluster.conftest import Kubectl
    from tests.cluster.control_plane import ControlPlane


def test_the_api_server_is_the_pinned_one_and_enforces_rbac(
    cluster: "ControlPlane", kubectl: "Kubectl", namespace: str
) -> None:
    kubectl("create", "serviceaccount", "nobody", "--namespace", namespace)
    kubeconfig = cluster.service_account_kubeconfig(namespace, "nobody")

    assert json.loads(kubectl("version", "--output=json"))["serverVersion"]["gitVersion"] == "v1.34.3"
    with pytest.raises(KubectlError, match=rf"system:serviceaccount:{namespace}:nobody.* cannot list resource"):
        kubectl("get", "secrets", "--namespace", namespace, kubeconfig=kubeconfig)


def test_the_audit_log_counts_each_request_once(
    cluster: "ControlPlane", kubectl: "Kubectl", audit: "AuditLog", namespace: str
) -> None:
    kubectl("create", "serviceaccount", "counted", "--namespace", namespace)
    kubeconfig = cluster.service_account_kubeconfig(namespace, "counted")
    mark = audit.mark()

    for name in ("one", "two"):
        with pytest.raises(KubectlError, match="forbidden"):
            kubectl("get", "configmap", name, "--namespace", namespace, kubeconfig=kubeconfig)

    user = f"system:serviceaccount:{namespace}:counted"
    deadline = time.monotonic() + 30
    while len(requests := audit.requests(user=user, since=mark, resource="configmaps")) < 2:
        assert time.monotonic() < deadline
    assert [(each.verb, each.namespace, each.name, each.code) for each in requests] == [
        ("get", namespace, "one", 403),
        ("get", namespace, "two", 403),
    ]


def test_an_outage_of_the_api_server_keeps_its_data_and_its_address(
    cluster: "ControlPlane", api: httpx.Client, namespace: str
) -> None:
    config_maps = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(config_maps, json={"metadata": {"name": "kept"}, "data": {"a": "b"}}).raise_for_status()

    cluster.stop_apiserver()
    with pytest.raises(httpx.TransportError):
        api.get(config_maps)
    cluster.start_apiserver()

    assert api.get(f"{config_maps}/kept").json()["data"] == {"a": "b"}


def test_processes_end_with_a_test_process_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys, time\n"
        "from tests.cluster.processes import Process\n"
        "started = Process(['sleep', '600'], pathlib.Path(sys.argv[1]))\n"
        "print(started.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    test_process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "log"], stdout=subprocess.PIPE, text=True)
    assert test_process.stdout is not None
    started = psutil.Process(int(test_process.stdout.readline()))

    test_process.kill()
    test_process.communicate()

    # Whoever adopts it may be slow to collect it: a zombie has ended.
    deadline = time.monotonic() + 30
    while started.is_running() and started.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
