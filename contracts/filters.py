"""Route filters: CEL over one event, compiled once.

The expression sees `event` with `type`, `subject`, `tenant` and `data`. Anything but true or false is a failure of
that one job, never of the dispatcher.
"""

from typing import Any

import cel

DETAIL_LIMIT = 500

_NOT_A_BOOLEAN = "not true or false"
_UNKNOWN_NAME = "Undefined variable or function"  # the library's words


class InvalidFilterError(ValueError):
    """The expression does not compile; the message says where."""


class FilterFailedError(Exception):
    """The expression failed on one event; the message quotes no event data beyond what CEL itself reports."""


def check_filter(expression: str) -> None:
    """Raise InvalidFilterError for an expression that fails whatever the event is.

    CEL finds an unknown name only when it comes to it, so the expression is tried on an event without data. That it
    misses fields there says nothing; a name that CEL does not know, or an answer that is not a boolean, does.
    """
    compiled = Filter(expression)
    try:
        compiled.matches({"type": "", "subject": "", "tenant": "", "data": {}})
    except FilterFailedError as error:
        if _NOT_A_BOOLEAN in str(error) or _UNKNOWN_NAME in str(error):
            raise InvalidFilterError(str(error)) from error


class Filter:
    """A compiled filter."""

    __slots__ = ("_program",)

    def __init__(self, expression: str) -> None:
        try:
            self._program = cel.compile(expression)
        except ValueError as error:
            raise InvalidFilterError(
                f"the filter does not compile: {str(error).splitlines()[0][:DETAIL_LIMIT]}"
            ) from error

    def matches(self, event: dict[str, Any]) -> bool:
        """Evaluate against `{"type": …, "subject": …, "tenant": …, "data": {…}}`; raise FilterFailedError."""
        try:
            result = self._program.execute({"event": event})
        # The binding raises ValueError, TypeError, KeyError, RuntimeError and ArithmeticError by kind of failure.
        except Exception as error:
            raise FilterFailedError(f"{type(error).__name__}: {str(error)[:DETAIL_LIMIT]}") from error
        if isinstance(result, bool):
            return result
        raise FilterFailedError(f"the filter answered {type(result).__name__}, {_NOT_A_BOOLEAN}")
