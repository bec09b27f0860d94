"""The webhooks of one simulated Pipedrive company: who is told what, when again, and when no more.

As Pipedrive's guide for webhooks v2 has it: one POST an event, authorised with HTTP Basic; what is not answered with
2xx within ten seconds comes again after 3, 30 and 150 seconds. Ten first tries that failed ban a webhook for half an
hour, in which events are lost, retries too; three days without success delete it. Only organisations are told of, in
the form of API v2. Time is the simulator's clock: nothing is sent before `deliver` is called.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson

from connectors.pipedrive.simulator_records import Change, RefusedError, iso
from connectors.simulation_sending import is_taken, post

RETRY_SECONDS: Final = (3, 30, 150)
BAN_AFTER: Final = 10
BAN_SECONDS: Final = 1_800
DELETED_AFTER_SECONDS: Final = 3 * 86_400
WEBHOOKS_LIMIT: Final = 40
USER_ID: Final = 1

ACTIONS: Final = frozenset({"create", "change", "delete", "*"})
OBJECTS: Final = frozenset(
    {"activity", "deal", "lead", "note", "organization", "person", "pipeline", "product", "stage", "user", "*"}
)


@dataclass(slots=True)
class Webhook:
    """One subscription; `ban_count` counts first tries that failed."""

    id: int
    company_id: int
    name: str
    url: str
    action: str
    object: str
    user: str | None
    password: str | None
    added_at: float
    succeeded_at: float
    ban_count: int = 0
    banned_until: float = 0.0
    last_status: int | None = None
    last_at: float | None = None

    def wants(self, change: Change) -> bool:
        """Whether an event is of its kind."""
        return self.action in (change.action, "*") and self.object in ("organization", "*")

    def shown(self) -> dict[str, Any]:
        """Write it as an answer shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "company_id": self.company_id,
            "owner_id": USER_ID,
            "user_id": USER_ID,
            "event_action": self.action,
            "event_object": self.object,
            "subscription_url": self.url,
            "version": "2.0",
            "is_active": 1,
            "type": "general",
            "http_auth_user": self.user,
            "http_auth_password": self.password,
            "add_time": iso(self.added_at),
            "last_delivery_time": None if self.last_at is None else iso(self.last_at),
            "last_http_status": self.last_status,
        }


@dataclass(slots=True)
class Message:
    """An event on its way to a webhook; `attempt` begins with 1."""

    webhook_id: int
    body: dict[str, Any]
    due_at: float
    attempt: int = 1


@dataclass(slots=True)
class Webhooks:
    """All webhooks of a company; `answer_seconds` is how long a receiver may take."""

    company_id: int
    clock: Callable[[], float]
    answer_seconds: float = 10.0
    webhooks: dict[int, Webhook] = field(default_factory=dict)
    statuses: list[int | None] = field(default_factory=list)
    """What receivers have answered, None if nothing in time."""
    lost: int = 0
    """Messages that are not sent any more."""
    _messages: list[Message] = field(default_factory=list)
    _last_id: int = 0
    _last_event: int = 0

    def add(self, asked: Mapping[str, Any]) -> Webhook:
        """Add a webhook; raise RefusedError if it is not right or one too many."""
        name, url, action, about = (
            asked.get(each) for each in ("name", "subscription_url", "event_action", "event_object")
        )
        if not isinstance(name, str) or not name:
            raise RefusedError(400, "name is required")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise RefusedError(400, "subscription_url must be a valid URL")
        if action not in ACTIONS or about not in OBJECTS or asked.get("version", "2.0") != "2.0":
            raise RefusedError(400, "event_action or event_object is not known, or version is not 2.0")
        if len(self.webhooks) >= WEBHOOKS_LIMIT:
            raise RefusedError(422, "the maximum number of webhooks is reached")
        self._last_id += 1
        user, password, now = asked.get("http_auth_user"), asked.get("http_auth_password"), self.clock()
        added = Webhook(self._last_id, self.company_id, name, url, action, about, user, password, now, now)
        self.webhooks[added.id] = added
        return added

    def remove(self, id_: int) -> None:
        """Remove a webhook; raise RefusedError if there is none."""
        if self.webhooks.pop(id_, None) is None:
            raise RefusedError(404, "webhook not found")

    def notice(self, change: Change) -> None:
        """Remember an event for all webhooks that want it."""
        self._last_event += 1
        for each in self.webhooks.values():
            if each.wants(change):
                self._messages.append(Message(each.id, self._body(each, change), self.clock()))

    async def deliver(self) -> None:
        """Send everything that is due, once, and delete webhooks that nobody answers."""
        now = self.clock()
        due = [each for each in self._messages if each.due_at <= now]
        self._messages = [each for each in self._messages if each.due_at > now]
        for message in due:
            webhook = self.webhooks.get(message.webhook_id)
            if webhook is None or now < webhook.banned_until:
                self.lost += 1
            else:
                await self._send(webhook, message)
        for webhook in tuple(self.webhooks.values()):
            failed = webhook.last_at is not None and not is_taken(webhook.last_status)
            if failed and now - webhook.succeeded_at >= DELETED_AFTER_SECONDS:
                del self.webhooks[webhook.id]

    async def _send(self, webhook: Webhook, message: Message) -> None:
        message.body["meta"]["attempt"] = message.attempt
        webhook.last_at = self.clock()
        status = await post(webhook.url, orjson.dumps(message.body), _authorization(webhook), self.answer_seconds)
        webhook.last_status = status
        self.statuses.append(status)
        if is_taken(status):
            webhook.succeeded_at = webhook.last_at
            return
        if message.attempt == 1:
            self._count_failure(webhook)
        if message.attempt > len(RETRY_SECONDS):
            self.lost += 1
            return
        message.due_at = self.clock() + RETRY_SECONDS[message.attempt - 1]
        message.attempt += 1
        self._messages.append(message)

    def _count_failure(self, webhook: Webhook) -> None:
        webhook.ban_count += 1
        if webhook.ban_count >= BAN_AFTER:
            webhook.ban_count = 0
            webhook.banned_until = self.clock() + BAN_SECONDS

    def _body(self, webhook: Webhook, change: Change) -> dict[str, Any]:
        meta = {
            "action": change.action,
            "entity": "organization",
            "entity_id": str(change.id),
            "company_id": str(self.company_id),
            "correlation_id": str(UUID(int=self._last_event)),
            "id": str(UUID(int=self._last_event)),
            "is_bulk_edit": False,
            "timestamp": iso(change.at),
            "type": "general",
            "user_id": str(USER_ID),
            "version": "2.0",
            "webhook_id": str(webhook.id),
            "webhook_owner_id": str(USER_ID),
            "change_source": "api" if change.by_api else "app",
            "host": "simulated.pipedrive.example",
            "permitted_user_ids": [str(USER_ID)],
            **change.merged,
        }
        return {"meta": meta, "data": change.data, "previous": change.previous}


def _authorization(webhook: Webhook) -> dict[str, str]:
    if webhook.user is None and webhook.password is None:
        return {}
    pair = base64.b64encode(f"{webhook.user or ''}:{webhook.password or ''}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}
