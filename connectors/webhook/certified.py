"""The webhook connector's part in its certification."""

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from connectors.certification import samples
from connectors.certification.partner import Misfortune, Story, WrongSettings
from connectors.connector import Connection, Connector, ConnectorType, Delivery
from connectors.context import ConnectorContext
from connectors.simulation_faults import Fault, Redirect, RefuseSignature, Reset, Status
from connectors.webhook.connector import WebhookConnector
from connectors.webhook.simulator import WebhookSimulator
from contracts.outcomes import Ambiguous, Gone, RateLimited, Transient

SECRET: Final = "whsec_" + b64encode(b"the key that signs everything").decode()
PATH: Final = "/hook"


class CertifiedWebhook:
    """A receiver that takes events one by one."""

    connector: ClassVar[ConnectorType] = WebhookConnector
    misfortunes: ClassVar[Sequence[Misfortune]] = (
        Misfortune("busy", Status(status=429, retry_after_seconds=7), RateLimited, wait=timedelta(seconds=7)),
        Misfortune("in trouble", Status(status=503), Transient),
        Misfortune("never again", Status(status=410), Gone),
        Misfortune("not like this", Status(status=422), Transient),
        Misfortune("elsewhere", Redirect(), Transient),
        Misfortune("wrong signature", RefuseSignature(), Transient),
        Misfortune("silent after it acted", Reset(), Ambiguous),
    )
    wrong_settings: ClassVar[Sequence[WrongSettings]] = ()
    secrets: Mapping[tuple[str, str], str] = {("hook", "signing"): SECRET}

    def __init__(self) -> None:
        self._simulator = WebhookSimulator([SECRET])

    async def __aenter__(self) -> Self:
        await self._simulator.__aenter__()
        self._simulator.change(PATH)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._simulator.__aexit__(kind, error, trace)

    async def until_left(self) -> None:
        """Return when no client is connected."""
        await self._simulator.until_left()

    def connection(self, timeout: timedelta) -> Connection:
        """Return a connection to the receiver."""
        return samples.connection(_spec(self._simulator.url(PATH), timeout))

    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        """Open the connector."""
        return self.connector(connection, context)

    def story(self, action: str, number: int) -> Story:
        """Tell of a company that changes twice."""
        first, later = samples.company(number, action, employees=1), samples.company(number, action, employees=2)
        return Story(_now(first), later=_now(later))

    def unusable(self) -> Delivery | None:
        """Return none: a receiver gets any event."""
        return None

    def befall(self, fault: Fault, *, applied: bool = False) -> None:  # noqa: ARG002 -- what it received it remembers
        """Have a fault befall the next request."""
        self._simulator.change(PATH, script=[fault])

    def effects(self, delivery: Delivery) -> int:
        """Count as the receiver does, by message id; a changed body under one id would be a second effect."""
        arrival = self._simulator.records(PATH).arrivals.get(delivery.message_id)
        return 0 if arrival is None or not arrival.accepted else 1 if arrival.same_body else 2

    def says(self, delivery: Delivery) -> bool:
        """Whether it is the last event that was accepted of its subject."""
        order = self._simulator.records(PATH).order
        return any(events[-1] == delivery.event_id for events in order.values())

    def state(self) -> object:
        """Return the receiver's counts."""
        return self._simulator.stats(PATH)


def _spec(url: str, timeout: timedelta) -> dict[str, Any]:
    return {
        "provider": "Webhook",
        "webhook": {"url": url, "signing": {"secretsFrom": [{"name": "hook", "key": "signing"}]}},
        "routes": [{"name": "send", "events": ["*"], "action": "Send"}],
        "delivery": {"timeout": f"{timeout.total_seconds():g}s"},
    }


def _now(delivery: Delivery) -> Delivery:
    return delivery._replace(route="send", sent_at=time.time())


CertifiedWebhook.wrong_settings = (
    WrongSettings({**_spec("ftp://x.example", timedelta(seconds=5))}, "spec.webhook.url"),
    WrongSettings({**_spec("https://x.example", timedelta(hours=5))}, "spec.delivery.timeout"),
)
