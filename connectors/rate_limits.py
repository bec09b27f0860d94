"""What a partner says of its rate limits in the headers of an answer, read without trust.

Known are the fields of the IETF draft in the forms that servers send (`RateLimit: "burst";r=0;t=30` with
`RateLimit-Policy: "burst";q=100;w=60` of draft 8 and later, `RateLimit: limit=100, remaining=0, reset=30` of draft 7,
`RateLimit-Remaining` and `RateLimit-Reset` of the drafts before), and `X-RateLimit-Remaining` with `X-RateLimit-Reset`,
whose value is seconds to wait with some vendors and a moment since 1970 with others. A standard field hides the
others. Nothing in them may raise or overflow; what cannot be read is as if it were not there.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from connectors.retry_after import RETRY_AFTER_LIMIT, parse_date

Header = Callable[[str], str | None]
"""Returns the value of a header."""

_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)
_NUMBER = re.compile(r"([0-9]{1,16})(?:\.[0-9]*)?", re.ASCII)

_MOMENT_IN_MILLISECONDS: Final = 100_000_000_000
_MOMENT_IN_SECONDS: Final = 1_000_000_000
"""From this number on a reset is a moment and no wait: 30 years would be longer than any limit's window."""


def wait_for_budget(header: Header, now: datetime, *, refused: bool = False) -> timedelta | None:
    """Return how long the budget stays used up; None if some is left, or nothing is known of it.

    Of several limits the last one to recover counts. `refused` says that the partner has refused for its limits, so
    that a reset without a remainder means the same. A moment counts from the answer's own `Date`, or else from `now`.
    """
    structured = header("ratelimit")
    if structured is not None:
        return max(_structured(structured, header("ratelimit-policy") or ""), default=None)
    for prefix in ("ratelimit", "x-ratelimit"):
        remaining, reset = _number(header(f"{prefix}-remaining")), header(f"{prefix}-reset")
        if remaining is not None or (refused and reset is not None):
            return _until(reset, header("date"), now) if not remaining else None
    return None


def _structured(value: str, policy: str) -> Iterator[timedelta]:
    """Give the wait of each limit that is used up."""
    members = [_member(text) for text in value.split(",")]
    if any("remaining" in parameters for _, parameters in members):  # draft 7: one limit, spread over the members
        together = {name: number for _, parameters in members for name, number in parameters.items()}
        members = [("", {"r": together["remaining"], **({"t": together["reset"]} if "reset" in together else {})})]
    windows = {name: parameters["w"] for name, parameters in map(_member, policy.split(",")) if "w" in parameters}
    for name, parameters in members:
        seconds = parameters.get("t", windows.get(name))
        if parameters.get("r") == 0 and seconds is not None:
            yield _wait(seconds)


def _member(text: str) -> tuple[str, dict[str, int]]:
    """Read `"name";r=0;t=30`, or `remaining=0`."""
    name, *parameters = (part.strip() for part in text.split(";"))
    pairs = (part.partition("=") for part in (parameters if name.startswith('"') else [name, *parameters]))
    numbers = ((key.strip(), value.strip()) for key, _, value in pairs)
    return name, {key: int(value) for key, value in numbers if _WHOLE.fullmatch(value)}


def _until(reset: str | None, date: str | None, now: datetime) -> timedelta | None:
    number = _number(reset)
    if number is None:
        return None
    if number < _MOMENT_IN_SECONDS:
        return _wait(number)
    seconds = number / 1000 if number >= _MOMENT_IN_MILLISECONDS else number
    answered = parse_date(date) or now
    return _wait(max(0.0, seconds - answered.timestamp()))


def _number(value: str | None) -> int | None:
    match = None if value is None else _NUMBER.fullmatch(value.strip())
    return None if match is None else int(match[1])


def _wait(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, RETRY_AFTER_LIMIT.total_seconds()))
