"""Values as Pipedrive takes them: JSON of the field's type; null clears (Pipedrive's v2 guide to custom fields)."""

from collections.abc import Mapping
from typing import Any, Final

from connectors.properties import Kind, Property, as_date, as_number, as_options, as_text
from contracts.fields import Value

ADDRESS: Final = "address"
_KINDS: Final = {
    "int": Kind.NUMBER,
    "double": Kind.NUMBER,
    "date": Kind.DATE,
    "enum": Kind.CHOICE,
    "set": Kind.CHOICES,
}
_READ_ONLY: Final = frozenset({"user", "org", "people", "visible_to", "stage", "status"})
"""Types whose values are ids of other things in Pipedrive, which events do not know."""


def property_of(described: Mapping[str, Any]) -> Property:
    """Read a field as Pipedrive describes it; options go by label, and by their id as text."""
    type_ = str(described.get("field_type", ""))
    options = {}
    for option in described.get("options") or ():
        options[str(option["label"]).lower()] = str(option["id"])
        options[str(option["id"])] = str(option["id"])
    kind = _KINDS.get(type_, Kind.TEXT)
    return Property(str(described["field_code"]), kind, type_ in _READ_ONLY, options or None)


def to_pipedrive(value: Value, of: Property) -> object:
    """Return a value as Pipedrive takes it for a field; raise UnfitValueError."""
    if value is None or value == "":
        return None
    match of.kind:
        case Kind.NUMBER:
            return as_number(value, of)
        case Kind.DATE:
            return as_date(value, of).isoformat()
        case Kind.CHOICE:
            return int(as_options(value, of)[0])
        case Kind.CHOICES:
            return [int(each) for each in as_options(value, of)]
        case _:
            text = as_text(value, of)
            return {"value": text} if of.name == ADDRESS else text
