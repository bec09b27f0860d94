"""Data that a person edited: read, and compared with what it was."""

from collections.abc import Iterator

import orjson

from integrations.errors import UsageError
from integrations.events import read_data

LIMIT_BYTES = 262_144
"""As for an event's data."""


def read_new_data(given: str) -> dict[str, object]:
    """Read the data to send; raise UsageError."""
    data = read_data(given)
    if len(orjson.dumps(data)) > LIMIT_BYTES:
        raise UsageError(f"--data has more than {LIMIT_BYTES} bytes")
    return data


def changes_between(before: str, after: dict[str, object]) -> list[dict[str, object]]:
    """List what differs, by JSON Pointer (RFC 6901); null stands for what is not there. Lists are compared whole."""
    return list(_changes("", orjson.loads(before), after))


def _changes(path: str, before: object, after: object) -> Iterator[dict[str, object]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            step = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in before or key not in after:
                yield {"path": step, "from": before.get(key), "to": after.get(key)}
            else:
                yield from _changes(step, before[key], after[key])
    elif before != after or type(before) is not type(after):
        yield {"path": path, "from": before, "to": after}
