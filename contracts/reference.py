"""The references of our resources for people: a table for every object, made from the models."""

from collections.abc import Iterator
from typing import Final

from contracts.documents import Schema
from contracts.durations import DURATION_BOUNDS
from contracts.kinds import GROUP, VERSION, Kind
from contracts.replay import MEANINGS

_HEADER: Final = """\
<!-- Generated from contracts/: do not edit; python -m contracts.custom_resource -->
# {kind}: every field

`{version}`, short name `{short_name}`. A field without a default and not marked as required means
nothing if it is left out. Defaults are applied by whoever reads the spec, so what is stored is what was written.

{advice}
"""


def reference(kind: Kind) -> str:
    """Return the text of a kind's page in docs/reference/."""
    header = _HEADER.format(
        kind=kind.kind, version=f"{GROUP}/{VERSION}", short_name=kind.short_name, advice=kind.advice
    )
    return "\n".join([header, *_sections("spec", kind.spec()), *_sections("status", kind.status())])


def _sections(path: str, node: Schema) -> Iterator[str]:
    rows = [_row(name, field, required=name in node.get("required", ())) for name, field in node["properties"].items()]
    table = ["| field | value | default | meaning |", "|---|---|---|---|", *rows]
    yield "\n".join([f"## {path}", "", node["description"], "", *table, ""])
    for name, field in node["properties"].items():
        if "properties" in field:
            yield from _sections(f"{path}.{name}", field)
        elif field["type"] == "array" and field["items"]["type"] == "object":
            yield from _sections(f"{path}.{name}[]", field["items"])


def _row(name: str, field: Schema, *, required: bool) -> str:
    default = field.get("default")
    shown = "required" if required else "" if default is None or isinstance(default, dict | list) else _code(default)
    cells = (f"`{name}`", _value(field), shown, " ".join(field["description"].split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _value(field: Schema) -> str:
    """Say type and bounds in words."""
    if DURATION_BOUNDS in field:
        minimum, maximum = field[DURATION_BOUNDS]
        return f"duration from `{minimum}` to `{maximum}`"
    if "enum" in field:
        return " or ".join(f"`{choice}`" for choice in field["enum"])
    match field["type"]:
        case "boolean":
            return "`true` or `false`"
        case "integer":
            return f"whole number {_range(field)}"
        case "number":
            return f"number {_range(field)}".strip()
        case "array":
            return f"list of {field.get('minItems', 0)} to {field['maxItems']}: {_value(field['items'])}"
        case "string" if field.get("format") == "date-time":
            return "time, such as `2026-01-31T10:00:00Z`"
        case "string":
            meaning = f"; {MEANINGS[field['pattern']]}" if field.get("pattern") in MEANINGS else ""
            return f"text of {field.get('minLength', 0)} to {field['maxLength']} characters{meaning}"
        case "object" if "properties" not in field:
            return "object of the connector's own"
        case _:
            return "object, below"


def _range(field: Schema) -> str:
    if field.get("maximum", 2**31) > 2**31 - 1:
        return f"from {field['minimum']}"
    return f"from {field['minimum']} to {field['maximum']}"


def _code(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
