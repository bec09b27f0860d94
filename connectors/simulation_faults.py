"""How a simulated partner misbehaves: a script of faults, each played a number of times.

When the script has ended the receiver is well again. Faults are data, so that another process can set them as JSON.
"""

import asyncio
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.simulation import Exchange

METADATA_ADDRESS: Final = "http://169.254.169.254/latest/meta-data/"

AnswerStatus = Annotated[int, Field(ge=200, le=599)]

_CHUNK = b"x" * 65_536
_SETTLE_SECONDS = 0.05
"""How long a head may travel before the connection is reset, since a reset overtakes what is on its way."""


class _Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    times: Annotated[int, Field(ge=1)] | None = 1
    """How many deliveries it befalls; None for all that come."""


class Status(_Fault):
    """Answer with a status, asking for patience if wanted."""

    kind: Literal["status"] = "status"
    status: AnswerStatus
    body: str = ""
    headers: dict[str, str] = {}
    retry_after_seconds: int | None = None
    retry_after_as_date: bool = False

    async def play(self, exchange: Exchange) -> None:
        """Answer."""
        await exchange.respond(self.status, self._all_headers(), self.body.encode())

    def _all_headers(self) -> dict[str, str]:
        if self.retry_after_seconds is None:
            return self.headers
        now = datetime.now(UTC)
        moment = format_datetime(now + timedelta(seconds=self.retry_after_seconds), usegmt=True)
        wait = moment if self.retry_after_as_date else str(self.retry_after_seconds)
        return {"Date": format_datetime(now, usegmt=True), **self.headers, "Retry-After": wait}


class Delay(_Fault):
    """Accept, but late."""

    kind: Literal["delay"] = "delay"
    status: Literal[200] = 200
    seconds: Annotated[float, Field(ge=0)]

    async def play(self, exchange: Exchange) -> None:
        """Answer after the delay."""
        await asyncio.sleep(self.seconds)
        await exchange.respond(self.status)


class Hang(_Fault):
    """Take the request and never answer."""

    kind: Literal["hang"] = "hang"
    status: None = None

    async def play(self, exchange: Exchange) -> None:
        """Wait until the client gives up."""
        await exchange.wait_until_closed()


class Reset(_Fault):
    """Break the connection before any answer."""

    kind: Literal["reset"] = "reset"
    status: None = None

    async def play(self, exchange: Exchange) -> None:
        """Reset the connection."""
        exchange.reset()


class ResetInBody(_Fault):
    """Break the connection in the middle of an answer's body."""

    kind: Literal["reset-in-body"] = "reset-in-body"
    status: AnswerStatus = 200

    async def play(self, exchange: Exchange) -> None:
        """Answer in part, then reset the connection."""
        await exchange.begin(self.status, {"Content-Length": "1000"})
        await exchange.write(b"half an answer")
        await asyncio.sleep(_SETTLE_SECONDS)
        exchange.reset()


class Drip(_Fault):
    """Answer with a body that comes byte by byte and does not end."""

    kind: Literal["drip"] = "drip"
    status: AnswerStatus = 200
    interval_seconds: Annotated[float, Field(gt=0)] = 0.05

    async def play(self, exchange: Exchange) -> None:
        """Send a byte, wait, and so on until the client gives up."""
        await exchange.begin(self.status, {})
        while True:
            await exchange.write(b"x")
            await asyncio.sleep(self.interval_seconds)


class Huge(_Fault):
    """Answer with a body of many bytes."""

    kind: Literal["huge"] = "huge"
    status: AnswerStatus = 200
    size: Annotated[int, Field(ge=1)] = 50_000_000

    async def play(self, exchange: Exchange) -> None:
        """Send all of it, as far as the client takes it."""
        await exchange.begin(self.status, {"Content-Length": str(self.size)})
        for sent in range(0, self.size, len(_CHUNK)):
            await exchange.write(_CHUNK[: self.size - sent])
        await exchange.end()


class Endless(_Fault):
    """Answer with a body that does not end, as fast as it is taken."""

    kind: Literal["endless"] = "endless"
    status: AnswerStatus = 200

    async def play(self, exchange: Exchange) -> None:
        """Send until the client gives up."""
        await exchange.begin(self.status, {})
        while True:
            await exchange.write(_CHUNK)


class Redirect(_Fault):
    """Send the client elsewhere."""

    kind: Literal["redirect"] = "redirect"
    status: Literal[301, 302, 303, 307, 308] = 307
    location: str = METADATA_ADDRESS

    async def play(self, exchange: Exchange) -> None:
        """Answer with the other address."""
        await exchange.respond(self.status, {"Location": self.location})


class RefuseSignature(_Fault):
    """Say that the signature is wrong, whatever it is."""

    kind: Literal["refuse-signature"] = "refuse-signature"
    status: Literal[401] = 401

    async def play(self, exchange: Exchange) -> None:
        """Answer as for a wrong signature."""
        await exchange.respond_json(self.status, {"error": "the signature is refused"})


Fault = Annotated[
    Status | Delay | Hang | Reset | ResetInBody | Drip | Huge | Endless | Redirect | RefuseSignature,
    Field(discriminator="kind"),
]
"""One way to fail; `status` is what the client can see of it, None if nothing."""


class Script:
    """Faults in the order in which they befall deliveries."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._steps = deque((fault, fault.times) for fault in faults)

    def next_fault(self) -> Fault | None:
        """Take the fault for one delivery; None if all is well."""
        if not self._steps:
            return None
        fault, left = self._steps.popleft()
        if left is None or left > 1:
            self._steps.appendleft((fault, None if left is None else left - 1))
        return fault


@dataclass(slots=True)
class Call:
    """A request as it was received, and what was answered; None if it was not."""

    method: str
    path: str
    body: Any
    status: int | None = None


class Misfortunes:
    """What befalls the requests of one simulated account."""

    def __init__(self) -> None:
        self._plans: list[tuple[re.Pattern[str], Script, bool]] = []

    def befall(self, pattern: str, *faults: Fault, applied: bool = False) -> None:
        """Have faults befall requests whose `METHOD path` the pattern finds; if `applied`, these take effect before."""
        self._plans.append((re.compile(pattern), Script(faults), applied))

    def next_fault(self, call: Call) -> tuple[Fault | None, bool]:
        """Take the fault that befalls a call, and whether the call takes effect all the same."""
        for pattern, script, applied in self._plans:
            if pattern.search(f"{call.method} {call.path}"):
                fault = script.next_fault()
                if fault is not None:
                    return fault, applied
        return None, False
