"""What a route sets a partner's properties to: CEL over one event, compiled once.

The expressions see `event` as filters do, with `type`, `subject`, `tenant` and `data`. Null means that the property is
to be cleared. A field that the event does not have, or an item beyond the end of a list, means that the property is to
be left alone; anything else that fails makes this one item invalid, never the connection.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import cel

from contracts.delivery_spec import FieldEntry

Value = str | bool | int | float | datetime | list[Any] | None
"""What an expression may come to; the items of a list are single values. None clears the property."""

_REASON_LIMIT = 200


class InvalidFieldError(ValueError):
    """An expression does not compile, or fails whatever the event is."""


class FieldFailedError(Exception):
    """An expression failed on one event; the message names the property and quotes no data."""


def _trim(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _join(values: object, separator: object) -> object:
    return str(separator).join(map(str, values)) if isinstance(values, list) else values


FUNCTIONS: Final[Mapping[str, Callable[..., object]]] = {
    "trim": _trim,
    "lowerAscii": _lower,
    "upperAscii": _upper,
    "join": _join,
}
"""What expressions may call beside CEL's own functions, as `event.data.name.trim()`.

They return what they cannot work on as it is: the library writes the failures of functions to standard error, and with
them what might be a customer's.
"""


def check_field(expression: str) -> None:
    """Raise InvalidFieldError for an expression that fails whatever the event is, as far as that can be said."""
    program = _compiled(expression)
    try:
        program.execute(_context({"type": "", "subject": "", "tenant": "", "data": {}}))
    except RuntimeError as error:
        # CEL finds an unknown name only when it comes to it, hence the event without data.
        raise InvalidFieldError(_reason(error)) from error
    except Exception:  # noqa: BLE001, S110 -- whatever fails for want of data says nothing of the expression
        pass


class FieldMapping:
    """The compiled expressions of one route."""

    __slots__ = ("_programs",)

    def __init__(self, fields: Sequence[FieldEntry]) -> None:
        self._programs = [(field.property, _compiled(field.value)) for field in fields]

    @property
    def properties(self) -> list[str]:
        """The properties that are mapped."""
        return [name for name, _ in self._programs]

    def evaluate(self, event: Mapping[str, object]) -> dict[str, Value]:
        """Return what is to be set, from `{"type": …, "subject": …, "tenant": …, "data": {…}}`.

        What is missing in the answer is to be left alone. Raise FieldFailedError.
        """
        context = _context(event)
        values: dict[str, Value] = {}
        for name, program in self._programs:
            try:
                value = program.execute(context)
            except (KeyError, IndexError):
                continue
            # The binding raises ValueError, TypeError, RuntimeError and ArithmeticError by kind of failure.
            except Exception as error:
                raise FieldFailedError(
                    f"the value of the property {name} failed with {type(error).__name__}"
                ) from error
            if not _is_value(value):
                raise FieldFailedError(
                    f"the value of the property {name} is a {type(value).__name__}; "
                    "text, numbers, booleans, times, lists of them and null are allowed"
                )
            values[name] = value
        return values


def _context(event: Mapping[str, object]) -> cel.Context:
    return cel.Context(variables={"event": event}, functions=dict(FUNCTIONS))


def _compiled(expression: str) -> cel.Program:
    try:
        return cel.compile(expression)
    except ValueError as error:
        raise InvalidFieldError(f"the expression does not compile: {_reason(error)}") from error


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(each is not None and not isinstance(each, list) and _is_value(each) for each in value)
    return value is None or isinstance(value, str | bool | int | float | datetime)


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:_REASON_LIMIT]
