"""The connector SDK: what a provider's code implements and what it is given.

A connector is opened once per connection and kept while the connection's spec is unchanged. `send` is called
concurrently; it never raises for what a partner does, but answers with a Report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, runtime_checkable

from connectors.context import ConnectorContext
from contracts.connection import ConnectionSpec
from contracts.ids import ConnectionUid, MessageId, PublicEventId, TenantId
from contracts.outcomes import Report


@dataclass(frozen=True, slots=True)
class Connection:
    """One tenant's link to one partner account, as a connector sees it."""

    uid: ConnectionUid
    namespace: str
    name: str
    tenant: TenantId
    spec: ConnectionSpec


class Delivery(NamedTuple):
    """One event for one connection.

    `message_id` is the idempotency key, equal in every attempt and every replay of the same delivery.
    `data` is the event's JSON object, UTF-8, exactly as it was dispatched. `attempt` counts from 1.
    `sent_at` is now, in seconds since 1970 by the database's clock: a worker's own may be wrong, and partners refuse
    signatures that are minutes off.
    """

    message_id: MessageId
    event_id: PublicEventId
    tenant: TenantId
    type: str
    subject: str
    occurred_at: datetime
    data: bytes
    route: str
    attempt: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Action:
    """Something a connector can do with an event; `events` are the types it takes, as patterns.

    A route that names no action has the first that takes all its events. `takes_fields`: whether the route may map
    fields to the partner's properties for it.
    """

    name: str
    events: tuple[str, ...]
    summary: str
    takes_fields: bool = False


class Connector(Protocol):
    """One open connection to a partner."""

    async def send(self, delivery: Delivery) -> Report:
        """Deliver once and say what came of it; bounded by the connection's timeout."""

    async def close(self) -> None:
        """Let go of sockets; deliveries in flight have ended before."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one request takes at most.

    `size` counts bytes of the items with what surrounds them; a larger item goes alone. `delay` is how long the first
    item may wait for others.
    """

    items: int
    size: int
    delay: timedelta


@runtime_checkable
class SendsMany(Protocol):
    """A connector that can send many deliveries in one request.

    `batch` is None where its connection does not want that; it stays the same while the connector is open.
    """

    batch: BatchLimits | None

    async def send_many(self, deliveries: Sequence[Delivery]) -> Sequence[Report]:
        """Deliver once, all in one request, and say in their order what came of each; as strict as `send`.

        One delivery or more, never two of one subject whose order matters. The answer `TooManyAtOnce` to all of them
        has them sent again in smaller requests.
        """


@runtime_checkable
class ChecksCredentials(Protocol):
    """A connector that can say of its credentials, without asking anybody, that they cannot be used."""

    def check_credentials(self) -> None:
        """Read every credential; raise CredentialMissingError or UnusableCredentialError."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where deliveries go; `ca` is PEM, trusted beside the system's."""

    url: str
    ca: bytes | None = None


@runtime_checkable
class HasEndpoint(Protocol):
    """A connector whose deliveries all go to one address, to which an event can be sent that means nothing."""

    def endpoint(self) -> Endpoint:
        """Return it with all credentials read; raise CredentialMissingError or UnusableCredentialError."""


class Finding(NamedTuple):
    """Something that was looked at in a partner's account; `advice` says what to do, and is empty if all is well."""

    what: str
    found: str
    advice: str = ""


@runtime_checkable
class ChecksAccount(Protocol):
    """A connector that can ask its partner who we are there, and whether the routes fit what is there."""

    async def check_account(self) -> Sequence[Finding]:
        """Ask, and change nothing at the partner; ends with the first finding that has an advice. Raises nothing."""


class ConnectorFactory(Protocol):
    """How a provider's connector is opened; in most cases the connector's class."""

    def __call__(self, connection: Connection, context: ConnectorContext) -> Connector:
        """Open a connector; does no I/O."""


class ConnectorType(ConnectorFactory, Protocol):
    """A connector's class, as it is registered.

    One that is installed beside ours may have `settings` as well: the pydantic model of `spec.plugin.settings`, by
    which a connection is checked before it is published. Without it, the connector takes none.
    """

    @property
    def actions(self) -> tuple[Action, ...]:
        """All that it can do, for any of its connections."""
