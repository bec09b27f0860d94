"""The webhooks of one simulated HubSpot app: what it subscribes to, what is sent, and when again.

As HubSpot's webhooks guide has it: arrays of up to 100 events, answered with 2xx within five seconds or sent again, up
to ten times in 24 hours; no order, and twice now and then. HubSpot does not say how its ten tries are spread; here
they grow apart and end with the day. Time is the simulator's clock: nothing is sent before `deliver` is called.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from connectors.hubspot import simulator_signatures as signatures
from connectors.hubspot.simulator_records import TYPES, Change
from connectors.simulation_sending import is_taken, post

EVENTS_LIMIT: Final = 100
RETRY_SECONDS: Final = (60, 300, 900, 1_800, 3_600, 7_200, 10_800, 14_400, 21_600, 25_740)
"""Time before each further try; 24 hours in all."""

_SINGULAR: Final = {"companies": "company", "contacts": "contact", "notes": "note", "tasks": "task"}

Event = dict[str, Any]


class Subscription(BaseModel):
    """What an app wants to hear of: `company.propertyChange`, or `object.propertyChange` of an object type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: int
    type: str = Field(pattern=r"^[a-z]+\.(creation|propertyChange|deletion|merge)$")
    property_name: str | None = None
    object_type_id: str | None = None

    def wants(self, change: Change) -> bool:
        """Whether a change is of its kind."""
        subject, _, kind = self.type.partition(".")
        record_type = change.record.type
        is_subject = (
            self.object_type_id == TYPES[record_type] if subject == "object" else subject == _SINGULAR[record_type]
        )
        return is_subject and kind == change.kind and self.property_name in (None, change.name)


class App(BaseModel):
    """An app that HubSpot calls; `disorder` is the seed by which events are shuffled, None keeps them in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_id: int
    secret: str
    target_url: str
    subscriptions: tuple[Subscription, ...] = ()
    legacy_version: Literal["v1", "v2"] = "v1"
    """Which signature goes beside that of v3."""
    sends_twice: bool = False
    disorder: int | None = None
    answer_seconds: float = 5.0


@dataclass(slots=True)
class Batch:
    """Events that are sent together, `attempt` times so far."""

    events: list[Event]
    due_at: float
    attempt: int = 0


@dataclass(slots=True)
class Webhooks:
    """Tells one app of the changes in one account."""

    app: App
    portal_id: int
    clock: Callable[[], float]
    statuses: list[int | None] = field(default_factory=list)
    """What the app has answered, None if nothing in time."""
    given_up: int = 0
    """Batches that are not sent any more."""
    _new: list[Event] = field(default_factory=list)
    _batches: list[Batch] = field(default_factory=list)
    _events: int = 0

    def notice(self, change: Change) -> None:
        """Remember a change for all subscriptions that want it."""
        self._new += [self._event(each, change) for each in self.app.subscriptions if each.wants(change)]

    async def deliver(self) -> None:
        """Send everything that is due, once."""
        self._batches += self._taken()
        now = self.clock()
        due = [each for each in self._batches if each.due_at <= now]
        self._batches = [each for each in self._batches if each.due_at > now]
        for batch in due:
            await self._send(batch)

    def _taken(self) -> Iterable[Batch]:
        events, self._new = self._new, []
        if self.app.sends_twice:
            events = [*events, *(dict(each) for each in events)]
        if self.app.disorder is not None:
            # Chance is the test's: no secret depends on it.
            Random(self.app.disorder).shuffle(events)  # noqa: S311
        now = self.clock()
        return [Batch(events[at : at + EVENTS_LIMIT], now) for at in range(0, len(events), EVENTS_LIMIT)]

    async def _send(self, batch: Batch) -> None:
        body = orjson.dumps([{**each, "attemptNumber": batch.attempt} for each in batch.events])
        status = await post(self.app.target_url, body, self._headers(body), self.app.answer_seconds)
        self.statuses.append(status)
        if is_taken(status):
            return
        if batch.attempt >= len(RETRY_SECONDS):
            self.given_up += 1
            return
        again_at = self.clock() + RETRY_SECONDS[batch.attempt]
        self._batches.append(Batch(batch.events, again_at, batch.attempt + 1))

    def _headers(self, body: bytes) -> dict[str, str]:
        app, now = self.app, int(self.clock() * 1000)
        legacy = (
            signatures.v1(app.secret, body)
            if app.legacy_version == "v1"
            else signatures.v2(app.secret, "POST", app.target_url, body)
        )
        return {
            "X-HubSpot-Signature": legacy,
            "X-HubSpot-Signature-Version": app.legacy_version,
            "X-HubSpot-Signature-v3": signatures.v3(app.secret, "POST", signatures.decoded(app.target_url), body, now),
            "X-HubSpot-Request-Timestamp": str(now),
        }

    def _event(self, subscription: Subscription, change: Change) -> Event:
        self._events += 1
        event: Event = {
            "eventId": self._events,
            "subscriptionId": subscription.id,
            "portalId": self.portal_id,
            "appId": self.app.app_id,
            "occurredAt": int(change.at * 1000),
            "subscriptionType": subscription.type,
            "objectId": int(change.record.id),
            "changeSource": "INTEGRATION" if change.by_app else "CRM_UI",
            "sourceId": str(self.app.app_id) if change.by_app else "userId:1",
        }
        if subscription.type.startswith("object."):
            event["objectTypeId"] = TYPES[change.record.type]
        return event | _details(change)


def _details(change: Change) -> Event:
    match change.kind:
        case "propertyChange":
            return {"propertyName": change.name, "propertyValue": change.value}
        case "merge":
            return {
                "primaryObjectId": int(change.record.id),
                "mergedObjectIds": _numbers(change.merged),
                "newObjectId": int(change.record.id),
            }
        case _:
            return {}


def _numbers(ids: Sequence[str]) -> list[int]:
    return [int(each) for each in ids]
