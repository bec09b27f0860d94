"""Event type names, and the patterns over them by which a route selects events.

A pattern is an exact name (`company.updated`), a prefix (`company.*`: everything below it at any depth, but not the
prefix itself), or `*`.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

EVENT_TYPE_LIMIT = 128
"""Characters that an event type, and a pattern over types, may have."""

EVENT_TYPE = r"^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+$"
"""Two or more words joined by dots; a word is lower-case letters, digits, `_` and `-`, beginning with a letter."""

EVENT_TYPE_PATTERN = r"^(\*|[a-z][a-z0-9_-]*((\.[a-z][a-z0-9_-]*)+|(\.[a-z][a-z0-9_-]*)*\.\*))$"
"""An event type, a prefix of whole words ending in `.*`, or `*` alone."""

_EVENT_TYPE = re.compile(EVENT_TYPE.removesuffix("$") + r"\Z")


@lru_cache(maxsize=4096)
def is_event_type(name: str) -> bool:
    """Say whether `name` has the form of an event type; it need not be one that we know."""
    return len(name) <= EVENT_TYPE_LIMIT and _EVENT_TYPE.match(name) is not None


def compile_patterns(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Make a predicate that is true for the types that at least one pattern selects."""
    exact: set[str] = set()
    prefixes: list[str] = []
    for pattern in patterns:
        if pattern.endswith("*"):
            prefixes.append(pattern.removesuffix("*"))
        else:
            exact.add(pattern)
    names, starts = frozenset(exact), tuple(prefixes)

    def selects(event_type: str) -> bool:
        return event_type in names or event_type.startswith(starts)

    return selects
