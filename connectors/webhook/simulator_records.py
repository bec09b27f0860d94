"""What a simulated webhook receiver remembers, so that loss, repetition and order can be proven from outside.

A delivery is *accepted* when the receiver answered with a success, whether or not the sender saw it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import unquote

import orjson


@dataclass(frozen=True, slots=True)
class Event:
    """The event in a request, in whichever format it came."""

    event_id: str
    type: str
    subject: str


@dataclass(slots=True)
class Arrival:
    """All requests with one webhook-id.

    `sequence` is the place of the first of them among all first arrivals. `statuses` has what each was answered with,
    None for no answer. `same_body` is false once two bodies under this id differed.
    """

    sequence: int
    message_id: str
    event: Event
    digest: str
    received_at: list[float] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    accepted: int = 0
    same_body: bool = True


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one endpoint: requests received and refused, ids seen and accepted, and acceptances beyond the first.

    `refused` requests had no valid signature, and are not otherwise remembered.
    """

    received: int
    refused: int
    unique: int
    accepted: int
    repeats: int
    changed: int


class Records:
    """The deliveries of one endpoint."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self.order: dict[str, list[str]] = {}
        self._received = 0
        self._refused = 0

    def note_refused(self) -> None:
        """Count a request without a valid signature."""
        self._received += 1
        self._refused += 1

    def note(self, message_id: str, event: Event, body: bytes, at: float, status: int | None) -> None:
        """Remember a verified request and what it is answered with."""
        self._received += 1
        digest = sha256(body).hexdigest()
        arrival = self.arrivals.get(message_id)
        if arrival is None:
            arrival = self.arrivals[message_id] = Arrival(len(self.arrivals), message_id, event, digest)
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
        )


def read_event(headers: Mapping[str, str], body: bytes) -> Event:
    """Find the event in a request of any of the three formats; missing parts are empty."""
    if "ce-id" in headers:
        return Event(headers["ce-id"], headers.get("ce-type", ""), unquote(headers.get("ce-subject", "")))
    document = orjson.loads(body)
    if not isinstance(document, dict):
        return Event("", "", "")
    return Event(*(str(document.get(name, "")) for name in ("id", "type", "subject")))
