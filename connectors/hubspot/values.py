"""Values as HubSpot takes them: all are strings, and an empty one clears (HubSpot's properties guide)."""

from collections.abc import Mapping
from typing import Any, Final

from connectors.properties import Kind, Property, as_boolean, as_date, as_number, as_options, as_text, as_time
from contracts.fields import Value

_KINDS: Final = {
    "string": Kind.TEXT,
    "phone_number": Kind.TEXT,
    "json": Kind.TEXT,
    "object_coordinates": Kind.TEXT,
    "number": Kind.NUMBER,
    "bool": Kind.BOOLEAN,
    "date": Kind.DATE,
    "datetime": Kind.TIME,
    "enumeration": Kind.CHOICE,
}
_SEVERAL: Final = "checkbox"
"""The field type of an enumeration that holds several options; in a value they are separated by semicolons."""


def property_of(described: Mapping[str, Any]) -> Property:
    """Read a property as HubSpot describes it."""
    kind = _KINDS.get(described.get("type", ""), Kind.TEXT)
    if kind is Kind.CHOICE and described.get("fieldType") == _SEVERAL:
        kind = Kind.CHOICES
    read_only = bool((described.get("modificationMetadata") or {}).get("readOnlyValue")) or bool(
        described.get("calculated")
    )
    options = {}
    for option in described.get("options") or ():
        options[str(option["label"]).lower()] = str(option["value"])
    for option in described.get("options") or ():
        options[str(option["value"])] = str(option["value"])
    return Property(described["name"], kind, read_only, options or None)


def to_hubspot(value: Value, of: Property) -> str:
    """Return a value as HubSpot takes it for a property; raise UnfitValueError."""
    if value is None or value == "":
        return ""
    match of.kind:
        case Kind.TEXT:
            return as_text(value, of)
        case Kind.NUMBER:
            return as_text(as_number(value, of), of)
        case Kind.BOOLEAN:
            return as_text(as_boolean(value, of), of)
        case Kind.DATE:
            return as_date(value, of).isoformat()
        case Kind.TIME:
            return str(int(as_time(value, of).timestamp() * 1000))
        case Kind.CHOICE if of.options is None:
            return as_text(value, of)  # options that HubSpot fills itself, such as owners
        case Kind.CHOICE | Kind.CHOICES:
            return ";".join(as_options(value, of))
