"""A real Kubernetes API for the tests, one control plane per test process, and a namespace for each test."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.cluster.audit import AuditLog
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fault_proxy import FaultProxy
from tests.cluster.house import house  # noqa: F401 -- a fixture
from tests.cluster.kubelet.process_kubelet import ProcessKubelet
from tests.cluster.partner import dispatcher, partner  # noqa: F401 -- fixtures
from tests.cluster.program_files import ProgramMissingError, all_names, find
from tests.integration.conftest import layer, migrated_template, owner, postgres  # noqa: F401 -- fixtures

CRDS = Path(__file__).parents[2] / "crds"

Kubectl = Callable[..., str]


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """Run the control plane that all tests of this process share; if the process is killed, its guardian ends it."""
    try:
        for name in all_names():
            find(name)
    except ProgramMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"NO CLUSTER TESTS: {error}")
    with (
        tempfile.TemporaryDirectory(prefix="integration-layer-cluster-") as name,
        ControlPlane(Path(name) / "control-plane") as control_plane,
    ):
        yield control_plane


@pytest.fixture(scope="session")
def kubectl(cluster: ControlPlane) -> Kubectl:
    """Give the real kubectl, as an administrator: `kubectl("get", "pods")` returns what it prints, or raises."""
    return cluster.kubectl


@pytest.fixture(scope="session")
def api(cluster: ControlPlane) -> Iterator[httpx.Client]:
    """Give an administrator's HTTP client, for requests that have to be exactly so."""
    with cluster.client() as client:
        yield client


@pytest.fixture(scope="session")
def audit(cluster: ControlPlane) -> AuditLog:
    """Give the API server's audit log."""
    return cluster.audit


@pytest.fixture
def namespace(api: httpx.Client) -> Iterator[str]:
    """Make a namespace for one test; its deletion goes on while the next test runs."""
    name = f"test-{uuid4().hex[:10]}"
    api.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    yield name
    api.delete(f"/api/v1/namespaces/{name}").raise_for_status()


@pytest.fixture(scope="session")
def crds(kubectl: Kubectl) -> list[str]:
    """Apply our custom resource definitions, wait until they are served, and name them."""
    files = sorted(CRDS.glob("*.yaml"))
    if not files:
        return []
    arguments = [argument for file in files for argument in ("--filename", str(file))]
    names = kubectl("apply", "--server-side", "--output=name", *arguments).split()
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    return [name.partition("/")[2] for name in names]


@pytest.fixture
def service_account_kubeconfig(cluster: ControlPlane) -> Callable[..., Path]:
    """Give a way to write a kubeconfig of a service account: `service_account_kubeconfig(namespace, name)`."""
    return cluster.service_account_kubeconfig


@pytest.fixture
def kubelet(cluster: ControlPlane) -> Iterator[ProcessKubelet]:
    """Run the cluster's pods as local processes while the test runs."""
    with ProcessKubelet(cluster) as kubelet:
        yield kubelet


@pytest.fixture
def fault_proxy(cluster: ControlPlane) -> Iterator[FaultProxy]:
    """Give a way to the API server that breaks as the test wants."""
    with FaultProxy(cluster) as proxy:
        yield proxy
