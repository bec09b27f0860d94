"""What one simulated HubSpot account holds: properties, records, associations, and an index that lags behind.

Refuses what HubSpot refuses, in its words as far as clients read them: unknown and read-only properties, values that
do not fit, options that are not there, a unique value twice, a note without a time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

COMPANY: Final = "companies"
NOTE_LIMIT: Final = 65_536
TYPES: Final = {"companies": "0-2", "contacts": "0-1", "notes": "0-46", "tasks": "0-27"}

Problem = dict[str, Any]
"""An entry of `errors` in an answer."""


class RefusedError(Exception):
    """HubSpot refuses a request or an input."""

    def __init__(self, status: int, category: str, message: str, *problems: Problem) -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.message = message
        self.problems = problems

    def body(self) -> dict[str, Any]:
        """Write it as an answer's body."""
        errors = {"errors": list(self.problems)} if self.problems else {}
        return {
            "status": "error",
            "message": self.message,
            "correlationId": "00000000-0000-4000-8000-000000000000",
            "category": self.category,
            **errors,
        }


def _property(name: str, type_: str = "string", field_type: str = "text", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "type": type_,
        "fieldType": field_type,
        "groupName": "companyinformation",
        "hasUniqueValue": False,
        "calculated": False,
        "options": [],
        "modificationMetadata": {"archivable": True, "readOnlyDefinition": False, "readOnlyValue": False},
        **more,
    }


_OPTIONS: Final = [
    {"label": label, "value": label.upper().replace(" ", "_"), "displayOrder": number, "hidden": False}
    for number, label in enumerate(("Computer Software", "Financial Services", "Machinery", "Retail"))
]
_READ_ONLY: Final = {"archivable": False, "readOnlyDefinition": True, "readOnlyValue": True}

STANDARD: Final[Mapping[str, tuple[dict[str, Any], ...]]] = {
    "companies": (
        _property("name"),
        _property("domain"),
        _property("hs_additional_domains", "enumeration", "checkbox", modificationMetadata=_READ_ONLY),
        _property("website"),
        _property("industry", "enumeration", "select", options=_OPTIONS),
        _property("numberofemployees", "number", "number"),
        _property("country"),
        _property("city"),
        _property("linkedin_company_page"),
        _property("description", field_type="textarea"),
        _property("founded_on", "date", "date"),
        _property("createdate", "datetime", "date", modificationMetadata=_READ_ONLY),
        _property("hs_object_id", "number", "number", modificationMetadata=_READ_ONLY),
    ),
    "contacts": (_property("email", hasUniqueValue=True), _property("firstname"), _property("lastname")),
    "notes": (_property("hs_timestamp", "datetime", "date"), _property("hs_note_body", field_type="html")),
    "tasks": (
        _property("hs_timestamp", "datetime", "date"),
        _property("hs_task_subject"),
        _property("hs_task_body", field_type="html"),
        _property(
            "hs_task_status",
            "enumeration",
            "select",
            options=[{"label": "Not started", "value": "NOT_STARTED"}, {"label": "Completed", "value": "COMPLETED"}],
        ),
        _property(
            "hs_task_priority",
            "enumeration",
            "select",
            options=[{"label": each.capitalize(), "value": each} for each in ("LOW", "MEDIUM", "HIGH")],
        ),
    ),
}


@dataclass(slots=True)
class Record:
    """One record; `merged_into` is where a merged one lives on."""

    id: str
    type: str
    properties: dict[str, str]
    created_at: float
    updated_at: float
    archived: bool = False
    merged_into: str | None = None
    history: list[dict[str, str]] = field(default_factory=list)

    def shown(self, names: Iterable[str] = (), *, new: bool | None = None) -> dict[str, Any]:
        """Write it as an answer shows it, with the properties asked for."""
        wanted = {"hs_object_id", *names} if names else {*self.properties, "hs_object_id"}
        values = {**self.properties, "hs_object_id": self.id}
        document: dict[str, Any] = {
            "id": self.id,
            "properties": {name: values.get(name) for name in sorted(wanted)},
            "createdAt": _iso(self.created_at),
            "updatedAt": _iso(self.updated_at),
            "archived": self.archived,
        }
        return document if new is None else {**document, "new": new}


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a record, by an app or a user; of a merge, `record` is the one that stays."""

    kind: Literal["creation", "propertyChange", "deletion", "merge"]
    record: Record
    at: float
    by_app: bool
    name: str = ""
    value: str = ""
    merged: tuple[str, ...] = ()


class Records:
    """Everything in one account; `lag_seconds` is how far its search index is behind."""

    def __init__(self, clock: Callable[[], float], lag_seconds: float = 0.0) -> None:
        self._clock = clock
        self.lag_seconds = lag_seconds
        self.properties = {
            type_: {each["name"]: dict(each) for each in standard} for type_, standard in STANDARD.items()
        }
        self.groups: dict[str, set[str]] = {type_: {"companyinformation"} for type_ in TYPES}
        self.records: dict[str, dict[str, Record]] = {type_: {} for type_ in TYPES}
        self.associations: set[tuple[str, str, str, str]] = set()
        # Not those of an earlier run, as HubSpot never gives an id again.
        self._next_id = int(clock() * 1000)
        self._by_app = False
        self.listeners: list[Callable[[Change], None]] = []

    @contextmanager
    def written_by_app(self) -> Iterator[None]:
        """Hold that what is written meanwhile comes through the API, and not from a user."""
        self._by_app = True
        try:
            yield
        finally:
            self._by_app = False

    # Properties

    def create_property(self, type_: str, described: Mapping[str, Any]) -> dict[str, Any]:
        """Create a property; its uniqueness cannot be changed later."""
        name = described.get("name")
        missing = [key for key in ("name", "label", "type", "fieldType", "groupName") if not described.get(key)]
        if missing or not isinstance(name, str):
            raise RefusedError(400, "VALIDATION_ERROR", f"Some required fields were not set: {missing}")
        if name in self.properties[type_]:
            raise RefusedError(409, "OBJECT_ALREADY_EXISTS", f"A property named '{name}' already exists.")
        if described["groupName"] not in self.groups[type_]:
            raise RefusedError(400, "VALIDATION_ERROR", f"property group {described['groupName']} does not exist")
        made = _property(name) | dict(described)
        self.properties[type_][name] = made
        return made

    def create_group(self, type_: str, name: str) -> dict[str, Any]:
        """Create a group of properties."""
        if name in self.groups[type_]:
            raise RefusedError(409, "OBJECT_ALREADY_EXISTS", f"A property group named '{name}' already exists.")
        self.groups[type_].add(name)
        return {"name": name, "archived": False}

    # Records

    def find(self, type_: str, key: str, id_property: str | None = None) -> Record | None:
        """Return a record by its id, following merges, or by a unique property."""
        if id_property is not None and id_property != "hs_object_id":
            self._require_unique(type_, id_property)
            return next(
                (each for each in self.living(type_) if each.properties.get(id_property) == key and key != ""), None
            )
        record = self.records[type_].get(key)
        while record is not None and record.merged_into is not None:
            record = self.records[type_].get(record.merged_into)
        return None if record is None or record.archived else record

    def living(self, type_: str) -> list[Record]:
        """Return the records that are neither archived nor merged away."""
        return [each for each in self.records[type_].values() if not each.archived and each.merged_into is None]

    def create(self, type_: str, properties: Mapping[str, Any]) -> Record:
        """Create a record."""
        values = self._checked(type_, properties, of=None)
        if type_ in ("notes", "tasks") and not values.get("hs_timestamp"):
            raise RefusedError(
                400,
                "VALIDATION_ERROR",
                "Property values were not valid: required property hs_timestamp is missing",
                {"message": "hs_timestamp is required", "code": "REQUIRED_PROPERTY", "in": "hs_timestamp"},
            )
        self._next_id += 1
        now = self._clock()
        record = Record(str(self._next_id), type_, {k: v for k, v in values.items() if v != ""}, now, now)
        self.records[type_][record.id] = record
        record.history.append(dict(values))
        self._tell("creation", record)
        return record

    def update(self, record: Record, properties: Mapping[str, Any]) -> Record:
        """Change a record; an empty value clears."""
        values = self._checked(record.type, properties, of=record)
        changed = [each for each in values.items() if record.properties.get(each[0], "") != each[1]]
        for name, value in values.items():
            if value == "":
                record.properties.pop(name, None)
            else:
                record.properties[name] = value
        record.updated_at = self._clock()
        record.history.append(dict(values))
        for name, value in changed:
            self._tell("propertyChange", record, name=name, value=value)
        return record

    def archive(self, record: Record) -> None:
        """Put a record into the recycle bin."""
        record.archived = True
        self._tell("deletion", record)

    def merge(self, primary: str, other: str) -> Record:
        """Merge a company into another: the other's id leads to the one that stays."""
        into, gone = self.find(COMPANY, primary), self.find(COMPANY, other)
        if into is None or gone is None or into is gone:
            raise RefusedError(404, "OBJECT_NOT_FOUND", "no such companies to merge")
        gone.merged_into = into.id
        into.properties = {**gone.properties, **into.properties}
        moved = {tuple(into.id if part == gone.id else part for part in each) for each in self.associations}
        self.associations = {(a, b, c, d) for a, b, c, d in moved}
        into.updated_at = self._clock()
        self._tell("merge", into, merged=(gone.id,))
        return into

    def associate(self, type_: str, id_: str, to_type: str, to_id: str) -> None:
        """Associate two records; again is the same."""
        for kind, each in ((type_, id_), (to_type, to_id)):
            if kind not in TYPES or self.find(kind, each) is None:
                raise RefusedError(404, "OBJECT_NOT_FOUND", f"Object not found. objectId: {each}")
        self.associations.add((type_, id_, to_type, to_id))

    def associated(self, type_: str, with_type: str, with_id: str) -> list[Record]:
        """Return the living records of a type that are associated with a record."""
        ids = {a for t, a, u, b in self.associations if (t, u, b) == (type_, with_type, with_id)}
        ids |= {b for t, a, u, b in self.associations if (t, a, u) == (with_type, with_id, type_)}
        return [each for each in self.living(type_) if each.id in ids]

    def search(self, type_: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Search the index as it was `lag_seconds` ago."""
        groups = asked.get("filterGroups", [])
        limit = asked.get("limit", 10)
        after = int(asked.get("after") or 0)
        if len(groups) > 5 or any(len(group.get("filters", [])) > 6 for group in groups) or not 0 < limit <= 200:
            raise RefusedError(400, "VALIDATION_ERROR", "at most 5 filterGroups of 6 filters, and 200 a page")
        if after + limit > 10_000:
            raise RefusedError(400, "VALIDATION_ERROR", "a search returns at most 10,000 records")
        seen = [each for each in self.living(type_) if each.updated_at <= self._clock() - self.lag_seconds]
        found = [
            each
            for each in seen
            if not groups or any(all(_matches(each, one) for one in group["filters"]) for group in groups)
        ]
        page = found[after : after + limit]
        answer: dict[str, Any] = {
            "total": len(found),
            "results": [each.shown(asked.get("properties") or ("name",)) for each in page],
        }
        if after + limit < len(found):
            answer["paging"] = {"next": {"after": str(after + limit)}}
        return answer

    def _tell(self, kind: Literal["creation", "propertyChange", "deletion", "merge"], of: Record, **more: Any) -> None:
        change = Change(kind, of, self._clock(), self._by_app, **more)
        for listener in self.listeners:
            listener(change)

    def _require_unique(self, type_: str, name: str) -> None:
        if not self.properties[type_].get(name, {}).get("hasUniqueValue"):
            raise RefusedError(400, "VALIDATION_ERROR", f"{name} is not a unique property of {type_}")

    def _checked(self, type_: str, properties: Mapping[str, Any], of: Record | None) -> dict[str, str]:
        known = self.properties[type_]
        problems = []
        for name, value in properties.items():
            problem = _problem(known.get(name), name, value)
            if problem:
                problems.append(problem)
            elif known[name]["hasUniqueValue"] and value != "":
                holder = self.find(type_, value, name)
                if holder is not None and holder is not of:
                    problems.append(
                        {
                            "message": f"{name} with value {value} already exists on {holder.id}",
                            "code": "CONFLICTING_UNIQUE_VALUE",
                            "context": {"propertyName": [name], "existingObjectId": [holder.id]},
                        }
                    )
        if problems:
            raise RefusedError(400, "VALIDATION_ERROR", "Property values were not valid", *problems)
        return dict(properties)


def _problem(of: Mapping[str, Any] | None, name: str, value: Any) -> Problem | None:
    if of is None:
        code, message = "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'
    elif of["modificationMetadata"]["readOnlyValue"]:
        code, message = "READ_ONLY_VALUE", f'"{name}" is a read only property'
    elif not isinstance(value, str):
        code, message = "INVALID_TYPE", f"{name} was not a string"
    elif value != "" and not _FITS.get(of["type"], _fits_text)(of, value):
        code, message = f"INVALID_{of['type'].upper()}", f"{name} was not a valid {of['type']}"
    else:
        return None
    return {"message": message, "code": code, "in": name, "context": {"propertyName": [name]}}


def _fits_text(of: Mapping[str, Any], value: str) -> bool:
    return not of["name"].endswith("_body") or _utf16(value) <= NOTE_LIMIT


def _fits_number(of: Mapping[str, Any], value: str) -> bool:  # noqa: ARG001 -- as its siblings
    try:
        float(value)
    except ValueError:
        return False
    return True


def _fits_boolean(of: Mapping[str, Any], value: str) -> bool:  # noqa: ARG001 -- as its siblings
    return value in ("true", "false")


def _fits_time(of: Mapping[str, Any], value: str) -> bool:
    return _is_time(value, midnight=of["type"] == "date")


def _fits_options(of: Mapping[str, Any], value: str) -> bool:
    several = value.split(";") if of["fieldType"] == "checkbox" else [value]
    return {option["value"] for option in of["options"]}.issuperset(several)


_FITS: Final[Mapping[str, Callable[[Mapping[str, Any], str], bool]]] = {
    "number": _fits_number,
    "bool": _fits_boolean,
    "date": _fits_time,
    "datetime": _fits_time,
    "enumeration": _fits_options,
}


def _is_time(value: str, *, midnight: bool) -> bool:
    try:
        read = datetime.fromtimestamp(int(value) / 1000, UTC) if value.isdecimal() else datetime.fromisoformat(value)
    except ValueError:
        return False
    return not midnight or (read.hour, read.minute, read.second) == (0, 0, 0)


def _matches(record: Record, asked: Mapping[str, Any]) -> bool:
    value = {**record.properties, "hs_object_id": record.id}.get(asked["propertyName"])
    match asked["operator"]:
        case "EQ":
            return value is not None and value.lower() == str(asked["value"]).lower()
        case "IN":
            return value is not None and value.lower() in [str(each).lower() for each in asked["values"]]
        case "CONTAINS_TOKEN":
            return value is not None and str(asked["value"]).lower() in value.lower().replace(";", " ").split()
        case "HAS_PROPERTY":
            return value is not None
        case "NOT_HAS_PROPERTY":
            return value is None
        case operator:
            raise RefusedError(400, "VALIDATION_ERROR", f"operator {operator} is not known")


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
