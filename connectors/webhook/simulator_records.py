"""What a simulated webhook receiver remembers, so that loss, repetition and order can be proven from outside.

A delivery is *accepted* when the receiver answered with a success, whether or not the sender saw it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import unquote

import orjson

BATCH_TYPE: Final = "application/cloudevents-batch+json"


@dataclass(frozen=True, slots=True)
class Event:
    """The event in a request, in whichever format it came."""

    event_id: str
    type: str
    subject: str


@dataclass(frozen=True, slots=True)
class Item:
    """One message of a request: the only one, or one of a batch; `body` is its own part."""

    message_id: str
    event: Event
    body: bytes


@dataclass(slots=True)
class Arrival:
    """All requests with one message.

    `sequence` is the place of the first of them among all first arrivals. `statuses` has what each was answered with,
    None for no answer. `same_body` is false once two bodies under this id differed. `request_id` is the webhook-id of
    the last request, which is another one if that was a batch of several.
    """

    sequence: int
    message_id: str
    event: Event
    digest: str
    received_at: list[float] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    accepted: int = 0
    same_body: bool = True
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one endpoint: requests received and refused, ids seen and accepted, and acceptances beyond the first.

    `batches` are the requests that held several messages, `largest_batch` is the number of them in the largest.
    `refused` requests had no valid signature, and are not otherwise remembered.
    """

    received: int
    refused: int
    unique: int
    accepted: int
    repeats: int
    changed: int
    batches: int = 0
    largest_batch: int = 0


class Records:
    """The deliveries of one endpoint."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self.order: dict[str, list[str]] = {}
        self._received = 0
        self._refused = 0
        self._batches = 0
        self._largest_batch = 0

    def note_refused(self) -> None:
        """Count a request without a valid signature."""
        self._received += 1
        self._refused += 1

    def note(self, request_id: str, items: Sequence[Item], at: float, status: int | None) -> None:
        """Remember a verified request with its messages, and what it is answered with."""
        self._received += 1
        if len(items) > 1:
            self._batches += 1
            self._largest_batch = max(self._largest_batch, len(items))
        for item in items:
            self._note(request_id, item, at, status)

    def _note(self, request_id: str, item: Item, at: float, status: int | None) -> None:
        digest, event = sha256(item.body).hexdigest(), item.event
        arrival = self.arrivals.get(item.message_id)
        if arrival is None:
            arrival = Arrival(len(self.arrivals), item.message_id, event, digest)
            self.arrivals[item.message_id] = arrival
        arrival.request_id = request_id
        arrival.same_body = arrival.same_body and arrival.digest == digest
        arrival.received_at.append(at)
        arrival.statuses.append(status)
        if status is not None and 200 <= status < 300:
            arrival.accepted += 1
            if arrival.accepted == 1:
                self.order.setdefault(event.subject, []).append(event.event_id)

    def stats(self) -> Stats:
        """Count."""
        accepted = [arrival.accepted for arrival in self.arrivals.values() if arrival.accepted]
        return Stats(
            received=self._received,
            refused=self._refused,
            unique=len(self.arrivals),
            accepted=len(accepted),
            repeats=sum(accepted) - len(accepted),
            changed=sum(not arrival.same_body for arrival in self.arrivals.values()),
            batches=self._batches,
            largest_batch=self._largest_batch,
        )


def read_items(headers: Mapping[str, str], body: bytes) -> list[Item]:
    """Find the messages in a request of any format, missing parts are empty; raise ValueError if there are none."""
    message_id = headers["webhook-id"]
    if headers.get("content-type") == BATCH_TYPE:
        return _batch(orjson.loads(body))
    if "ce-id" in headers:
        event = Event(headers["ce-id"], headers.get("ce-type", ""), unquote(headers.get("ce-subject", "")))
    else:
        event = _event(orjson.loads(body))
    return [Item(message_id, event, body)]


def _batch(document: object) -> list[Item]:
    if not (isinstance(document, list) and document and all(isinstance(event, dict) for event in document)):
        raise ValueError("a batch is an array of events")
    return [Item(str(event.get("webhookid", "")), _event(event), orjson.dumps(event)) for event in document]


def _event(document: object) -> Event:
    if not isinstance(document, dict):
        return Event("", "", "")
    return Event(*(str(document.get(name, "")) for name in ("id", "type", "subject")))
