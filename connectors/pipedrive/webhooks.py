"""What Pipedrive tells a webhook of, in version 2: read as changes of companies, which it calls organisations.

Pipedrive signs nothing: a webhook is proven by HTTP Basic (`connectors.verification.Basic`) and an address that nobody
guesses. One request tells of one event. What changed is named in `previous`, with what it was before; what it is now
is in `data`. The merge of two organisations is told as the deletion of one and the change of the other.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.inbound import ChangeKind, InboundChange, Told, text_of, unreadable

CUSTOM: Final = "custom_fields"


class _Meta(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1, max_length=128)
    action: Literal["create", "change", "delete"]
    entity: str = Field(max_length=64)
    entity_id: str = Field(pattern=r"^[0-9]{1,20}$", coerce_numbers_to_str=True)
    timestamp: datetime
    change_source: str | None = None
    user_id: str | None = Field(default=None, coerce_numbers_to_str=True)
    merged_to_id: str | None = Field(default=None, pattern=r"^[0-9]{1,20}$", coerce_numbers_to_str=True)


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    meta: _Meta
    data: dict[str, Any] | None = None
    previous: dict[str, Any] | None = None


def read_event(body: bytes, user_id: str | None = None) -> Told:
    """Return the changes that a body tells of; with the id of our token's user, what we wrote is known as such.

    Raise UnreadableError. A custom field is a property under its own key.
    """
    try:
        event = _Body.model_validate_json(body)
    except ValidationError as error:
        raise unreadable("Pipedrive's event", error) from None
    if event.meta.entity != "organization":
        return Told((), 1)
    return Told(tuple(_changes(event, user_id)))


def _changes(event: _Body, user_id: str | None) -> Iterator[InboundChange]:
    meta = event.meta
    at = meta.timestamp.timestamp()
    echo = meta.change_source == "api" and user_id is not None and meta.user_id == user_id
    match meta.action:
        case "delete" if meta.merged_to_id is not None and meta.merged_to_id != meta.entity_id:
            yield InboundChange(meta.id, ChangeKind.MERGED, meta.entity_id, at, into=meta.merged_to_id, echo=echo)
        case "delete":
            yield InboundChange(meta.id, ChangeKind.DELETED, meta.entity_id, at, echo=echo)
        case "create" | "change":
            if meta.action == "create":
                yield InboundChange(meta.id, ChangeKind.CREATED, meta.entity_id, at, echo=echo)
            now = _flat(event.data or {})
            # What a new organisation was made with counts as changed: nobody tells of it again.
            changed = now if meta.action == "create" else _flat(event.previous or {})
            for name in changed:
                key = f"{meta.id}/{name}"
                value = _text(now.get(name))
                yield InboundChange(key, ChangeKind.CHANGED, meta.entity_id, at, name, value, echo=echo)


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    custom = fields.get(CUSTOM)
    own = {name: value for name, value in fields.items() if name not in (CUSTOM, "id")}
    return own | (dict(custom) if isinstance(custom, Mapping) else {})


def _text(value: object) -> str | None:
    """Return a value as text: of an object what it holds, of several their texts in order, after commas."""
    match value:
        case Mapping():
            held = (value[name] for name in ("value", "id", "values") if value.get(name) is not None)
            return _text(next(held, None))
        case list():
            return ",".join(text for each in value if (text := _text(each)) is not None) or None
        case _:
            return text_of(value)
