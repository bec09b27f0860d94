"""Connectors that break one promise each, to see that certification finds out."""

import asyncio
import logging
from typing import Any, ClassVar

from connectors.certification.partner import WrongSettings
from connectors.connector import Connection, Connector, Delivery
from connectors.context import ConnectorContext
from connectors.hubspot.certified import CertifiedHubSpot
from connectors.registry import open_connector
from connectors.webhook.certified import CertifiedWebhook
from contracts.ids import MessageId
from contracts.outcomes import Delivered, Report, Transient


class _Wrapped:
    """A connector that does what another does."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.batch = None

    async def send(self, delivery: Delivery) -> Report:
        report: Report = await self.inner.send(delivery)
        return report

    async def close(self) -> None:
        await self.inner.close()


class _NewIdEachTime(_Wrapped):
    """Forgets that a repeat has the message id of the first attempt."""

    attempts = 0

    async def send(self, delivery: Delivery) -> Report:
        type(self).attempts += 1
        return await super().send(delivery._replace(message_id=MessageId(f"msg_attempt_{self.attempts}")))


class _Talkative(_Wrapped):
    """Logs what it was given."""

    def __init__(self, inner: Any, secret: str) -> None:
        super().__init__(inner)
        self.secret = secret

    async def send(self, delivery: Delivery) -> Report:
        logging.getLogger(__name__).debug("sending with %s", self.secret)
        return await super().send(delivery)


class _Patient(_Wrapped):
    """Waits longer than it may."""

    async def send(self, delivery: Delivery) -> Report:
        report = await super().send(delivery)
        if not isinstance(report.outcome, Delivered):
            await asyncio.sleep(2.5)
        return report


class _Sorry(_Wrapped):
    """Calls everything transient."""

    async def send(self, delivery: Delivery) -> Report:
        report = await super().send(delivery)
        return report if isinstance(report.outcome, Delivered) else Report(Transient(), detail=report.detail)


class _Stale(_Wrapped):
    """Sends the first of a subject's events again in the place of later ones."""

    first: ClassVar[dict[str, Delivery]] = {}

    async def send(self, delivery: Delivery) -> Report:
        if delivery.route != "upsertcompany":
            return await super().send(delivery)
        first = self.first.setdefault(delivery.subject, delivery)
        return await super().send(delivery._replace(data=first.data))


class NewIdEachTime(CertifiedHubSpot):
    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        return _NewIdEachTime(open_connector(connection, context))


class Talkative(CertifiedWebhook):
    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        return _Talkative(open_connector(connection, context), next(iter(self.secrets.values())))


class Patient(CertifiedWebhook):
    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        return _Patient(open_connector(connection, context))


class Sorry(CertifiedWebhook):
    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        return _Sorry(open_connector(connection, context))


class Stale(CertifiedHubSpot):
    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        _Stale.first.clear()
        return _Stale(open_connector(connection, context))


class Lenient(CertifiedWebhook):
    """Says that a right spec is wrong, as one does whose settings are not checked."""

    wrong_settings = (WrongSettings({"provider": "Webhook"}, "spec.webhook.color"),)
