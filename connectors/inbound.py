"""What comes in from partners: requests, the proof of who sent them, and the changes that they tell of.

A connector's part is pure: it looks at bytes, headers and secrets, and calls nobody. A request counts only when one of
its verifiers has proven it, over the raw bytes as they came. Why a proof failed is for our own metrics and records;
the sender of a request that proves nothing is told nothing.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from pydantic import ValidationError

TIME_WINDOW_SECONDS: Final = 300.0
"""How far a signed time may be from ours, on both sides: HubSpot's rule, and what Standard Webhooks' libraries do."""


LONGEST_PROOF: Final = 8_192
"""Characters of a header that proves something; what is longer is not looked at."""


class InboundRequest(NamedTuple):
    """A request as it came. Header names are lower-case, and none came twice.

    `url` is the address that the sender called: behind a proxy the public one, as it is configured, with path and
    query as they came. `received_at` is in seconds since 1970.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    received_at: float


class Doubt(StrEnum):
    """Why a request proves nothing."""

    NO_PROOF = "NoProof"
    """The headers that prove are not there."""
    MALFORMED = "Malformed"
    """They are there and cannot be read."""
    STALE = "Stale"
    """Signed longer ago than the window allows, or the sender's clock is behind."""
    PREMATURE = "Premature"
    """Signed in what is our future: the clocks differ."""
    WRONG = "Wrong"
    """What they say does not follow from a secret of the connection."""


class UnprovenError(Exception):
    """A request that proves nothing. The message names no value of it."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(f"the request is not proven: {doubt.value}")
        self.doubt = doubt


class Proof(NamedTuple):
    """How a request was proven.

    `once` is what may be taken only once within the time window, such as a signature: whoever sends the same again
    repeats a request that was overheard, or did not hear our answer. Schemes without a time have none: their repeats
    are found by the events' own keys.
    """

    scheme: str
    once: str | None = None


class Verifier(Protocol):
    """Proves requests by one scheme and the present secrets of a connection."""

    def verify(self, request: InboundRequest) -> Proof:
        """Return how it was proven; raise UnprovenError."""


class ChangeKind(StrEnum):
    """What happened to a record at the partner."""

    CREATED = "Created"
    CHANGED = "Changed"
    DELETED = "Deleted"
    MERGED = "Merged"


class InboundChange(NamedTuple):
    """One thing that happened to one company at the partner.

    `key` is the same however often the partner tells of it, and different for everything else in one connection.
    `remote_id` is the partner's id of the company; of one that was merged away, `into` is where it went. A change has
    the property's name and what it is now, as text; null if it was emptied. `occurred_at` is the partner's time, in
    seconds since 1970. An `echo` is our own writing that comes back.
    """

    key: str
    kind: ChangeKind
    remote_id: str
    occurred_at: float
    property: str | None = None
    value: str | None = None
    into: str | None = None
    echo: bool = False


class Told(NamedTuple):
    """What a request tells: changes of companies, and how many events are about something else."""

    changes: Sequence[InboundChange]
    other: int = 0


class UnreadableError(Exception):
    """A proven request whose body is not what the partner documents; the message says where, and holds no value."""


def check_time(signed_at: float, received_at: float) -> None:
    """Raise UnprovenError if a signed time is outside the window; NaN is outside of it, too."""
    if not signed_at >= received_at - TIME_WINDOW_SECONDS:
        raise UnprovenError(Doubt.STALE)
    if not signed_at <= received_at + TIME_WINDOW_SECONDS:
        raise UnprovenError(Doubt.PREMATURE)


def header(request: InboundRequest, name: str) -> str:
    """Return a header that a proof needs; raise UnprovenError."""
    value = request.headers.get(name)
    if value is None:
        raise UnprovenError(Doubt.NO_PROOF)
    if len(value) > LONGEST_PROOF:
        raise UnprovenError(Doubt.MALFORMED)
    return value


def unreadable(what: str, error: ValidationError) -> UnreadableError:
    """Say of a body what is first wrong in it, without any value."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(each) for each in first["loc"]) or "the body"
    return UnreadableError(f"{what}: {place}: {first['type']}")


def text_of(value: object) -> str | None:
    """Write the value of a property as text; null if there is nothing in it."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or value == "" else str(value)
