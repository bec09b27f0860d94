"""What certification needs to know: `pytest --pyargs connectors.certification --connector Postbox`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from connectors.certification import samples
from connectors.certification.partner import Misfortune, Story, WrongSettings
from connectors.connector import Connection, Connector, ConnectorType, Delivery
from connectors.context import ConnectorContext
from connectors.simulation_faults import Fault, Reset, Status
from contracts.outcomes import Ambiguous, AuthRevoked, Gone, Invalid, RateLimited, Transient
from postbox_connector.connector import PostboxConnector
from postbox_connector.simulator import PostboxSimulator

TOKEN: Final = "a-token-of-postbox"  # noqa: S105 -- opens a simulator


class CertifiedPostbox:
    """A Postbox that takes any event."""

    connector: ClassVar[ConnectorType] = PostboxConnector
    misfortunes: ClassVar[Sequence[Misfortune]] = (
        Misfortune("busy", Status(status=429, retry_after_seconds=7), RateLimited, wait=timedelta(seconds=7)),
        Misfortune("in trouble", Status(status=503), Transient),
        Misfortune("not like this", Status(status=422), Invalid),
        Misfortune("token withdrawn", Status(status=401), AuthRevoked),
        Misfortune("never again", Status(status=410), Gone),
        Misfortune("silent after it acted", Reset(), Ambiguous, applied=True),
    )
    wrong_settings: ClassVar[Sequence[WrongSettings]] = ()
    secrets: Mapping[tuple[str, str], str] = {("postbox", "token"): TOKEN}

    def __init__(self) -> None:
        self._simulator = PostboxSimulator(TOKEN)

    async def __aenter__(self) -> Self:
        await self._simulator.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._simulator.__aexit__(kind, error, trace)

    async def until_left(self) -> None:
        """Return when no client is connected."""
        await self._simulator.until_left()

    def connection(self, timeout: timedelta) -> Connection:
        """Return a connection to the simulator."""
        return samples.connection(_spec(timeout, {"url": self._simulator.url}))

    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        """Open the connector."""
        return self.connector(connection, context)

    def story(self, action: str, number: int) -> Story:
        """Tell of a company; messages stand side by side, so none takes the place of another."""
        return Story(samples.company(number, action.lower()))

    def unusable(self) -> Delivery | None:
        """Return none: Postbox takes any event."""
        return None

    def befall(self, fault: Fault, *, applied: bool = False) -> None:
        """Have a fault befall the next message."""
        self._simulator.befall(fault, applied=applied)

    def effects(self, delivery: Delivery) -> int:
        """Count the messages under the delivery's id."""
        return sum(id_ == delivery.message_id for id_ in self._simulator.messages)

    def says(self, delivery: Delivery) -> bool:
        """Whether the box has the delivery."""
        return delivery.message_id in self._simulator.messages

    def state(self) -> object:
        """Return all messages."""
        return dict(self._simulator.messages)


def _spec(timeout: timedelta, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "provider": "Plugin",
        "plugin": {
            "connector": "Postbox",
            "settings": settings,
            "secretsFrom": [{"name": "token", "secret": {"name": "postbox", "key": "token"}}],
        },
        "routes": [{"name": "putmessage", "events": ["*"], "action": "PutMessage"}],
        "delivery": {"timeout": f"{timeout.total_seconds():g}s"},
    }


CertifiedPostbox.wrong_settings = (
    WrongSettings(_spec(timedelta(seconds=5), {"url": "postbox.example"}), "spec.plugin.settings.url"),
    WrongSettings(_spec(timedelta(seconds=5), {}), "spec.plugin.settings.url"),
)
