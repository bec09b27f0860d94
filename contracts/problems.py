"""Problems in documents, told to the person who wrote them.

A problem names the place, what was found and what is allowed. Values that may be confidential are never repeated:
a person may have written a credential where a reference belongs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_MOST_TOLD: Final = 20
_SHOWN_CHARACTERS: Final = 80
_SHOWN_NUMBERS: Final = 10**18

_CONFIDENTIAL: Final = frozenset({"key", "url", "value"})
"""Fields whose text is not repeated, because a credential may stand there by mistake or by a partner's custom."""

_ALLOWED: Final = {
    "string_type": "text is required",
    "int_type": "a whole number is required",
    "int_from_float": "a whole number is required",
    "float_type": "a number is required",
    "finite_number": "a finite number is required",
    "bool_type": "true or false is required",
    "tuple_type": "a list is required",
    "dict_type": "a mapping is required",
    "model_type": "a mapping is required",
    "model_attributes_type": "a mapping is required",
    "greater_than_equal": "the smallest allowed is {ge}",
    "less_than_equal": "the largest allowed is {le}",
    "string_too_short": "at least {min_length} character(s) are required",
    "string_too_long": "at most {max_length} characters are allowed",
    "too_short": "at least {min_length} item(s) are required",
    "too_long": "at most {max_length} items are allowed",
    "enum": "allowed are {expected}",
    "literal_error": "allowed is {expected}",
    "value_error": "{error}",
}
"""What pydantic's error types mean, with the names of its error contexts in braces."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `path` is where, such as `spec.delivery.retry.maxAttempts`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def problems_of(
    error: ValidationError, model: type[BaseModel], *, root: str, meanings: Mapping[str, str]
) -> tuple[Problem, ...]:
    """Tell what `model` refused, in the order of the document; the first 20 problems are told, the rest counted.

    `root` is the name of the document's top; `meanings` puts regular expressions into words.
    """
    details = [detail for detail in error.errors(include_url=False) if not _is_consequence(detail)]
    told = [
        Problem(path_of(root, detail["loc"]), _sentence(detail, model, meanings)) for detail in details[:_MOST_TOLD]
    ]
    if len(details) > _MOST_TOLD:
        told.append(Problem(root, f"{len(details) - _MOST_TOLD} more problem(s) are not shown"))
    return tuple(told)


def path_of(root: str, location: tuple[int | str, ...]) -> str:
    """Write a place in a document, such as `spec.routes[0].events`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return (root + "".join(steps)).removeprefix(".")


def describe(value: object) -> str:
    """Say what kind of thing a document holds, without showing it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return f"a list of {len(value)} items" if value else "an empty list"
        case _:
            return f"a value of type {type(value).__name__}"


def show(value: object) -> str:
    """Repeat a short scalar as the document has it; only describe anything else."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(value)
        case int() if abs(value) < _SHOWN_NUMBERS:
            return str(value)
        case str() if len(value) <= _SHOWN_CHARACTERS:
            return repr(value)
        case str():
            return f"text of {len(value)} characters"
        case _:
            return describe(value)


def _is_consequence(detail: ErrorDetails) -> bool:
    """Recognise the second error of a list whose items were refused: pydantic counts only accepted items."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _sentence(detail: ErrorDetails, model: type[BaseModel], meanings: Mapping[str, str]) -> str:
    kind, location, context = detail["type"], detail["loc"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"this field is unknown; allowed here are {', '.join(_fields_beside(model, location))}"
    if kind == "missing":
        return "is missing; a value is required"
    if kind == "string_pattern_mismatch":
        allowed = f"allowed: {meanings.get(context['pattern'], context['pattern'])}"
    elif kind in _ALLOWED:
        allowed = _ALLOWED[kind].format_map(context)
    else:
        allowed = detail["msg"]
    value = detail["input"]
    if kind == "value_error" and isinstance(value, Mapping | BaseModel):
        return allowed  # a rule over several fields says all there is to say
    return f"found {describe(value) if _is_confidential(detail) else show(value)}; {allowed}"


def _is_confidential(detail: ErrorDetails) -> bool:
    """Suspect text in fields where people put credentials, and text where something else belongs."""
    if not isinstance(detail["input"], str):
        return False
    return detail["type"].endswith("_type") or not _CONFIDENTIAL.isdisjoint(detail["loc"][-1:])


def _fields_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """List the fields, as written in documents, of the model that holds the last step of `location`."""
    for step in location[:-1]:
        nested = [
            inner
            for name, field in model.model_fields.items()
            if step in (field.alias, name)
            for inner in _models_in(field.annotation)
        ]
        model = nested[0] if nested else model
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
