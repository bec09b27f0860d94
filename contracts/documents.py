"""The shape of our resources as one JSON Schema each, without references.

What is made for others from the models (the custom resource definition, the reference) is made from this, so that
nothing is written down twice. A definition keeps the name of its model as `title`; other titles are left out.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from contracts.connection import ConnectionSpec, Provider
from contracts.durations import format_duration

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""

SPEC: Final = "ConnectionSpec"
"""Title of the spec, in which the union by provider has become one object with a block for each provider."""

_REFERENCE: Final = "#/$defs/"


class _GenerateJsonSchema(GenerateJsonSchema):
    """Write durations in defaults as people write them."""

    def encode_default(self, dft: object) -> object:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def connection_schema() -> Schema:
    """Describe a connection's spec, all providers in one: what they require is required, the blocks are optional."""
    schema = TypeAdapter[Any](ConnectionSpec).json_schema(schema_generator=_GenerateJsonSchema)
    definitions = schema["$defs"]
    variants = [definitions[variant["$ref"].removeprefix(_REFERENCE)] for variant in schema["oneOf"]]
    required = [name for name in variants[0]["required"] if all(name in variant["required"] for variant in variants)]
    properties = {name: field for variant in variants for name, field in variant["properties"].items()}
    properties["provider"] = {"type": "string", "enum": list(Provider)} | {
        "description": properties["provider"]["description"]
    }
    blocks = [name for variant in variants for name in variant["required"] if name not in required]
    order = dict.fromkeys([*required, *blocks, *properties])
    definitions[SPEC] = {
        "description": "What the person wants: whose events go to which partner, and how.",
        "type": "object",
        "properties": {name: properties[name] for name in order},
        "required": required,
    }
    return _resolved({"$ref": _REFERENCE + SPEC}, definitions)


def model_schema(model: type[BaseModel]) -> Schema:
    """Describe what is one model: a status, or a spec that is no union."""
    schema = model.model_json_schema(schema_generator=_GenerateJsonSchema)
    definitions = schema.pop("$defs") | {model.__name__: schema}
    return _resolved({"$ref": _REFERENCE + model.__name__}, definitions)


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    """Put definitions in the place of references to them; what stands beside a reference overrules it."""
    resolved = {key: value for key, value in node.items() if key not in ("$ref", "anyOf", "title", "const")}
    if "const" in node:
        resolved["enum"] = [node["const"]]
    if "anyOf" in node:
        [kind] = [kind for kind in node["anyOf"] if kind != {"type": "null"}]
        resolved = _resolved(kind, definitions) | resolved
    if "$ref" in node:
        name = node["$ref"].removeprefix(_REFERENCE)
        resolved = _resolved(definitions[name], definitions) | {"title": name} | resolved
    if "items" in node:
        resolved["items"] = _resolved(node["items"], definitions)
    if "properties" in node:
        resolved["properties"] = {name: _resolved(field, definitions) for name, field in node["properties"].items()}
    return resolved
