"""What one simulated Pipedrive company holds. Nothing in it is unique, and no key makes a repeat harmless: twins are
possible, as they are in Pipedrive, and can be counted.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, Literal

BUILT_IN: Final[Mapping[str, tuple[str, str]]] = {
    "name": ("Name", "varchar"),
    "website": ("Website", "varchar"),
    "linkedin": ("LinkedIn profile", "varchar"),
    "address": ("Address", "address"),
    "employee_count": ("Number of employees", "int"),
    "annual_revenue": ("Annual revenue", "double"),
    "owner_id": ("Owner", "user"),
}
"""Fields of organisations that every company has, with label and type."""

_TEXT: Final = frozenset({"varchar", "varchar_auto", "text", "phone"})


class RefusedError(Exception):
    """Pipedrive refuses a request."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    def body(self) -> dict[str, Any]:
        """Write it as an answer's body."""
        code = {"code": self.code} if self.code else {}
        return {"success": False, "error": self.message, "error_info": "see the documentation", **code}


@dataclass(slots=True)
class Entity:
    """An organisation, note, activity or lead."""

    id: int
    values: dict[str, Any]
    added_at: float
    updated_at: float
    deleted: bool = False

    def shown(self) -> dict[str, Any]:
        """Write it as an answer shows it."""
        times = {"add_time": iso(self.added_at), "update_time": iso(self.updated_at)}
        return {"id": self.id, **self.values, **times, "is_deleted": self.deleted}


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an organisation; `merged` says where it went or what came to it."""

    action: Literal["create", "change", "delete"]
    id: int
    at: float
    by_api: bool
    data: dict[str, Any] | None
    previous: dict[str, Any] | None
    merged: Mapping[str, str]


@dataclass(slots=True)
class Records:
    """Everything in one company; `lag_seconds` is how far its search index is behind."""

    clock: Callable[[], float]
    salt: str
    lag_seconds: float = 0.0
    organizations: dict[int, Entity] = field(default_factory=dict)
    notes: dict[int, Entity] = field(default_factory=dict)
    activities: dict[int, Entity] = field(default_factory=dict)
    leads: dict[int, Entity] = field(default_factory=dict)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    _next_id: int = 0
    _by_api: bool = False

    @contextmanager
    def written_by_api(self) -> Iterator[None]:
        """Hold that what is written meanwhile comes through the API, and not from a user."""
        self._by_api = True
        try:
            yield
        finally:
            self._by_api = False

    def __post_init__(self) -> None:
        # Not those of an earlier run, as Pipedrive never gives an id again.
        self._next_id = int(self.clock())
        for code, (name, type_) in BUILT_IN.items():
            self.fields[code] = _field(code, name, type_, is_custom=False)

    def create_field(self, name: str, type_: str, options: list[str] | None = None) -> dict[str, Any]:
        """Create a custom field; its code is a hash that differs from company to company. Names may repeat."""
        if not name or not type_:
            raise RefusedError(400, "field_name and field_type are required")
        code = hashlib.sha1(f"{self.salt}{name}{len(self.fields)}".encode(), usedforsecurity=False).hexdigest()
        made = _field(code, name, type_, is_custom=True)
        if options:
            made["options"] = [{"id": number + 1, "label": label} for number, label in enumerate(options)]
        self.fields[code] = made
        return made

    def add(self, where: dict[int, Entity], values: Mapping[str, Any]) -> Entity:
        """Keep a new entity."""
        self._next_id += 1
        now = self.clock()
        where[self._next_id] = Entity(self._next_id, dict(values), now, now)
        return where[self._next_id]

    def find(self, where: dict[int, Entity], id_: str) -> Entity:
        """Return an entity that is there."""
        found = where.get(int(id_)) if id_.isdecimal() else None
        if found is None or found.deleted:
            raise RefusedError(404, "not found", "ERR_NOT_FOUND")
        return found

    def write_organization(self, body: Mapping[str, Any], of: Entity | None = None) -> Entity:
        """Create or change an organisation; null clears."""
        values = dict(body)
        custom = values.pop("custom_fields", {})
        if of is None and not values.get("name"):
            raise RefusedError(400, "name is required", "ERR_SCHEMA_VALIDATION_FAILED")
        for name, value in [*values.items(), *custom.items()]:
            known = self.fields.get(name)
            if known is None or known["is_custom_field"] != (name in custom):
                raise RefusedError(400, f"unknown field {name}", "ERR_SCHEMA_VALIDATION_FAILED")
            if not _fits(known, value):
                raise RefusedError(400, f"{name} does not fit", "ERR_SCHEMA_VALIDATION_FAILED")
        entity = of or self.add(self.organizations, {"custom_fields": {}})
        before = deepcopy(entity.values)
        entity.values |= values
        entity.values["custom_fields"] |= custom
        entity.updated_at = self.clock()
        previous = _previous(before, entity.values)
        if of is None:
            self._tell("create", entity, None)
        elif previous:
            self._tell("change", entity, previous)
        return entity

    def delete_organization(self, id_: str, **merged: str) -> Entity:
        """Delete an organisation."""
        entity = self.find(self.organizations, id_)
        last = deepcopy(entity.shown())
        entity.deleted = True
        self._tell("delete", entity, last, **merged)
        return entity

    def merge(self, gone: str, into: str) -> Entity:
        """Merge an organisation into another; what hung on it hangs on that one, and its id leads nowhere."""
        source, target = self.find(self.organizations, gone), self.find(self.organizations, into)
        self.delete_organization(gone, merged_to_id=into)
        for where, name in ((self.notes, "org_id"), (self.activities, "org_id"), (self.leads, "organization_id")):
            for each in where.values():
                if each.values.get(name) == source.id:
                    each.values[name] = target.id
        self._tell("change", target, {}, merged_from_id=gone)
        return target

    def _tell(
        self,
        action: Literal["create", "change", "delete"],
        of: Entity,
        previous: dict[str, Any] | None,
        **merged: str,
    ) -> None:
        data = None if action == "delete" else deepcopy(of.shown())
        change = Change(action, of.id, self.clock(), self._by_api, data, previous, merged)
        for listener in self.listeners:
            listener(change)

    def search(self, code: str, term: str) -> list[Entity]:
        """Return organisations whose text field is exactly this, as the index saw it `lag_seconds` ago."""
        if self.fields.get(code, {}).get("field_type") not in _TEXT or code in ("website", "linkedin"):
            raise RefusedError(400, f"{code} cannot be searched")
        seen = self.clock() - self.lag_seconds
        return [
            each
            for each in self.living(self.organizations)
            if each.updated_at <= seen and str(_value(each, code)).lower() == term.lower()
        ]

    def living(self, where: dict[int, Entity]) -> list[Entity]:
        """Return what is not deleted."""
        return [each for each in where.values() if not each.deleted]

    def twins(self, code: str) -> dict[str, int]:
        """Count living organisations by a field, those that are there more than once."""
        counted = Counter(str(value) for each in self.living(self.organizations) if (value := _value(each, code)))
        return {value: number for value, number in counted.items() if number > 1}


def _previous(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what changed fields held before; None for what was not there."""
    changed = {name: before.get(name) for name in after if name != "custom_fields" and before.get(name) != after[name]}
    then, now = before["custom_fields"], after["custom_fields"]
    custom = {name: then.get(name) for name in now if then.get(name) != now[name]}
    return {**changed, "custom_fields": custom} if custom else changed


def _value(entity: Entity, code: str) -> Any:
    return entity.values.get(code, entity.values["custom_fields"].get(code))


def _field(code: str, name: str, type_: str, *, is_custom: bool) -> dict[str, Any]:
    return {"field_code": code, "field_name": name, "field_type": type_, "is_custom_field": is_custom, "options": None}


def _fits(of: Mapping[str, Any], value: Any) -> bool:
    if value is None:
        return True
    options = {option["id"] for option in of["options"] or ()}
    match of["field_type"]:
        case "int" | "double":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "date":
            return isinstance(value, str) and _is_date(value)
        case "enum":
            return value in options
        case "set":
            return isinstance(value, list) and options.issuperset(value)
        case "address":
            return isinstance(value, dict) and isinstance(value.get("value"), str)
        case _:
            return isinstance(value, str)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def iso(seconds: float) -> str:
    """Write a time as API v2 does."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
