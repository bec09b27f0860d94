"""The webhook connector: one signed request for each delivery, or for many where the connection wants batches.

Receivers recognise a repeated delivery by `webhook-id`, which is the delivery's message id in every attempt, so a
request that was sent and not answered may simply be sent again. In a batch they do so by each item's `webhookid`. Such
a connection sends nothing but batches, of one where there is no more, so that its receiver reads one format.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import ClassVar

from connectors.connector import Action, BatchLimits, Connection, Delivery, Endpoint
from connectors.context import ConnectorContext, CredentialMissingError
from connectors.errors import UnusableCredentialError
from connectors.webhook.client import send_webhook
from connectors.webhook.handshake import Handshake
from connectors.webhook.payloads import Headers, write_batch, write_request
from connectors.webhook.settings import Receiver, ReceiverSource
from contracts.connection import WebhookConnectionSpec
from contracts.outcomes import Misconfigured, Report, TooManyAtOnce


class WebhookConnector:
    """Delivers to one webhook receiver."""

    actions: ClassVar[tuple[Action, ...]] = (Action("Send", ("*",), "Send the event as it is."),)

    def __init__(self, connection: Connection, context: ConnectorContext) -> None:
        spec = connection.spec
        if not isinstance(spec, WebhookConnectionSpec):
            raise TypeError(f"connection {connection.namespace}/{connection.name} is not one to a webhook receiver")
        self._format = spec.webhook.format
        self._time_limit = spec.delivery.timeout
        batch = spec.webhook.batch
        self.batch = batch and BatchLimits(batch.max_items, batch.max_bytes, batch.max_delay)
        self._receivers = ReceiverSource(spec.webhook, context.credentials)
        self._http = context.http
        self._handshake = (
            Handshake(spec.webhook.handshake, spec.delivery, context.http) if spec.webhook.handshake else None
        )

    async def send(self, delivery: Delivery) -> Report:
        """Send one signed request and say what came of it."""
        try:
            receiver = self._receivers.current()
        except (CredentialMissingError, UnusableCredentialError) as error:
            return Report(Misconfigured(), detail=str(error))
        if self.batch is None:
            body, headers = write_request(self._format, delivery, receiver.keys, int(delivery.sent_at))
        else:
            body, headers = write_batch([delivery], receiver.keys, int(delivery.sent_at))
        headers += receiver.headers
        if self._handshake is not None:
            return await self._with_permission(self._handshake, receiver, headers, body)
        return await send_webhook(self._http, receiver, headers, body, self._time_limit)

    async def send_many(self, deliveries: Sequence[Delivery]) -> list[Report]:
        """Send one signed request; what is answered holds for all of it, but 413: fewer may not be too large."""
        if len(deliveries) == 1:
            return [await self.send(deliveries[0])]
        try:
            receiver = self._receivers.current()
        except (CredentialMissingError, UnusableCredentialError) as error:
            return [Report(Misconfigured(), detail=str(error))] * len(deliveries)
        body, headers = write_batch(deliveries, receiver.keys, int(deliveries[-1].sent_at))
        headers += receiver.headers
        if self._handshake is not None:
            report = await self._with_permission(self._handshake, receiver, headers, body)
        else:
            report = await send_webhook(self._http, receiver, headers, body, self._time_limit)
        if report.status_code == 413:
            report = replace(report, outcome=TooManyAtOnce())
        return [report] * len(deliveries)

    async def _with_permission(self, handshake: Handshake, receiver: Receiver, headers: Headers, body: bytes) -> Report:
        began = monotonic()
        refusal = await handshake.ask(receiver)
        if refusal is not None:
            return refusal
        left = self._time_limit - timedelta(seconds=monotonic() - began)
        handshake.count()
        report = await send_webhook(self._http, receiver, [*headers, handshake.header], body, left)
        return handshake.slow_down(report)

    def check_credentials(self) -> None:
        """Resolve the receiver; raise CredentialMissingError or UnusableCredentialError."""
        self._receivers.current()

    def endpoint(self) -> Endpoint:
        """Return the receiver's address; raise CredentialMissingError or UnusableCredentialError."""
        receiver = self._receivers.current()
        return Endpoint(receiver.url, receiver.ca)

    async def close(self) -> None:
        """Do nothing: connections belong to the shared GuardedHttp."""
