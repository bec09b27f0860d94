"""The process kubelet: pods that run, change, crash and end as they would on a node."""

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.cluster.kubelet.process_kubelet import KubeletFailedError, ProcessKubelet

if TYPE_CHECKING:
    from tests.cluster.conftest import Kubectl
    from tests.cluster.control_plane import ControlPlane

# Serves until SIGTERM, then takes the seconds of its last argument to end.
SERVER = """
import http.server, os, signal, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer((os.environ["ADDRESS"], 8080), Handler)
def end(*_):
    print("asked to end", flush=True)
    time.sleep(float(sys.argv[1]))
    print("ends", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("serves", flush=True)
server.serve_forever()
"""


def pod_spec(script: str, *arguments: str, **others: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "any", "command": [sys.executable, "-c", script, *arguments]}
    return {"automountServiceAccountToken": False, "containers": [container | others.pop("container", {})], **others}


def server_spec(end_seconds: str = "0", **others: Any) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1}
    address = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return pod_spec(SERVER, end_seconds, container={"readinessProbe": probe, "env": [address]}, **others)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


class Pods:
    """Makes and reads the pods of one namespace."""

    def __init__(self, api: httpx.Client, namespace: str) -> None:
        self._api = api
        self.path = f"/api/v1/namespaces/{namespace}/pods"
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        wait_for(lambda: api.get(accounts).is_success)

    def create(self, name: str, spec: dict[str, Any]) -> None:
        self._api.post(self.path, json={"metadata": {"name": name}, "spec": spec}).raise_for_status()

    def get(self, name: str) -> dict[str, Any] | None:
        answer = self._api.get(f"{self.path}/{name}")
        return None if answer.status_code == 404 else answer.json()

    def phase(self, name: str) -> str:
        pod = self.get(name)
        return "" if pod is None else str(pod["status"]["phase"])

    def container(self, name: str) -> dict[str, Any]:
        pod = self.get(name)
        statuses = [] if pod is None else pod["status"].get("containerStatuses", [])
        return statuses[0] if statuses else {}


@pytest.fixture
def pods(api: httpx.Client, namespace: str) -> Pods:
    return Pods(api, namespace)


def test_a_deployment_rolls_out_with_ready_replicas_that_answer_at_addresses_of_their_own(
    kubelet: ProcessKubelet, kubectl: "Kubectl", pods: Pods, namespace: str
) -> None:
    labels = {"app": "server"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "server"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": server_spec()},
        },
    }
    kubectl("apply", "--namespace", namespace, "--filename=-", stdin=json.dumps(deployment))
    kubectl("rollout", "status", "deployment/server", "--namespace", namespace, "--timeout=60s")

    addresses = kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={.items[*].status.podIP}").split()
    assert len(set(addresses)) == 2
    assert [httpx.get(f"http://{address}:8080/").status_code for address in addresses] == [200, 200]


def test_a_rotated_secret_reaches_the_files_when_the_pod_is_annotated(
    kubelet: ProcessKubelet, kubectl: "Kubectl", pods: Pods, namespace: str
) -> None:
    projected = {
        "sources": [
            {"secret": {"name": "rotated", "optional": True, "items": [{"key": "key", "path": "rotated/key"}]}},
            {"secret": {"name": "absent", "optional": True}},
        ]
    }
    kubectl("create", "secret", "generic", "rotated", "--from-literal=key=old", "--namespace", namespace)
    # As workers know it: the folder is named in the environment, and the volume is mounted a level below it.
    folder = {"name": "SECRETS", "value": "/etc/some/secrets"}
    mounts = {"volumeMounts": [{"name": "secrets", "mountPath": "/etc/some/secrets/acme"}], "env": [folder]}
    script = (
        "import os, pathlib, time; "
        "print(pathlib.Path(os.environ['SECRETS'], 'acme', 'rotated', 'key').read_text(), flush=True); time.sleep(600)"
    )
    spec = pod_spec(script, container=mounts)
    pods.create("reader", spec | {"volumes": [{"name": "secrets", "projected": projected}]})
    wait_for(lambda: pods.phase("reader") == "Running")
    wait_for(lambda: kubelet.logs(namespace, "reader") == "old\n")
    file = kubelet.path(namespace, "reader", "/etc/some/secrets/acme/rotated/key")

    kubectl("patch", "secret", "rotated", "-n", namespace, "-p", '{"stringData": {"key": "new"}}')
    before = file.read_text()
    kubectl("annotate", "pod", "reader", "rotated=1", "--namespace", namespace)
    wait_for(lambda: file.read_text() == "new")

    assert before == "old"
    assert file.parents[1].joinpath("..data").is_symlink()


def test_a_pod_waits_for_what_it_must_have(
    kubelet: ProcessKubelet, kubectl: "Kubectl", pods: Pods, namespace: str
) -> None:
    mounts = {"volumeMounts": [{"name": "needed", "mountPath": "/needed"}]}
    spec = pod_spec("", container=mounts, restartPolicy="Never")
    pods.create("waiting", spec | {"volumes": [{"name": "needed", "secret": {"secretName": "needed"}}]})
    waits = wait_for(lambda: pods.container("waiting"))["state"]["waiting"]["reason"]
    kubectl("create", "secret", "generic", "needed", "--namespace", namespace)
    wait_for(lambda: pods.phase("waiting") == "Succeeded")

    assert waits == "ContainerCreating"


def test_a_deleted_pod_gets_sigterm_and_its_grace_period(
    kubelet: ProcessKubelet, kubectl: "Kubectl", pods: Pods, namespace: str
) -> None:
    pods.create("polite", server_spec("0.5", terminationGracePeriodSeconds=60))
    pods.create("deaf", server_spec("600", terminationGracePeriodSeconds=1))
    kubectl("wait", "--for=condition=Ready", "pod/polite", "pod/deaf", "--namespace", namespace, "--timeout=60s")
    kubectl("delete", "pod", "polite", "deaf", "--namespace", namespace, "--timeout=60s")

    assert kubelet.logs(namespace, "polite") == "serves\nasked to end\nends\n"
    assert kubelet.logs(namespace, "deaf") == "serves\nasked to end\n"


def test_restarts_are_counted_after_crashes_and_kills(kubelet: ProcessKubelet, pods: Pods, namespace: str) -> None:
    pods.create("crashing", pod_spec("raise SystemExit(3)"))
    pods.create("killed", server_spec())
    wait_for(lambda: pods.container("killed").get("ready"))
    kubelet.kill(namespace, "killed")
    wait_for(lambda: pods.container("killed").get("ready") and pods.container("killed")["restartCount"] == 1)
    wait_for(lambda: pods.container("crashing").get("restartCount", 0) >= 2)

    assert pods.container("killed")["lastState"]["terminated"]["exitCode"] == 137
    assert pods.container("crashing")["lastState"]["terminated"]["exitCode"] == 3


def test_a_jobs_init_container_runs_first_and_the_job_completes(
    kubelet: ProcessKubelet, kubectl: "Kubectl", pods: Pods, namespace: str
) -> None:
    write, read = "open(__import__('sys').argv[1], 'w').write('made')", "print(open(__import__('sys').argv[1]).read())"
    mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    spec = pod_spec(read, "/shared/file", container=mounts, restartPolicy="Never")
    spec["volumes"] = [{"name": "shared", "emptyDir": {}}]
    spec["initContainers"] = [
        {"name": "first", "image": "any", "command": [sys.executable, "-c", write, "/shared/file"], **mounts}
    ]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job"},
        "spec": {"template": {"spec": spec}},
    }
    kubectl("create", "--namespace", namespace, "--filename=-", stdin=json.dumps(job))
    kubectl("wait", "--for=condition=Complete", "job/job", "--namespace", namespace, "--timeout=60s")
    name = kubectl("get", "pods", "-n", namespace, "-o", "jsonpath={.items[0].metadata.name}")

    assert kubelet.logs(namespace, name) == "made\n"


def test_a_pod_with_a_token_reaches_the_api_as_its_service_account(
    kubelet: ProcessKubelet, pods: Pods, namespace: str
) -> None:
    ask = (
        "import kubernetes; kubernetes.config.load_kube_config(); "
        "print(kubernetes.client.AuthenticationV1Api().create_self_subject_review({}).status.user_info.username)"
    )
    pods.create("asking", pod_spec(ask, restartPolicy="Never") | {"automountServiceAccountToken": True})
    wait_for(lambda: pods.phase("asking") == "Succeeded")

    assert kubelet.logs(namespace, "asking") == f"system:serviceaccount:{namespace}:default\n"


def test_an_outage_of_the_api_server_leaves_containers_running(
    kubelet: ProcessKubelet, cluster: "ControlPlane", pods: Pods, namespace: str
) -> None:
    pods.create("lasting", server_spec())
    wait_for(lambda: pods.container("lasting").get("ready"))
    pid = kubelet.pid(namespace, "lasting")
    cluster.stop_apiserver()
    cluster.start_apiserver()
    pods.create("later", pod_spec("", restartPolicy="Never"))
    wait_for(lambda: pods.phase("later") == "Succeeded")

    assert kubelet.pid(namespace, "lasting") == pid
    assert pods.container("lasting")["restartCount"] == 0


def test_what_cannot_be_carried_out_is_refused_loudly(cluster: "ControlPlane", pods: Pods) -> None:
    spec = pod_spec("", container={"livenessProbe": {"tcpSocket": {"port": 1}}})

    with (
        pytest.raises(KubeletFailedError, match=r"does not support .*livenessProbe\.tcpSocket"),
        ProcessKubelet(cluster),
    ):
        pods.create("refused", spec)
        wait_for(lambda: pods.phase("refused") == "Failed")
