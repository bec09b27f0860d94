"""Canonical events: what the domain services say happened, and what every receiver can rely on.

An event is an immutable fact of one tenant about one subject. The models here are the one source of the data's shape;
the JSON Schemas in `contracts/schemas/` are generated from them, one file per type and version. Data is open: a
consumer ignores fields it does not know, so a new optional field needs no new version, and a version changes only
when an old consumer could no longer read the data.

A type is either one of `canonical_event_types()`, or `ext.<vendor>.<name>`, whose data is any JSON object.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from contracts.errors import InvalidEventError
from contracts.patterns import EVENT_TYPE_LIMIT, is_event_type
from contracts.problems import Problem, describe, problems_of, show

MAX_EVENT_BYTES: Final = 262_144
"""Bytes that an event's data may have as UTF-8 JSON."""

MAX_SUBJECT_CHARACTERS: Final = 512
MAX_DEDUPE_KEY_CHARACTERS: Final = 200

EXTENSION_PREFIX: Final = "ext."
"""Beginning of the types that a vendor defines for itself."""

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_BASE: Final = "https://integrations.queast.io/schemas/"

_TENANT: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ShortText = Annotated[str, StringConstraints(max_length=200)]
Address = Annotated[str, StringConstraints(max_length=2048)]


class EventData(BaseModel):
    """A part of an event's data: fields that are not listed are kept and passed on."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


class Company(EventData):
    """A company as it is after the event; what is left out or null is not known."""

    id: Identifier
    """The company's id at Queast; it never changes."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """The name it trades under."""
    domains: Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=253)]], Field(max_length=100)] = (
        Field(default_factory=list)
    )
    """Internet domains, the main one first."""
    website: Address | None = None
    """Address of the website."""
    linkedin: Address | None = None
    """Address of the LinkedIn page."""
    industry: ShortText | None = None
    """Industry, in words."""
    employees: Annotated[int, Field(ge=0)] | None = None
    """Number of employees."""
    country: ShortText | None = None
    """Country of the head office, best as an ISO 3166-1 alpha-2 code."""
    city: ShortText | None = None
    """City of the head office."""


class CompanyReference(EventData):
    """A company named by another event."""

    id: Identifier
    """The company's id at Queast."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    """The name it trades under."""


class CompanyCreated(Company):
    """A company became known."""


class CompanyUpdated(Company):
    """Something about a company changed; the data is the whole company, not the difference."""


class CompanyDeleted(CompanyReference):
    """A company is no longer known."""


class SignalContract(EventData):
    """Which version of the canonical Signals contract the signal follows."""

    uri: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """Where the contract is defined."""
    version: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    """Its version."""


class SignalPublished(EventData):
    """An Actionable Signal was published for a company."""

    id: Identifier
    """The signal's id."""
    contract: SignalContract
    """The contract that defines the content of `signal`."""
    company: CompanyReference
    """The company that the signal is about."""
    signal: dict[str, Any]
    """The signal as that contract defines it; passed on untouched."""


class PartnerObject(EventData):
    """Something in a partner's account."""

    provider: Identifier
    """The kind of partner, such as HubSpot."""
    connection: Identifier
    """The connection through which it was seen, as `namespace/name`."""
    id: Identifier
    """Its id at the partner."""


class CompanyBookmarked(EventData):
    """Somebody at the tenant showed lasting interest in a company."""

    company: CompanyReference
    """The company."""
    partner: PartnerObject | None = None
    """Where the interest was shown, if it was at a partner."""


class Extension(EventData):
    """An event that a vendor defines for itself: any JSON object."""


@dataclass(frozen=True, slots=True)
class EventType:
    """One canonical type: its name, the version of its data, and the top-level keys that the data must have."""

    type: str
    schema_version: int
    required_keys: tuple[str, ...]

    @property
    def schema_file(self) -> str:
        """Name of its JSON Schema in `contracts/schemas/`."""
        return f"{self.type}.v{self.schema_version}.json"

    @property
    def schema_id(self) -> str:
        """The schema's `$id`."""
        return SCHEMA_BASE + self.schema_file


_MODELS: Final[Mapping[str, type[EventData]]] = {
    "company.bookmarked": CompanyBookmarked,
    "company.created": CompanyCreated,
    "company.deleted": CompanyDeleted,
    "company.updated": CompanyUpdated,
    "signal.published": SignalPublished,
}
"""The data of each type; all are at their first version."""


def _event_type(name: str, model: type[EventData]) -> EventType:
    required = (key for key, declared in model.model_fields.items() if declared.is_required())
    return EventType(name, schema_version=1, required_keys=tuple(required))


_CANONICAL: Final = {name: _event_type(name, model) for name, model in _MODELS.items()}


def canonical_event_types() -> tuple[EventType, ...]:
    """Name every type that the contract defines, in alphabetical order."""
    return tuple(_CANONICAL.values())


def is_extension_type(name: str) -> bool:
    """Say whether `name` is a vendor's own type: `ext.<vendor>.<name>`, or more words."""
    return name.startswith(EXTENSION_PREFIX) and name.count(".") >= 2 and is_event_type(name)


def event_schemas() -> dict[str, dict[str, Any]]:
    """Generate the JSON Schema (2020-12) of every type's data, by file name."""
    extension = _event_type("ext", Extension)
    schemas = {extension.schema_file: _schema(extension, Extension)}
    for name, model in _MODELS.items():
        schemas[_CANONICAL[name].schema_file] = _schema(_CANONICAL[name], model)
    return schemas


def validate_event(
    tenant: str, event_type: str, subject: str, data: Mapping[str, object], *, dedupe_key: str | None = None
) -> bytes:
    """Check an event before it is emitted and return its data as UTF-8 JSON, exactly as it was checked.

    Raises InvalidEventError with every problem found. Data is checked as the JSON that is stored: what JSON or
    PostgreSQL cannot hold (NaN, infinity, the NUL character, dates, lone surrogates) is a problem.
    """
    problems = [
        *_tenant_problems(tenant),
        *_type_problems(event_type),
        *_text_problems("subject", subject, MAX_SUBJECT_CHARACTERS),
    ]
    if dedupe_key is not None:
        problems.extend(_text_problems("dedupe_key", dedupe_key, MAX_DEDUPE_KEY_CHARACTERS))
    encoded = _encode(data, problems)
    if encoded is not None and event_type in _MODELS:
        model = _MODELS[event_type]
        try:
            model.model_validate_json(encoded)
        except ValidationError as error:
            problems.extend(problems_of(error, model, root="data", meanings={}))
    if problems or encoded is None:
        raise InvalidEventError(event_type, tuple(problems), _advice(event_type))
    return encoded


class _SchemaGenerator(GenerateJsonSchema):
    """Leaves out the titles that only repeat a field's name."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - the base class's signature
        return False


def _schema(event_type: EventType, model: type[EventData]) -> dict[str, Any]:
    head = {"$schema": SCHEMA_DIALECT, "$id": event_type.schema_id}
    return head | model.model_json_schema(schema_generator=_SchemaGenerator) | {"title": event_type.type}


def _tenant_problems(tenant: str) -> list[Problem]:
    if _TENANT.fullmatch(tenant):
        return []
    allowed = "up to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"
    return [Problem("tenant", f"found {show(tenant)}; allowed: {allowed}")]


def _type_problems(event_type: str) -> list[Problem]:
    if event_type in _MODELS or is_extension_type(event_type):
        return []
    near = difflib.get_close_matches(event_type[:EVENT_TYPE_LIMIT], _MODELS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    allowed = f"{', '.join(_MODELS)}, or a type of your own as ext.<vendor>.<name> in lower case"
    return [Problem("type", f"found {show(event_type)}; allowed: {allowed}{hint}")]


def _text_problems(path: str, text: str, limit: int) -> list[Problem]:
    if not text or len(text) > limit:
        return [Problem(path, f"found text of {len(text)} characters; from 1 to {limit} are allowed")]
    if _CONTROL.search(text):
        return [Problem(path, "control characters are not allowed")]
    return []


def _encode(data: Mapping[str, object], problems: list[Problem]) -> bytes | None:
    if not isinstance(data, Mapping):
        problems.append(Problem("data", f"found {describe(data)}; a JSON object is required"))
        return None
    try:
        text = json.dumps(dict(data), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        encoded = text.encode()
    except RecursionError:
        problems.append(Problem("data", "lists and objects are nested too deeply, or contain themselves"))
        return None
    except (TypeError, ValueError) as error:
        problems.append(Problem("data", f"cannot be written as JSON: {_reason(error)}"))
        return None
    if len(encoded) > MAX_EVENT_BYTES:
        message = f"has {len(encoded)} bytes as JSON; at most {MAX_EVENT_BYTES} are allowed, so refer to what is large"
        problems.append(Problem("data", message))
        return None
    if _NUL.search(text):
        problems.append(Problem("data", "holds the character U+0000, which PostgreSQL cannot store; remove it"))
    return encoded


def _reason(error: TypeError | ValueError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "text holds half of a surrogate pair, which is no character"
    return str(error).split(":")[0]


def _advice(event_type: str) -> str:
    if event_type not in _CANONICAL:
        return "Nothing was stored; correct the event and emit it again."
    return f"Nothing was stored; correct it as {_CANONICAL[event_type].schema_id} describes and emit it again."
