"""What CRM connectors are tested with: events, and connections whose memory is a real PostgreSQL."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from connectors.connector import Connection, Delivery
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp
from connectors.registry import open_connector
from contracts.ids import MessageId, PublicEventId, TenantId
from contracts.spec_values import SecretKeyRef
from delivery.grants import StoredGrants
from delivery.memory import Memory, StoredFacts, StoredLinks
from programs.key_ring import KeyRing
from programs.reconnect import Reconnecting

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

LOOPBACK = EgressPolicy((ip_network("127.0.0.0/8"),))
TOKEN = "pat-test-11111111"
KEYS = KeyRing({"2026": bytes(range(32))})
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class FakeCredentials:
    """Secrets by key."""

    values: dict[str, str] = field(default_factory=lambda: {"token": TOKEN})

    def read(self, reference: SecretKeyRef) -> bytes:
        if reference.key not in self.values:
            raise CredentialMissingError(f"Secret acme/{reference.name} has no key {reference.key}")
        return self.values[reference.key].encode()


class Partner(Protocol):
    """A simulated partner."""

    async def until_left(self) -> None:
        """Return when no client is connected, and all that was asked for has been dealt with."""


@dataclass
class Crm:
    """Opens connectors of one connection, as one worker after another would."""

    connection: Connection
    layer: "Layer"
    http: GuardedHttp
    credentials: FakeCredentials = field(default_factory=FakeCredentials)
    databases: list[Reconnecting] = field(default_factory=list)
    keys: KeyRing = KEYS
    read_keys: Callable[[], KeyRing] | None = None

    def open(self) -> Any:
        """Open the connector anew, with nothing of it in memory."""
        memory = self.memory()
        context = ConnectorContext(
            self.credentials,
            self.http,
            facts=StoredFacts(memory, self.connection),
            links=StoredLinks(memory, self.connection.tenant),
            grants=self.grants(memory),
        )
        return open_connector(self.connection, context)

    def grants(self, memory: Memory | None = None) -> StoredGrants:
        """Keep the connection's grant as one more worker does."""
        return StoredGrants(memory or self.memory(), self.connection, self.read_keys or (lambda: self.keys))

    def memory(self) -> Memory:
        """Connect to the database as one more worker does."""
        self.databases.append(Reconnecting(lambda: self.layer.dsn("pool_a"), "worker-memory", queue=True))
        return Memory(self.databases[-1])

    async def die(self, partner: Partner) -> None:
        """Close every connection, as the system does for a process that was killed, and let the partner notice."""
        await self.http.close()
        await partner.until_left()
        self.http = GuardedHttp(LOOPBACK)

    async def close(self) -> None:
        """Let go of the connections to the partner and to the database."""
        await self.http.close()
        for database in self.databases:
            await database.close()

    def links(self) -> dict[str, str]:
        """Return our ids of linked companies with the partner's."""
        rows = self.layer.rows(
            "select queast_id, remote_id from integration.mapping where kind = 'company' and remote_id is not null"
        )
        return dict(rows)


OpenCrm = Callable[..., Awaitable[Crm]]
"""Publishes a connection, from its spec without the tenant and its name, and returns what its connectors need."""


def company(id_: str = "c-1", *, kind: str = "company.updated", route: str = "companies", **data: Any) -> Delivery:
    """Write an event about a company; its message id follows from what it says."""
    return event(kind, {"id": id_, **data}, f"{id_}-{sorted(data.items())}", route)


def signal(
    number: int = 1, id_: str = "c-1", *, route: str = "notes", name: str | None = "Acme", **more: Any
) -> Delivery:
    """Write the n-th signal about a company."""
    of = {"id": id_} | ({"name": name} if name else {})
    data = {
        "id": f"s-{number}",
        "contract": {"uri": "https://signals.example/contract", "version": "3"},
        "company": of,
        "signal": {"title": f"Signal {number}", "score": 0.5, **more},
    }
    return event("signal.published", data, f"s-{number}-{id_}", route)


def event(type_: str, data: Mapping[str, Any], key: str, route: str) -> Delivery:
    return Delivery(
        MessageId(f"msg_{route}_{key}"[:120]),
        PublicEventId(f"evt_{key}"[:60]),
        TenantId("acme"),
        type_,
        str(data.get("id")),
        AT,
        orjson.dumps(data),
        route,
        1,
        AT.timestamp(),
    )
