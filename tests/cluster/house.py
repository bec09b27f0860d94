"""A namespace of the test cluster with operators that look after it, and a database of its own."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.control_plane import ControlPlane
from tests.cluster.helm import Helm
from tests.cluster.operators import OperatorProcess, install_rights
from tests.integration.conftest import Layer

SIGNING = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
CONNECTIONS = "/apis/integrations.queast.io/v1alpha1/namespaces/{}/integrationconnections"
REPLAYS = "/apis/integrations.queast.io/v1alpha1/namespaces/{}/integrationreplays"


@dataclass
class House:
    """A namespace with an operator that looks after it."""

    cluster: ControlPlane
    api: httpx.Client
    namespace: str
    layer: Layer
    folder: Path
    account: str
    environment: dict[str, str]
    operators: list[OperatorProcess] = field(default_factory=list)

    def start(self, name: str = "operator-0", **settings: str) -> OperatorProcess:
        """Start a replica."""
        environment = self.environment | {"INTEGRATIONS_IDENTITY": name}
        environment |= {f"INTEGRATIONS_{key.upper()}": value for key, value in settings.items()}
        self.operators.append(OperatorProcess(self.folder, name, environment).start())
        return self.operators[-1]

    def look_after_all_namespaces(self) -> None:
        """Let the replicas that are started from now on have, and use, the rights of a whole cluster's operator."""
        install_rights(self.cluster, Helm(self.folder), self.namespace, {"operator": {"namespaces": []}})
        self.environment["INTEGRATIONS_NAMESPACES"] = "[]"

    def apply(self, *documents: dict[str, Any]) -> str:
        """Apply manifests as a person does."""
        return self.cluster.kubectl(
            "apply",
            "--server-side",
            f"--namespace={self.namespace}",
            "--filename=-",
            stdin=yaml.safe_dump_all(documents),
        )

    def connection(self, name: str = "hook", url: str = "http://127.0.0.1:9/", **spec: Any) -> dict[str, Any]:
        """Write a webhook connection's manifest."""
        signing = {"secretsFrom": [{"name": name, "key": "signing"}]}
        return {
            "apiVersion": "integrations.queast.io/v1alpha1",
            "kind": "IntegrationConnection",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "tenant": "acme",
                "provider": "Webhook",
                "webhook": {"url": url, "signing": signing},
                "routes": [{"name": "all", "events": ["*"]}],
                **spec,
            },
        }

    def replay(self, name: str = "again", **spec: Any) -> dict[str, Any]:
        """Write a replay's manifest; without more it is one of everything, to all of the tenant's connections."""
        return {
            "apiVersion": "integrations.queast.io/v1alpha1",
            "kind": "IntegrationReplay",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"tenant": "acme", "reason": "they lost it", "selection": {"types": ["*"]}, **spec},
        }

    def secret(self, name: str = "hook", signing: str = SIGNING, *, watched: bool = True) -> dict[str, Any]:
        """Write the manifest of the Secret that goes with it."""
        labels = {"integrations.queast.io/credentials": "true"} if watched else {}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "stringData": {"signing": signing},
        }

    def get(self, name: str = "hook") -> dict[str, Any]:
        """Read a connection."""
        answer = self.api.get(f"{CONNECTIONS.format(self.namespace)}/{name}")
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def conditions(self, name: str = "hook") -> dict[str, dict[str, Any]]:
        """Return a connection's conditions by type."""
        return {each["type"]: each for each in self.get(name).get("status", {}).get("conditions", [])}

    def is_ready(self, name: str = "hook") -> bool:
        """Whether the status says that the newest spec is in force."""
        found = self.get(name)
        ready = self.conditions(name).get("Ready", {})
        return ready.get("status") == "True" and ready.get("observedGeneration") == found["metadata"]["generation"]

    def reason(self, name: str = "hook") -> str:
        """Return why a connection is ready or not."""
        return str(self.conditions(name)["Ready"]["reason"])

    def replayed(self, name: str = "again") -> dict[str, Any]:
        """Return a replay's status."""
        answer = self.api.get(f"{REPLAYS.format(self.namespace)}/{name}")
        found: dict[str, Any] = answer.raise_for_status().json()["status"]
        return found

    def deployment(self, name: str = "integrations-tenant-acme") -> dict[str, Any]:
        """Read a pool's Deployment."""
        answer = self.api.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}")
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def exists(self, path: str) -> bool:
        """Whether an object exists."""
        return self.api.get(path).status_code == 200

    def routes(self) -> list[tuple[str, bool]]:
        """Return what the dispatcher routes by: connection and whether its routes are active."""
        query = (
            "select c.name, bool_or(r.active) from integration.connection c join integration.route r"
            " on r.connection_id = c.id where c.deleted_at is null and c.namespace = %s group by c.name order by c.name"
        )
        return [(str(name), bool(active)) for name, active in self.layer.rows(query, (self.namespace,))]


@pytest.fixture
def house(
    cluster: ControlPlane,
    api: httpx.Client,
    crds: list[str],
    namespace: str,
    layer: Layer,
    tmp_path: Path,
    service_account_kubeconfig: Callable[..., Path],
) -> Iterator[House]:
    """Prepare all that an operator of one namespace needs; whatever the test starts, ends with it."""
    account = install_rights(cluster, Helm(tmp_path), namespace, {"operator": {"namespaces": [namespace]}})
    environment = {
        "KUBECONFIG": str(service_account_kubeconfig(namespace, account)),
        "INTEGRATIONS_DATABASE_URL": layer.dsn("operator"),
        "INTEGRATIONS_NAMESPACES": json.dumps([namespace]),
        "INTEGRATIONS_LEASE_NAMESPACE": namespace,
        "INTEGRATIONS_WORKER_IMAGE": "localhost/integrations:test",
        "INTEGRATIONS_WORKER_DATABASE": f"postgresql://127.0.0.1:{layer.postgres.port}/{layer.name}",
        "INTEGRATIONS_WORKER_EGRESS_ALLOW": '["127.0.0.0/8"]',
    }
    api.patch(
        f"/api/v1/namespaces/{namespace}",
        json={"metadata": {"labels": {"tenant.integrations.queast.io/acme": ""}}},
        headers={"Content-Type": "application/merge-patch+json"},
    ).raise_for_status()
    house = House(cluster, api, namespace, layer, tmp_path, account, environment)
    try:
        yield house
    finally:
        print(cluster.kubectl("get", "iconn,ireplay,deployment,pods", f"--namespace={namespace}", "--output=yaml"))  # noqa: T201
        for operator in house.operators:
            operator.end()
            print(operator.log.read_text())  # noqa: T201 -- shown with a failure
        # Nobody drains any more, and the namespace must be able to go.
        for item in api.get(CONNECTIONS.format(namespace)).json().get("items", []):
            path = f"{CONNECTIONS.format(namespace)}/{item['metadata']['name']}"
            headers = {"Content-Type": "application/merge-patch+json"}
            api.patch(path, json={"metadata": {"finalizers": None}}, headers=headers)
