"""Every request that a connector can make, written down in one readable file beside it and kept current."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from connectors.simulation_faults import Call

HEADER = """\
# Every request that the {partner} connector makes

Method and path, and the form of the body; kept current by a test.{more}
"""


def assert_written(
    file: Path, partner: str, calls: Iterable[Call], variable: Mapping[str, str], more: str = ""
) -> None:
    """Check that the file says what was called; `variable` are patterns of paths with the names of what they match."""
    shapes: dict[tuple[str, str], set[str]] = {}
    for call in calls:
        shapes.setdefault((call.method, _template(call.path, variable)), set()).update(_shape(call.body))
    by_path = sorted(shapes.items(), key=lambda each: each[0][::-1])
    written = HEADER.format(partner=partner, more=more) + "".join(_section(*place, lines) for place, lines in by_path)
    if os.environ.get("REGENERATE_REQUESTS"):
        file.write_text(written)

    assert file.read_text() == written


def assert_all_are_made(calls: Iterable[Call], paths: Iterable[tuple[str, str]], variable: Mapping[str, str]) -> None:
    """Check that what was called is all that the connector can call, and that it can call all of that."""
    made = {(call.method, _generic(_template(call.path, variable))) for call in calls}

    assert made == {(method, _generic(path)) for method, path in paths}


def _template(path: str, variable: Mapping[str, str]) -> str:
    for pattern, name in variable.items():
        path = re.sub(pattern, name, path)
    return path


def _generic(path: str) -> str:
    return re.sub(r"(companies|notes|tasks|\{kind\}|\{other\})", "*", path)


def _shape(body: Any, place: str = "") -> Iterator[str]:
    """Say which places a body has, and of which type."""
    match body:
        case None:
            return
        case dict():
            for name, value in body.items():
                yield from _shape(value, f"{place}.{name}" if place else name)
        case list():
            for value in body:
                yield from _shape(value, f"{place}[]")
        case _:
            named = re.sub(r"[0-9a-f]{40}", "{field}", place)
            yield f"{named}: {type(body).__name__}"


def _section(method: str, path: str, lines: set[str]) -> str:
    body = "".join(f"- `{line}`\n" for line in sorted(lines)) or "No body.\n"
    return f"\n## `{method} {path}`\n\n{body}"
