"""The chart in a real cluster: what it brings is accepted, works with a real database, has no more rights than told."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from local.postgres import PostgresServer
from store.migrate import expected_revision
from tests.cluster.control_plane import ControlPlane, KubectlError
from tests.cluster.helm import CHART, Helm
from tests.cluster.kubelet.process_kubelet import ProcessKubelet

INSTALLING = Path(__file__).parents[2] / "docs" / "install.md"
NAMESPACE = "integrations"
DEFINITIONS = [f"crd/integration{plural}.integrations.queast.io" for plural in ("connections", "replays")]
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:layer-integration-layer-operator"
PASSWORD = "for tests only"

# Without a node nobody would run the migrations.
WITHOUT_A_NODE = {"migrations": {"enabled": False}}
NARROW = {
    **WITHOUT_A_NODE,
    "crds": {"enabled": False},
    "tenantClaims": {"enforce": False},
    "rbac": {"aggregateClusterRoles": False},
    "operator": {"namespaces": ["acme"]},
}

NEEDED = [
    ("patch", "integrations.queast.io", "integrationconnections"),
    ("patch", "integrations.queast.io", "integrationconnections/status"),
    ("watch", "integrations.queast.io", "integrationreplays"),
    ("delete", "integrations.queast.io", "integrationreplays"),
    ("patch", "integrations.queast.io", "integrationreplays/status"),
    ("watch", "", "secrets"),
    ("create", "", "secrets"),
    ("patch", "apps", "deployments"),
    ("delete", "policy", "poddisruptionbudgets"),
    ("patch", "", "pods"),
    ("create", "", "pods"),
    ("create", "events.k8s.io", "events"),
]
REFUSED = [
    ("create", "integrations.queast.io", "integrationconnections"),
    ("delete", "integrations.queast.io", "integrationconnections"),
    ("create", "integrations.queast.io", "integrationreplays"),
    ("patch", "integrations.queast.io", "integrationreplays"),
    ("create", "", "pods/exec"),
    ("get", "", "configmaps"),
    ("patch", "", "namespaces"),
    ("create", "rbac.authorization.k8s.io", "rolebindings"),
    ("update", "apiextensions.k8s.io", "customresourcedefinitions"),
]


@pytest.fixture(scope="module")
def own_cluster(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a control plane of our own: the chart brings what a cluster has once, and other tests bring it as well."""
    del cluster  # asked for because it says what is missing on this machine
    with ControlPlane(tmp_path_factory.mktemp("chart")) as control_plane:
        for namespace in (NAMESPACE, "acme", "globex"):
            control_plane.kubectl("create", "namespace", namespace)
        control_plane.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        yield control_plane


@pytest.fixture
def helm(own_cluster: ControlPlane, tmp_path: Path) -> Iterator[Helm]:
    """Give helm; remove what a test has installed, and the definitions, which stay otherwise."""
    helm = Helm(tmp_path, own_cluster.admin_kubeconfig)
    yield helm
    for release in helm("list", "--namespace", NAMESPACE, "--short").split():
        helm("uninstall", release, "--namespace", NAMESPACE, "--wait")
    remove_definitions(own_cluster)


def remove_definitions(cluster: ControlPlane) -> None:
    """Delete the definitions.

    The API server holds them by a finalizer of its own until all objects are deleted. If it cannot find out about that
    right after they were made, it tries again minutes later.
    """

    def are_gone() -> bool:
        return not cluster.kubectl("get", *DEFINITIONS, "--ignore-not-found", "--output=name").strip()

    cluster.kubectl("delete", *DEFINITIONS, "--ignore-not-found", "--wait=false")
    if not eventually(are_gone):
        for name in cluster.kubectl("get", *DEFINITIONS, "--ignore-not-found", "--output=name").split():
            with suppress(KubectlError):  # it has gone meanwhile
                cluster.kubectl("patch", name, "--type=merge", '--patch={"metadata":{"finalizers":null}}')
        assert eventually(are_gone)


def install(helm: Helm, values: dict[str, Any]) -> None:
    helm("upgrade", "--install", "layer", str(CHART), "--namespace", NAMESPACE, values=values)


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def versions(cluster: ControlPlane, helm: Helm) -> dict[str, str]:
    """Return the version of each object of the release; every write that changes something changes it."""
    manifest = helm("get", "manifest", "layer", "--namespace", NAMESPACE)
    arguments = ("get", "--namespace", NAMESPACE, "--filename=-", "--output=json")
    found = json.loads(cluster.kubectl(*arguments, stdin=manifest))["items"]
    # Status is not the chart's.
    return {
        f"{each['kind']}/{each['metadata']['name']}": json.dumps(
            {**each, "status": None, "metadata": {**each["metadata"], "resourceVersion": None, "managedFields": None}}
        )
        + str(each["metadata"].get("generation", each["metadata"]["resourceVersion"]))
        for each in found
    }


def may(
    cluster: ControlPlane,
    verb: str,
    group: str,
    resource: str,
    namespace: str = "",
    name: str = "",
    user: str = ACCOUNT,
) -> bool:
    """Ask the API server whether the operator may do something; without a namespace, in all of them."""
    kind, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": kind, "subresource": subresource}
    asked = {"user": user, "resourceAttributes": {**attributes, "namespace": namespace, "name": name}}
    with cluster.client() as client:
        answer = client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json={"spec": asked})
    answer.raise_for_status()
    return bool(answer.json()["status"]["allowed"])


def apply_connection(cluster: ControlPlane, tenant: str) -> None:
    example = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]["artifacthub.io/crdsExamples"]
    (connection,) = yaml.safe_load(example)
    connection["spec"]["tenant"] = tenant
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(connection))


def test_pods_are_admitted_under_the_restricted_standard(own_cluster: ControlPlane, helm: Helm) -> None:
    install(helm, WITHOUT_A_NODE)

    def components() -> list[str]:
        pods = json.loads(own_cluster.kubectl("get", "pods", "--namespace", NAMESPACE, "--output=json"))["items"]
        return sorted(pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods)

    assert eventually(lambda: components() == ["dispatcher", "dispatcher", "operator", "operator"])


def test_an_upgrade_without_a_change_writes_nothing(own_cluster: ControlPlane, helm: Helm) -> None:
    install(helm, WITHOUT_A_NODE)
    before = versions(own_cluster, helm)

    install(helm, WITHOUT_A_NODE)

    assert versions(own_cluster, helm) == before


def test_applying_the_rendered_manifests_again_changes_nothing(own_cluster: ControlPlane, helm: Helm) -> None:
    install(helm, WITHOUT_A_NODE)
    manifest = helm("get", "manifest", "layer", "--namespace", NAMESPACE)
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "--filename=-")
    own_cluster.kubectl(*apply, stdin=manifest)
    before = versions(own_cluster, helm)

    own_cluster.kubectl(*apply, stdin=manifest)

    assert versions(own_cluster, helm) == before


def test_connections_outlive_the_release(own_cluster: ControlPlane, helm: Helm) -> None:
    install(helm, WITHOUT_A_NODE)
    own_cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *DEFINITIONS)
    own_cluster.kubectl("label", "namespace", "acme", "tenant.integrations.queast.io/acme=true")
    apply_connection(own_cluster, "acme")

    helm("uninstall", "layer", "--namespace", NAMESPACE, "--wait")

    left = own_cluster.kubectl("get", "iconn", "--namespace", "acme", "--output=name")
    assert left.split() == ["integrationconnection.integrations.queast.io/receiver"]


def test_claims_of_tenants_are_enforced(own_cluster: ControlPlane, helm: Helm) -> None:
    install(helm, WITHOUT_A_NODE)
    own_cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *DEFINITIONS)

    def refused() -> bool:
        try:
            apply_connection(own_cluster, "somebody-else")
        except KubectlError as error:
            return "may not hold connections and replays of tenant somebody-else" in error.stderr
        own_cluster.kubectl("delete", "iconn", "--namespace", "acme", "--all")
        return False

    assert eventually(refused)


def test_the_operator_of_a_cluster_may_do_its_work_everywhere_and_nothing_else(
    own_cluster: ControlPlane, helm: Helm
) -> None:
    install(helm, WITHOUT_A_NODE)

    assert eventually(lambda: all(may(own_cluster, *asked) for asked in NEEDED))
    assert may(own_cluster, "watch", "", "namespaces")
    assert [asked for asked in REFUSED if may(own_cluster, *asked)] == []


def test_the_operator_of_some_namespaces_may_do_its_work_in_these_alone(own_cluster: ControlPlane, helm: Helm) -> None:
    install(helm, NARROW)

    assert eventually(lambda: all(may(own_cluster, *asked, namespace="acme") for asked in NEEDED))
    assert may(own_cluster, "get", "", "namespaces", namespace="acme", name="acme")
    assert not may(own_cluster, "get", "", "namespaces", namespace="globex", name="globex")
    assert [asked for asked in NEEDED if may(own_cluster, *asked, namespace="globex")] == []
    assert [asked for asked in NEEDED if may(own_cluster, *asked)] == []
    assert may(own_cluster, "update", "coordination.k8s.io", "leases", namespace=NAMESPACE)
    assert not may(own_cluster, "update", "coordination.k8s.io", "leases", namespace="acme")


@pytest.mark.parametrize(
    ("role", "verbs"), [("view", {"list"}), ("edit", {"list", "create", "patch", "delete"}), ("nobody", set())]
)
def test_the_role_in_a_namespace_says_who_looks_at_replays_and_who_asks_for_them(
    own_cluster: ControlPlane, helm: Helm, role: str, verbs: set[str]
) -> None:
    install(helm, WITHOUT_A_NODE)
    user = f"{role}-of-acme"
    binding = ("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}", "--namespace=acme")
    own_cluster.kubectl(*binding)

    def allowed(namespace: str, resource: str = "integrationreplays") -> set[str]:
        asked = ("list", "create", "patch", "delete")
        group = "integrations.queast.io"
        return {verb for verb in asked if may(own_cluster, verb, group, resource, namespace, user=user)}

    assert eventually(lambda: allowed("acme") == verbs)
    assert "patch" not in allowed("acme", "integrationreplays/status")
    assert allowed("globex") == set()


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    """Run a server with the database and the roles that docs/install.md has people make."""
    (statements,) = re.findall(r"```sql\n(.+?)```", INSTALLING.read_text(), re.DOTALL)
    with tempfile.TemporaryDirectory(prefix="integration-layer-chart-") as name:
        Path(name).chmod(0o711)  # root's server runs under another account
        with PostgresServer(Path(name) / "data", settings={"fsync": "off"}) as server:
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                for statement in re.sub(r"--.*", "", statements).split(";"):
                    if statement.strip():
                        admin.execute(statement.strip().encode())
                for role in ("integration_owner", "integrations_operator", "integrations_dispatcher"):
                    change = sql.SQL("alter role {} password {}")
                    admin.execute(change.format(sql.Identifier(role), sql.Literal(PASSWORD)))
            yield server


@pytest.fixture
def secrets(own_cluster: ControlPlane, database: PostgresServer) -> Iterator[None]:
    """Make the Secrets that the chart wants."""
    roles = {
        "migrations": "integration_owner",
        "operator": "integrations_operator",
        "dispatcher": "integrations_dispatcher",
    }
    for program, role in roles.items():
        url = database.dsn("integrations", role, PASSWORD)
        create = ("create", "secret", "generic", f"integrations-database-{program}", "--namespace", NAMESPACE)
        own_cluster.kubectl(*create, "--from-file=url=/dev/stdin", stdin=url)
    yield
    own_cluster.kubectl(
        "delete", "secret", "--namespace", NAMESPACE, *(f"integrations-database-{each}" for each in roles)
    )


@pytest.mark.usefixtures("secrets")
def test_what_the_guide_tells_leads_to_a_connection_that_is_ready(
    own_cluster: ControlPlane, helm: Helm, database: PostgresServer
) -> None:
    address = database.dsn("integrations", "nobody").replace("nobody@", "")
    values = {"database": {"workers": {"address": address}}}
    command = ("upgrade", "--install", "layer", str(CHART), "--namespace", NAMESPACE, "--wait", "--timeout=2m")
    secret = ("create", "secret", "generic", "receiver", "--namespace", "acme")

    with ProcessKubelet(own_cluster):
        helm(*command, values=values)
        deployments = own_cluster.kubectl(
            "get", "deployments", "--namespace", NAMESPACE, "--output=jsonpath={.items[*].status.readyReplicas}"
        )
        jobs = own_cluster.kubectl("get", "jobs", "--namespace", NAMESPACE, "--output=name")
        with psycopg.connect(database.dsn("integrations")) as admin:
            revision = admin.execute("select version_num from integration.schema_version").fetchone()
        own_cluster.kubectl("label", "namespace", "acme", "tenant.integrations.queast.io/acme=true", "--overwrite")
        own_cluster.kubectl(*secret, "--from-literal=signing=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        apply_connection(own_cluster, "acme")
        own_cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "iconn/receiver", "--namespace", "acme")
        own_cluster.kubectl("delete", "iconn", "--namespace", "acme", "receiver", "--timeout=60s")
        helm("uninstall", "layer", "--namespace", NAMESPACE, "--wait")

    assert deployments == "2 2"
    assert jobs == ""
    assert revision == (expected_revision(),)
