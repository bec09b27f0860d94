"""How often a partner is asked for tokens when those of one grant run out under 200 workers at once.

Workers are vaults of their own in four processes, each with connections to the database as a worker has; the partner is
a simulated Pipedrive, whose refresh tokens work once: a second refresh would end the grant.

`python -m benchmarks.oauth JSON` is one of the processes; it writes the versions that its vaults hand out.
"""

import asyncio
import json
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import uvloop

from benchmarks.bed import WORKER_ROLE, Bed
from benchmarks.result import Result
from connectors.connector import Connection
from connectors.context import ConnectorContext
from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp
from connectors.pipedrive.connector import PipedriveConnector
from connectors.pipedrive.simulator import PipedriveSimulator
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, TenantId
from contracts.spec_values import SecretKeyRef
from delivery.grants import StoredGrants
from delivery.memory import Memory
from programs.key_ring import KeyRing
from programs.reconnect import Reconnecting

PROCESSES: Final = 4
WORKERS: Final = 200
ROUNDS: Final = 5
KEYS: Final = KeyRing({"bench": bytes(range(32))})


class _Secrets:
    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def read(self, reference: SecretKeyRef) -> bytes:
        return self._values[reference.key].encode()


async def _work(job: dict[str, Any]) -> list[int]:
    """Have so many vaults hand out a token each, all at once; return the versions."""
    spec = parse_connection_spec(job["spec"])
    connection = Connection(ConnectionUid(UUID(job["uid"])), "bench", "hook-0", TenantId(spec.tenant), spec)
    databases = [Reconnecting(lambda: job["dsn"], "bench", queue=True) for _ in range(4)]
    async with GuardedHttp(EgressPolicy((ip_network("127.0.0.0/8"),))) as http:
        secrets = _Secrets(job["secrets"])
        memories = [Memory(database) for database in databases]
        vaults = []
        for number in range(job["vaults"]):
            grants = StoredGrants(memories[number % len(memories)], connection, lambda: KEYS)
            vaults.append(PipedriveConnector(connection, ConnectorContext(secrets, http, grants=grants)).vault)
        tokens = await asyncio.gather(*(vault.current() for vault in vaults if vault))
    for database in databases:
        await database.close()
    return [token.version for token in tokens]


async def _stampede(bed: Bed) -> tuple[int, set[int]]:
    """Let a grant run out under all workers, a few times; return how often it was renewed, and the versions seen."""
    await bed.publish(1, url="http://127.0.0.1:9/")
    with bed.admin() as admin:
        ((uid, tenant),) = admin.execute("select uid, tenant_id from integration.connection").fetchall()
    async with PipedriveSimulator() as pipedrive:
        pipedrive.open_company("company")
        pipedrive.oauth.clients["app"] = "a-secret-of-an-app"
        secrets = {"client_id": "app", "client_secret": "a-secret-of-an-app"}
        secrets["refresh_token"] = pipedrive.oauth.grant("company")
        oauth = {"secretRef": {"name": "app"}, "serverUrl": pipedrive.url}
        oauth["refreshTokenFrom"] = {"name": "app", "key": "refresh_token"}
        spec = {
            "tenant": tenant,
            "provider": "Pipedrive",
            "pipedrive": {"auth": {"oauth": oauth}},
            "routes": [{"name": "all", "events": ["company.*"]}],
        }
        vaults = WORKERS // PROCESSES
        job = {"dsn": bed.dsn(WORKER_ROLE), "uid": str(uid), "spec": spec, "secrets": secrets, "vaults": vaults}
        versions: set[int] = set()
        for _ in range(ROUNDS):
            found = await asyncio.gather(*(_process(job) for _ in range(PROCESSES)))
            versions |= {version for each in found for version in each}
            with bed.admin() as admin:
                admin.execute("update integration.oauth_token set expires_at = now()")
        return pipedrive.oauth.refreshes, versions


async def _process(job: dict[str, Any]) -> list[int]:
    command = (sys.executable, "-m", "benchmarks.oauth", json.dumps(job))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    out, _ = await process.communicate()
    versions: list[int] = json.loads(out)
    return versions


def results(bed: Bed, scale: float) -> list[Result]:  # noqa: ARG001 -- an expiry is an expiry
    """Run it."""
    bed.reset()
    refreshes, versions = uvloop.run(_stampede(bed))
    detail = f"{WORKERS} workers in {PROCESSES} processes, {ROUNDS} times; versions seen: {sorted(versions)}"
    return [Result.at_most("refresh_stampede", refreshes / ROUNDS, 1, "refreshes an expiry", detail)]


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_work(json.loads(sys.argv[1])))))
