"""What a connector brings to be certified: its simulated partner, and what to say to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from connectors.connector import Connection, Connector, ConnectorType, Delivery
from connectors.context import ConnectorContext
from connectors.simulation_faults import Fault
from contracts.outcomes import Outcome


class Story(NamedTuple):
    """Deliveries of one action about one subject: what has to be there before, the delivery that is looked at, and a
    later one that takes its place, where the action has such a thing."""

    first: Delivery
    before: tuple[Delivery, ...] = ()
    later: Delivery | None = None


@dataclass(frozen=True, slots=True)
class Misfortune:
    """What a partner may do to a request, and what that has to be called; `applied`: the request takes effect first.

    `wait` is how long the partner asks to wait, where it does.
    """

    name: str
    fault: Fault
    outcome: type[Outcome]
    applied: bool = False
    wait: timedelta | None = None


class WrongSettings(NamedTuple):
    """A spec that must be refused, and the place that has to be named, such as `spec.webhook.url`."""

    spec: Mapping[str, Any]
    path: str


class CertifiedPartner(Protocol):
    """A simulated partner, made for each test, in which nothing is yet.

    `connector` is its class. `secrets` are the credentials by Secret and key, each of them secret. All but these
    belong to the class, since tests are made of them.
    """

    connector: ConnectorType
    misfortunes: Sequence[Misfortune]
    wrong_settings: Sequence[WrongSettings]
    secrets: Mapping[tuple[str, str], str]

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def until_left(self) -> None:
        """Return when no client is connected, and all that those who left had asked for has been dealt with."""

    def connection(self, timeout: timedelta) -> Connection:
        """Return a connection to the partner with a route for each action, each named as its action."""

    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        """Open the connector."""

    def story(self, action: str, number: int) -> Story:
        """Tell the n-th story of an action; each is about another subject."""

    def unusable(self) -> Delivery | None:
        """Return a delivery that the partner can never take; None if it takes anything."""

    def befall(self, fault: Fault, *, applied: bool = False) -> None:
        """Have a fault befall the next request that would write something."""

    def effects(self, delivery: Delivery) -> int:
        """Count what there is at the partner because of a delivery: 1 if it has it, 2 if it has it twice."""

    def says(self, delivery: Delivery) -> bool:
        """Whether what the partner has of a subject is what this delivery says."""

    def state(self) -> object:
        """Return all that there is at the partner, to be compared."""
