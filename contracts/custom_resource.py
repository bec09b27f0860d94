"""The custom resource definitions, made from the models of spec and status.

The schema is structural, as the API server requires, and everything in it is bounded, so that the cost of its rules
is too. The spec has no defaults: those that only the server knows would make what is stored differ from what is in a
repository for ever, so whoever reads a spec applies them, and descriptions tell them.

`python -m contracts.custom_resource` writes the files that are made from the models.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from contracts.admission_rules import FIELD_RULES, OBJECT_RULES, Rule, duration_between, notation, smallest
from contracts.documents import SPEC, Schema
from contracts.durations import DURATION_BOUNDS
from contracts.kinds import GROUP, KINDS, VERSION, Column, Kind
from contracts.reference import reference

HEADER: Final = (
    "# Generated from contracts/, which is where to change it: do not edit; python -m contracts.custom_resource\n"
)

_LIST_KEYS: Final = {
    (SPEC, "routes"): "name",
    ("WebhookSettings", "headers"): "name",
    ("RouteSpec", "fields"): "property",
    ("PluginSettings", "secretsFrom"): "name",
    ("ConnectionStatus", "conditions"): "type",
    ("ReplayStatus", "conditions"): "type",
}
"""Lists whose items have a name: several managers can own one each. Other lists belong to one manager as a whole."""

_INDIVISIBLE: Final = frozenset({"SecretRef", "SecretKeyRef"})
"""Objects that belong to one manager as a whole: half a reference means nothing."""

_FREE: Final = "x-kubernetes-preserve-unknown-fields"
"""Marks an object of any content, whose reader checks it."""

_KEPT: Final = ("type", "format", "enum", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")
_LARGEST_INT32: Final = 2**31 - 1


def schema_digest(kind: Kind) -> str:
    """Tell a kind's schema from others: what a definition that was not upgraded lacks, the API server drops unsaid."""
    parts = json.dumps([_structural(kind.spec()), _structural(kind.status())], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def digest_of(description: str) -> str | None:
    """Read the digest out of the description of a definition that somebody serves; None if there is none."""
    found = re.search(r"\(schema ([0-9a-f]{12})\)$", description)
    return found and found[1]


def custom_resource_definition(kind: Kind) -> dict[str, Any]:
    """Return the definition of a kind as Kubernetes reads it."""
    status = _structural(kind.status()) | {"default": {"observedGeneration": -1}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short_name],
                "categories": ["integrations"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": path} for path in kind.selectable],
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {
                        "openAPIV3Schema": {
                            "description": f"{kind.description} (schema {schema_digest(kind)})",
                            "type": "object",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": _structural(kind.spec()),
                                "status": status,
                            },
                        }
                    },
                }
            ],
        },
    }


def custom_resource_file(kind: Kind) -> str:
    """Return the text of a kind's file in crds/."""
    # Through JSON, or what stands in two places would be written as an alias in one of them.
    definition = json.loads(json.dumps(custom_resource_definition(kind)))
    return HEADER + yaml.safe_dump(definition, sort_keys=False, width=120, allow_unicode=True)


def generated_files() -> Mapping[str, str]:
    """Return every file that is made from the models, by its place in the repository."""
    definitions = {f"crds/{kind.plural}.yaml": custom_resource_file(kind) for kind in KINDS}
    references = {f"docs/reference/{kind.page}.md": reference(kind) for kind in KINDS}
    return definitions | references


def _column(column: Column) -> dict[str, Any]:
    written = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }
    # The API server drops a priority of 0, and whoever applies it again would write it anew each time.
    return written | ({"priority": column.priority} if column.priority else {})


def _structural(node: Schema) -> Schema:
    """Say in Kubernetes' part of OpenAPI v3 what a JSON Schema without references says."""
    structural: Schema = {"description": _description(node)} if "description" in node else {}
    structural |= {key: node[key] for key in _KEPT if key in node}
    if node["type"] == "integer":
        _set_integer_format(structural)
    rules = [*_rules_of_value(node), *OBJECT_RULES.get(node.get("title", ""), ())]
    if node["type"] == "array":
        structural |= {"x-kubernetes-list-type": "atomic", "items": _structural(node["items"])}
    if node.get(_FREE):
        return structural | {_FREE: True, "maxProperties": node["maxProperties"]}
    if node["type"] == "object":
        if node["title"] in _INDIVISIBLE:
            structural["x-kubernetes-map-type"] = "atomic"
        if "required" in node:
            structural["required"] = node["required"]
        structural["properties"] = {
            name: _field(node["title"], name, field) for name, field in node["properties"].items()
        }
    if rules:
        structural["x-kubernetes-validations"] = rules
    return structural


def _field(owner: str, name: str, node: Schema) -> Schema:
    structural = _structural(node)
    if (owner, name) in _LIST_KEYS:
        structural |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [_LIST_KEYS[owner, name]]}
    if rules := FIELD_RULES.get((owner, name)):
        structural["x-kubernetes-validations"] = [*structural.get("x-kubernetes-validations", ()), *rules]
    return structural


def _rules_of_value(node: Schema) -> list[Rule]:
    if DURATION_BOUNDS in node:
        return [duration_between(*node[DURATION_BOUNDS])]
    if node["type"] == "number":
        return [smallest(node["minimum"])]
    return [notation(node["pattern"])] if "pattern" in node else []


def _set_integer_format(structural: Schema) -> None:
    """Name the size of the integer; the bounds of the largest size are its own."""
    large = structural["maximum"] > _LARGEST_INT32
    structural["format"] = "int64" if large else "int32"
    if large:
        del structural["maximum"]


def _description(node: Schema) -> str:
    """Tell the default with the description, because the schema has none."""
    text = " ".join(node["description"].split())
    default = node.get("default")
    if isinstance(default, bool):
        return f"{text} Defaults to {str(default).lower()}."
    return f"{text} Defaults to {default}." if isinstance(default, str | int | float) else text


def main() -> None:
    """Write the files that are made from the models."""
    root = Path(__file__).parents[1]
    for place, text in generated_files().items():
        file = root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
