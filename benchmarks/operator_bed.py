"""The operator's bed: a real control plane full of connections, and replicas of the operator as processes.

The operator has what the chart gives it and no more: its own ServiceAccount, the rights of a whole cluster, the API
server's priority and fairness. There is no node, so its Deployments stay without workers.
"""

import asyncio
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import psycopg

from benchmarks.bed import Bed
from benchmarks.waiting import DEADLINE_SECONDS, until
from tests.cluster.audit import AuditRecord
from tests.cluster.control_plane import ControlPlane, free_port
from tests.cluster.helm import Helm
from tests.cluster.operators import OperatorProcess, install_rights

CRDS = Path(__file__).parents[1] / "crds"
RELEASE_NAMESPACE = "integrations"
NAMESPACES = 20
CONNECTIONS_PER_TENANT = 10

_AT_ONCE = 16
_QUIET_SECONDS = 5.0
_WRITES = {"create", "update", "patch", "delete", "deletecollection"}
_SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

_RECONCILED = re.compile(
    r'^integrations_operator_reconciliations_total{kind="(\w+)",result="done"} (\S+)$', re.MULTILINE
)
_PUBLISHED = """
select c.name from integration.connection c
where c.deleted_at is null and c.name = any(%s) and exists (
    select from integration.route r where r.connection_id = c.id and r.active)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection belongs."""

    namespace: str
    tenant: str


class Replica:
    """A running operator."""

    def __init__(self, process: OperatorProcess, port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"

    @property
    def resident_bytes(self) -> int:
        """Memory that it has at present."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def is_ready(self) -> bool:
        """Whether it watches."""
        try:
            return httpx.get(f"{self._url}/readyz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def reconciled(self) -> Counter[str]:
        """Return how many objects of each kind it has reconciled so far."""
        try:
            page = httpx.get(f"{self._url}/metrics", timeout=30.0, trust_env=False).text
        except httpx.TransportError:
            return Counter()
        return Counter({kind: int(float(number)) for kind, number in _RECONCILED.findall(page)})


class OperatorBed:
    """A control plane with namespaces that tenants may use, and what an operator needs."""

    def __init__(self, bed: Bed, cluster: ControlPlane, api: httpx.Client, size: int) -> None:
        self._bed = bed
        self.cluster = cluster
        self._api = api
        self._folder = cluster.folder
        self.size = size
        self.tenants = max(1, size // CONNECTIONS_PER_TENANT)
        # The size is in the names, since the server's roles outlive its databases.
        self._namespaces = [f"bench-{size}-{number}" for number in range(min(NAMESPACES, self.tenants))]
        self._install_definitions()
        account = self._install_rights()
        self._user = f"system:serviceaccount:{RELEASE_NAMESPACE}:{account}"
        self._kubeconfig = cluster.service_account_kubeconfig(RELEASE_NAMESPACE, account)

    def place(self, number: int) -> Place:
        """Say where a connection belongs: ten to a tenant, tenants dealt out to namespaces."""
        tenant = number // CONNECTIONS_PER_TENANT % self.tenants
        return Place(self._namespaces[tenant % len(self._namespaces)], f"t{tenant}")

    def fill(self) -> None:
        """Create all connections, each with a Secret of its own."""
        asyncio.run(self._fill())

    @contextmanager
    def replica(self, name: str) -> Iterator[Replica]:
        """Run an operator for the length of a block; it is told to end, should it still run."""
        port = free_port()
        database = f"postgresql://127.0.0.1:{self._bed.server.port}/bench"
        environment = {
            "KUBECONFIG": str(self._kubeconfig),
            "INTEGRATIONS_DATABASE_URL": self._bed.dsn("bench_operator"),
            "INTEGRATIONS_LEASE_NAMESPACE": RELEASE_NAMESPACE,
            "INTEGRATIONS_WORKER_IMAGE": "localhost/integrations:bench",
            "INTEGRATIONS_WORKER_DATABASE": database,
            "INTEGRATIONS_WORKER_EGRESS_ALLOW": '["127.0.0.0/8"]',
            "INTEGRATIONS_IDENTITY": name,
            "INTEGRATIONS_HEALTH_PORT": str(port),
        }
        process = OperatorProcess(self._folder, name, environment).start()
        try:
            yield Replica(process, port)
            process.stop()
        finally:
            process.end()

    def wait_for_readiness(self) -> None:
        """Wait until every connection is Ready for its newest spec and every pool has its children.

        What is ready stays ready, so namespace by namespace is enough: a poll must not cost what is measured.
        """
        until(self._has_all_children, "every pool has its children")
        for namespace in self._namespaces:
            until(partial(self._all_ready, namespace), f"all of {namespace} is Ready")

    def mark(self) -> int:
        """Return a place in the audit log."""
        return self.cluster.audit.mark()

    def requests(self, since: int) -> list[AuditRecord]:
        """Return what operators have asked of the API server, but for the Lease."""
        records = self.cluster.audit.requests(user=re.escape(self._user), since=since)
        return [record for record in records if record.resource != "leases"]

    def writes(self, since: int) -> list[AuditRecord]:
        """Return what operators have written, but for the Lease."""
        return [record for record in self.requests(since) if record.verb in _WRITES]

    def wait_for_quiet(self) -> None:
        """Wait until operators have had nothing to ask for a while."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            mark = self.mark()
            time.sleep(_QUIET_SECONDS)
            found = self.requests(mark)
            if not found:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the operator does not come to rest: {found[:5]}")

    def connect(self, name: str, url: str, signing: str) -> None:
        """Create one connection to a receiver here, with a worker that is always there; wait until it is Ready."""
        place = self.place(0)
        path, body = _secret(name, place)
        self._api.post(path, json=body | {"stringData": {"signing": signing}}).raise_for_status()
        path, body = _connection(name, place)
        body["spec"]["webhook"]["url"] = url
        body["spec"]["workers"] = {"replicas": {"min": 1, "max": 1}}
        self._api.post(path, json=body).raise_for_status()
        until(lambda: self._all_ready(place.namespace), "the connection is Ready")

    def change_secret(self, name: str, signing: str) -> None:
        """Change a connection's credential."""
        path = f"{_secret(name, self.place(0))[0]}/{name}"
        headers = {"Content-Type": "application/merge-patch+json"}
        self._api.patch(path, json={"stringData": {"signing": signing}}, headers=headers).raise_for_status()

    def publish_new(self, names: Sequence[str], every_seconds: float) -> list[float]:
        """Apply new connections at a fixed rate; return for each the seconds until the dispatcher could route by it."""
        return asyncio.run(self._publish_new(names, every_seconds))

    # Within ----------------------------------------------------------------------------------------------------------

    def _install_definitions(self) -> None:
        files = [argument for file in sorted(CRDS.glob("*.yaml")) for argument in ("--filename", str(file))]
        names = self.cluster.kubectl("apply", "--server-side", "--output=name", *files).split()
        self.cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)

    def _install_rights(self) -> str:
        self._create_namespace(RELEASE_NAMESPACE, {})
        for number, namespace in enumerate(self._namespaces):
            tenants = range(number, self.tenants, len(self._namespaces))
            self._create_namespace(namespace, {f"tenant.integrations.queast.io/t{tenant}": "" for tenant in tenants})
        return install_rights(self.cluster, Helm(self._folder), RELEASE_NAMESPACE, {"operator": {"namespaces": []}})

    def _create_namespace(self, name: str, labels: dict[str, str]) -> None:
        body = {"metadata": {"name": name, "labels": labels}}
        self._api.post("/api/v1/namespaces", json=body).raise_for_status()

    async def _fill(self) -> None:
        names = [(f"hook-{number}", self.place(number)) for number in range(self.size)]
        async with self._session() as session:
            await _all(lambda each: _create(session, *_secret(*each)), names)
            await _all(lambda each: _create(session, *_connection(*each)), names)

    async def _publish_new(self, names: Sequence[str], every_seconds: float) -> list[float]:
        places = {name: self.place(number) for number, name in enumerate(names)}
        applied: dict[str, float] = {}
        seen: dict[str, float] = {}

        async with self._session() as session:
            await _all(lambda each: _create(session, *_secret(*each)), list(places.items()))

            async def apply(delay: float, name: str) -> None:
                await asyncio.sleep(delay)
                applied[name] = time.monotonic()
                await _create(session, *_connection(name, places[name]))

            async def look() -> None:
                dsn = self._bed.server.dsn("bench")
                async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as database:
                    while len(seen) < len(names):
                        rows = await (await database.execute(_PUBLISHED, (list(names),))).fetchall()
                        now = time.monotonic()
                        for (name,) in rows:
                            seen.setdefault(name, now)
                        await asyncio.sleep(0.01)

            async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(look())
                for number, name in enumerate(names):
                    group.create_task(apply(number * every_seconds, name))
        return [seen[name] - applied[name] for name in names]

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self.cluster.admin_tls(), limit=_AT_ONCE)
        return aiohttp.ClientSession(self.cluster.url, connector=connector)

    def _has_all_children(self) -> bool:
        """Count what the pools consist of, by asking for one object of each and how many more there are."""
        pools = self.tenants
        return (
            self._count("/apis/policy/v1/poddisruptionbudgets") >= pools
            and self._count("/apis/apps/v1/deployments") >= pools
            and self._count("/api/v1/secrets") >= self.size + pools
        )

    def _count(self, path: str) -> int:
        found = self._api.get(path, params={"limit": 1}).raise_for_status().json()
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))

    def _all_ready(self, namespace: str) -> bool:
        path = f"/apis/integrations.queast.io/v1alpha1/namespaces/{namespace}/integrationconnections"
        return all(map(_is_ready, json.loads(self._api.get(path).raise_for_status().content)["items"]))


@contextmanager
def open_operator_bed(bed: Bed, size: int) -> Iterator[OperatorBed]:
    """Start a control plane beside the bed's PostgreSQL, with an empty database."""
    bed.reset()
    with (
        tempfile.TemporaryDirectory(prefix="operator-", dir=bed.directory) as name,
        ControlPlane(Path(name) / "control-plane") as cluster,
        cluster.client() as api,
    ):
        yield OperatorBed(bed, cluster, api, size)


_Named = tuple[str, Place]


async def _all(do: Callable[[_Named], Awaitable[None]], names: Sequence[_Named]) -> None:
    """Do something for each, some at once."""
    waiting = iter(names)

    async def some() -> None:
        for each in waiting:
            await do(each)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(some())


async def _create(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    async with session.post(path, json=body) as answer:
        if answer.status != 201:
            raise RuntimeError(f"the API server refuses {path}: {await answer.text()}")


def _secret(name: str, place: Place) -> tuple[str, dict[str, Any]]:
    body = {
        "metadata": {"name": name, "labels": {"integrations.queast.io/credentials": "true"}},
        "stringData": {"signing": _SIGNING},
    }
    return f"/api/v1/namespaces/{place.namespace}/secrets", body


def _connection(name: str, place: Place) -> tuple[str, dict[str, Any]]:
    body = {
        "apiVersion": "integrations.queast.io/v1alpha1",
        "kind": "IntegrationConnection",
        "metadata": {"name": name},
        "spec": {
            "tenant": place.tenant,
            "provider": "Webhook",
            "webhook": {
                "url": f"https://{name}.example.com/hook",
                "signing": {"secretsFrom": [{"name": name, "key": "signing"}]},
            },
            "routes": [{"name": "companies", "events": ["company.*"], "filter": "event.data.employees > 50"}],
        },
    }
    path = f"/apis/integrations.queast.io/v1alpha1/namespaces/{place.namespace}/integrationconnections"
    return path, body


def _is_ready(connection: dict[str, Any]) -> bool:
    status = connection.get("status", {})
    return status.get("observedGeneration") == connection["metadata"]["generation"] and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions", ())
    )
