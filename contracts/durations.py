"""Durations as people write them in manifests: `15s`, `1h30m`, `250ms`.

The notation is the one of the Kubernetes Gateway API (GEP-2257): one to four numbers of at most five digits, each
with a unit of h, m, s or ms. It is the part of Go's notation that means the same everywhere and survives a round
trip: no sign, no fraction, nothing finer than a millisecond.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from contracts.errors import MalformedDurationError

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
"""The notation as a regular expression, for schemas."""

DURATION_BOUNDS = "x-duration-bounds"
"""Where the JSON Schema of a bounded duration keeps the shortest and the longest that are allowed."""

_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}", re.ASCII)
_TERM = re.compile(r"([0-9]+)(h|ms|m|s)", re.ASCII)
_MILLISECOND = timedelta(milliseconds=1)
_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_LIMIT = timedelta(hours=100_000)


def parse_duration(text: str) -> timedelta:
    """Read a duration; raise MalformedDurationError for anything else."""
    if not _DURATION.fullmatch(text):
        raise MalformedDurationError(
            "a duration is one to four numbers with a unit of h, m, s or ms, such as 15s, 1h30m or 250ms"
        )
    return sum((int(number) * _UNITS[unit] for number, unit in _TERM.findall(text)), start=0) * _MILLISECOND


def format_duration(duration: timedelta) -> str:
    """Write a duration in its shortest form, largest unit first; raise MalformedDurationError if it has none."""
    milliseconds, finer = divmod(duration, _MILLISECOND)
    if finer or not timedelta(0) <= duration < _LIMIT:
        raise MalformedDurationError(
            "a duration is a whole number of milliseconds, not negative and less than 100000h; "
            f"{duration.total_seconds()} seconds cannot be written"
        )
    terms = []
    for unit, size in _UNITS.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            terms.append(f"{count}{unit}")
    return "".join(terms) or "0s"


@dataclass(frozen=True, slots=True)
class DurationBounds:
    """Bounds for a Duration field, both inclusive: `Annotated[Duration, DurationBounds("1s", "24h")]`."""

    minimum: str
    maximum: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the bounds after the duration has been read."""
        lowest, highest = parse_duration(self.minimum), parse_duration(self.maximum)

        def check(duration: timedelta) -> timedelta:
            if not lowest <= duration <= highest:
                raise MalformedDurationError(f"a duration from {self.minimum} to {self.maximum} is allowed here")
            return duration

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Name the bounds: JSON Schema has no word for them, but what is made from the schema needs them."""
        return handler(source) | {DURATION_BOUNDS: (self.minimum, self.maximum)}


def _read(value: object) -> timedelta:
    """Take what a manifest or our own code gives; refuse what could not be written back."""
    match value:
        case str():
            return parse_duration(value)
        case timedelta():
            return parse_duration(format_duration(value))
        case _:
            raise MalformedDurationError("a duration is text with a unit, such as 15s, 1h30m or 250ms")


Duration = Annotated[
    timedelta,
    BeforeValidator(_read),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "maxLength": 32, "pattern": DURATION_PATTERN}),
]
"""A timedelta in Python, text such as `1h30m` on the wire."""
