"""Delivers events to Postbox.

A message is put under the delivery's message id, so it is there once however often it is put.
"""

from typing import ClassVar

import orjson

from connectors.api_client import ApiAnswer, ApiClient, AttemptEndedError, Deadline
from connectors.authorization import StaticAuthorization
from connectors.connector import Action, Connection, Delivery, Endpoint, Finding
from connectors.context import ConnectorContext
from connectors.errors import UnusableCredentialError
from contracts.connection import PluginConnectionSpec
from contracts.outcomes import AuthRevoked, Delivered, Gone, Invalid, Outcome, RateLimited, Report, Transient
from postbox_connector.settings import PostboxSettings


class PostboxConnector:
    """Delivers to one account."""

    actions: ClassVar[tuple[Action, ...]] = (Action("PutMessage", ("*",), "Put the event into the box."),)
    settings: ClassVar[type[PostboxSettings]] = PostboxSettings

    def __init__(self, connection: Connection, context: ConnectorContext) -> None:
        spec = connection.spec
        if not isinstance(spec, PluginConnectionSpec):
            raise TypeError(f"connection {connection.namespace}/{connection.name} is not one to Postbox")
        token = spec.plugin.secret("token")
        if token is None:
            raise UnusableCredentialError("spec.plugin.secretsFrom has no entry named token")
        self._url = PostboxSettings.model_validate(spec.plugin.settings).url
        self._timeout = spec.delivery.timeout
        self._clock = context.clock
        self._authorization = StaticAuthorization(context.credentials, token)
        self._api = ApiClient(context.http, self._url, self._authorization)

    async def send(self, delivery: Delivery) -> Report:
        """Put one event into the box."""
        message = {"type": delivery.type, "subject": delivery.subject, "data": orjson.loads(delivery.data)}
        try:
            answer = await self._api.call("PUT", f"/messages/{delivery.message_id}", Deadline(self._timeout), message)
        except AttemptEndedError as error:
            return error.report
        return answer.report(self._outcome(answer))

    def check_credentials(self) -> None:
        """Read the token."""
        self._authorization.check()

    def endpoint(self) -> Endpoint:
        """Return where Postbox is."""
        self.check_credentials()
        return Endpoint(self._url)

    async def check_account(self) -> list[Finding]:
        """Ask who we are there."""
        advice = "See that the token is valid."
        try:
            answer = await self._api.call("GET", "/account", Deadline(self._timeout))
        except AttemptEndedError as error:
            return [Finding("account", error.report.detail, advice)]
        if not answer.is_success:
            return [Finding("account", answer.detail, advice)]
        return [Finding("account", str(answer.document["name"]))]

    async def close(self) -> None:
        """Do nothing: sockets belong to the guarded way out."""

    def _outcome(self, answer: ApiAnswer) -> Outcome:
        wait = answer.retry_after(self._clock())
        match answer.status:
            case status if 200 <= status < 300:
                return Delivered()
            case 401 | 403:
                return AuthRevoked()
            case 410:
                return Gone()
            case 429:
                return RateLimited(wait)
            case status if 400 <= status < 500:
                return Invalid()
            case _:
                return Transient(wait)
