"""What a CRM's calls cost, and whether its limits are used up without a call being refused.

The HubSpot connector against the simulated HubSpot in a process of its own, links in the real database. Each delivery
is a call: companies are known and go one by one, as the calls are what is measured.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from uuid import uuid4

import httpx
import orjson
import uvloop

from benchmarks.bed import WORKER_ROLE, Bed
from benchmarks.result import Result
from benchmarks.waiting import until
from connectors.connector import Connection, Delivery
from connectors.context import ConnectorContext
from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp
from connectors.hubspot.connector import HubSpotConnector
from connectors.hubspot.simulator_limits import TEN_SECONDS
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, MessageId, PublicEventId, TenantId
from contracts.outcomes import Delivered
from contracts.spec_values import SecretKeyRef
from delivery.memory import Memory, StoredFacts, StoredLinks
from programs.reconnect import Reconnecting

TOKEN = "pat-bench"
LIMIT = 190
UNLIMITED = 1_000_000
SENDERS = 8
COMPANIES = 64


class _Token:
    def read(self, reference: SecretKeyRef) -> bytes:  # noqa: ARG002 -- there is one
        return TOKEN.encode()


@contextmanager
def hubspot(limit: int) -> Iterator[str]:
    """Run a simulated HubSpot with an account that takes so many calls in ten seconds; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "connectors.hubspot.simulator", "--port", str(port), "--limit", str(limit)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(lambda: _account(url, "PUT") is not None, "the simulated HubSpot listens")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _account(url: str, method: str = "GET") -> dict[str, int] | None:
    try:
        answer = httpx.request(
            method, f"{url}/_control/account", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )
    except httpx.TransportError:
        return None
    document: dict[str, int] = answer.json()
    return document


async def _calls(bed: Bed, url: str, seconds: float) -> tuple[int, float]:
    """Deliver as fast as is allowed for some time; how many were delivered, and the CPU seconds that took."""
    await bed.publish(1, url=url)
    auth = {"privateApp": {"tokenFrom": {"name": "crm", "key": "token"}}}
    spec = parse_connection_spec(
        {
            "tenant": "t0",
            "provider": "HubSpot",
            "hubspot": {"auth": auth, "apiUrl": url},
            "routes": [{"name": "all", "events": ["company.*"], "action": "UpsertCompany"}],
        }
    )
    connection = Connection(ConnectionUid(uuid4()), "bench", "crm", TenantId("t0"), spec)
    database = Reconnecting(lambda: bed.dsn(WORKER_ROLE), "bench", queue=True)
    memory = Memory(database)
    delivered = 0
    async with GuardedHttp(EgressPolicy((ip_network("127.0.0.0/8"),))) as http:
        context = ConnectorContext(
            _Token(),
            http,
            facts=StoredFacts(memory, connection),
            links=StoredLinks(memory, connection.tenant),
        )
        connector = HubSpotConnector(connection, context)
        await connector.send_many([_delivery(number) for number in range(COMPANIES)])
        ends_at = time.monotonic() + seconds

        async def send(number: int) -> None:
            nonlocal delivered
            while time.monotonic() < ends_at:
                report = await connector.send(_delivery(number))
                delivered += isinstance(report.outcome, Delivered)
                number = (number + SENDERS) % COMPANIES

        began = time.process_time()
        await asyncio.gather(*map(send, range(SENDERS)))
        cpu = time.process_time() - began
    await database.close()
    return delivered, cpu


def _delivery(number: int) -> Delivery:
    data = orjson.dumps({"id": f"c-{number}", "name": f"Company {number}", "employees": 412, "country": "DE"})
    at = datetime.now(UTC)
    return Delivery(
        MessageId(f"msg_{number}"),
        PublicEventId(f"evt_{number}"),
        TenantId("t0"),
        "company.updated",
        f"c-{number}",
        at,
        data,
        "all",
        1,
        at.timestamp(),
    )


def results(bed: Bed, scale: float) -> list[Result]:
    """Run it."""
    windows = max(1, round(3 * scale))
    bed.reset()
    with hubspot(LIMIT) as url:
        uvloop.run(_calls(bed, url, windows * TEN_SECONDS))
        account = _account(url) or {}
    calls, refusals = account["calls"], account["refused"]
    allowed = windows * LIMIT
    bed.reset()
    with hubspot(UNLIMITED) as url:
        delivered, cpu = uvloop.run(_calls(bed, url, max(2.0, 10 * scale)))
    detail = f"{calls:,} calls in {windows * TEN_SECONDS:.0f} s, {allowed:,} allowed"
    cost = cpu / delivered * 1e6
    return [
        Result.at_least("hubspot_budget_used", calls / allowed, 0.95, "of what is allowed", detail),
        Result.at_most("hubspot_avoidable_429", refusals, 0, "calls", f"of {calls:,} calls"),
        Result.at_most("crm_call_cpu_us", cost, 700, "µs", f"{delivered:,} calls, each with a look at its link"),
    ]
