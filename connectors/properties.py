"""What a partner's records have: properties with their kinds, and whether a route's fields fit them.

Partners describe their properties in words of their own; connectors translate them into these, so that one check
serves all. It is made before anything is sent: a property that is not there is told with the nearest that is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final

from connectors.actions import suggestion
from contracts.fields import Value

EXAMPLES_AT_MOST: Final = 8


class Kind(StrEnum):
    """What a property holds."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    CHOICE = "one of several options"
    CHOICES = "some of several options"


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a partner's records.

    `options` are the partner's values of a choice by their label in lower case, and by the value itself.
    """

    name: str
    kind: Kind
    read_only: bool = False
    options: Mapping[str, str] | None = None


class UnfitValueError(ValueError):
    """A value is not what a property holds; the message names property and kinds, and not the value."""


def unfit_fields(names: Iterable[str], properties: Mapping[str, Property]) -> list[str]:
    """Say of each of the names why it cannot be set; empty if all can."""
    problems = []
    for name in names:
        found = properties.get(name)
        if found is None:
            problems.append(f"no property `{name}`{suggestion(name, properties)}")
        elif found.read_only:
            problems.append(f"the property `{name}` is the partner's own and cannot be set")
    return problems


def as_text(value: Value, of: Property) -> str:
    """Return a value as the text that says the same; lists are joined by commas."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case datetime():
            return value.isoformat()
        case list():
            return ", ".join(as_text(each, of) for each in value)
        case _:
            return str(value)


def as_number(value: Value, of: Property) -> int | float:
    """Return a number; text that is one counts."""
    match value:
        case bool():
            pass
        case int() | float() if value == value and abs(value) != float("inf"):
            return value
        case str():
            try:
                return int(value) if value.strip().lstrip("+-").isdecimal() else _finite(value)
            except ValueError:
                pass
    raise _unfit(value, of)


def as_boolean(value: Value, of: Property) -> bool:
    """Return a truth value; the texts true and false count."""
    match value:
        case bool():
            return value
        case str() if value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
    raise _unfit(value, of)


def as_date(value: Value, of: Property) -> date:
    """Return the day of a time, or of text in the form of ISO 8601."""
    match value:
        case datetime():
            return value.date()
        case str():
            try:
                return datetime.fromisoformat(value.strip()).date()
            except ValueError:
                pass
    raise _unfit(value, of)


def as_time(value: Value, of: Property) -> datetime:
    """Return an aware time; text is read as ISO 8601, without a zone as UTC."""
    match value:
        case datetime():
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        case str():
            try:
                read = datetime.fromisoformat(value.strip())
            except ValueError:
                pass
            else:
                return read if read.tzinfo else read.replace(tzinfo=UTC)
    raise _unfit(value, of)


def as_options(value: Value, of: Property) -> Sequence[str]:
    """Return the partner's values of options that are named by value or by label, in upper or lower case."""
    named = value if isinstance(value, list) else [value]
    if of.kind is Kind.CHOICE and len(named) != 1:
        raise _unfit(value, of)
    return [_option(as_text(each, of).strip(), of) for each in named]


def _option(name: str, of: Property) -> str:
    options = of.options or {}
    found = options.get(name, options.get(name.lower()))
    if found is None:
        shown = ", ".join(sorted(set(options.values()))[:EXAMPLES_AT_MOST])
        raise UnfitValueError(f"the property `{of.name}` has no such option; it has {shown}")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if number != number or abs(number) == float("inf"):
        raise ValueError("no number that a partner knows")
    return number


def _unfit(value: Value, of: Property) -> UnfitValueError:
    return UnfitValueError(f"the property `{of.name}` holds {of.kind}; a {type(value).__name__} does not fit")
