"""What is made from the models is committed, bounded and complete."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from contracts import (
    admission_rules,
    connection,
    crm_spec,
    delivery_spec,
    plugin_spec,
    replay,
    spec_values,
    webhook_spec,
)
from contracts.custom_resource import custom_resource_definition, generated_files
from contracts.kinds import CONNECTION, KINDS, REPLAY, Kind

ROOT = Path(__file__).parents[3]


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def schema(kind: Kind) -> dict[str, Any]:
    (version,) = custom_resource_definition(kind)["spec"]["versions"]
    properties: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]
    return properties


NODES = {
    f"{kind.kind}.{path}": node
    for kind in KINDS
    for part in ("spec", "status")
    for path, node in nodes(schema(kind)[part], part)
}


@pytest.mark.parametrize("place", generated_files())
def test_what_is_committed_is_what_the_models_say(place: str) -> None:
    assert (ROOT / place).read_text() == generated_files()[place], "run: python -m contracts.custom_resource"


def test_every_string_list_and_number_is_bounded() -> None:
    unbounded = [
        path
        for path, node in NODES.items()
        if (node["type"] == "string" and not {"maxLength", "enum", "format"} & node.keys())
        or (node["type"] == "array" and "maxItems" not in node)
        or (node["type"] in ("integer", "number") and "minimum" not in node)
    ]

    assert unbounded == []


def test_every_map_is_closed() -> None:
    free = [path for path, node in NODES.items() if node.get("x-kubernetes-preserve-unknown-fields")]
    maps = {path: node for path, node in NODES.items() if node["type"] == "object" and path not in free}

    assert free == ["IntegrationConnection.spec.plugin.settings"]
    assert [path for path, node in maps.items() if not node["properties"]] == []


def test_only_the_status_has_a_default() -> None:
    assert {path: node["default"] for path, node in NODES.items() if "default" in node} == {
        f"{kind.kind}.status": {"observedGeneration": -1} for kind in KINDS
    }


def test_nothing_is_in_the_schema_that_is_not_structural() -> None:
    known = {
        "type", "format", "enum", "default", "description", "properties", "items", "required", "minLength",
        "maxLength", "minItems", "maxItems", "minimum", "maximum", "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-validations",
        "x-kubernetes-preserve-unknown-fields", "maxProperties",
    }  # fmt: skip

    assert {key for node in NODES.values() for key in node} <= known


def test_no_pattern_makes_the_server_repeat_a_value() -> None:
    assert [path for path, node in NODES.items() if "pattern" in node] == []


def test_every_list_and_every_field_says_what_it_is_for() -> None:
    assert [path for path, node in NODES.items() if not node.get("description") and not path.endswith("[]")] == []


def test_every_notation_and_duration_has_a_rule() -> None:
    written = {
        f"{kind.kind}.{path}"
        for kind in KINDS
        for root, written_schema in (("spec", kind.spec()), ("status", kind.status()))
        for path, node in nodes(written_schema, root)
        if {"pattern", "x-duration-bounds"} & node.keys() or node["type"] == "number"
    }

    assert written
    assert {path for path in written if not NODES[path].get("x-kubernetes-validations")} == set()


def test_every_model_that_compares_fields_has_a_rule() -> None:
    comparing = {
        name
        for module in (connection, crm_spec, delivery_spec, plugin_spec, replay, spec_values, webhook_spec)
        for name, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, BaseModel) and model.__pydantic_decorators__.model_validators
    }
    with_rules = admission_rules.OBJECT_RULES.keys() | {title for title, _ in admission_rules.FIELD_RULES}
    # Names of routes and of a plug-in's secrets are the key of their list; the specs of providers are one object.
    others = {name for name in comparing if name.endswith("ConnectionSpec")} | {"PluginSettings"}

    assert comparing - others <= with_rules


def test_every_rule_is_used() -> None:
    used = {rule["rule"] for node in NODES.values() for rule in node.get("x-kubernetes-validations", ())}
    tables = [*admission_rules.OBJECT_RULES.values(), *admission_rules.FIELD_RULES.values()]

    assert {rule["rule"] for rules in tables for rule in rules} <= used


@pytest.mark.parametrize("kind", KINDS, ids=[kind.kind for kind in KINDS])
def test_the_definition_fits_into_an_annotation(kind: Kind) -> None:
    assert len(json.dumps(custom_resource_definition(kind))) < 262_144


def test_of_a_replay_only_what_ends_it_can_change() -> None:
    fields = set(schema(REPLAY)["spec"]["properties"])

    assert fields - set(replay.FIXED_FIELDS) == {"cancel", "ttlAfterFinished"}


def test_descriptions_tell_the_defaults() -> None:
    spec = dict(nodes(schema(CONNECTION)["spec"], "spec"))

    assert spec["spec.delivery.timeout"]["description"] == "Time that one attempt may take. Defaults to 15s."
    assert spec["spec.suspend"]["description"].endswith("Defaults to false.")
    assert "Defaults" not in spec["spec.routes[].filter"]["description"]


def test_lists_of_named_things_are_merged_by_name() -> None:
    keys = {
        path: node["x-kubernetes-list-map-keys"] for path, node in NODES.items() if "x-kubernetes-list-map-keys" in node
    }

    assert keys == {
        "IntegrationConnection.spec.plugin.secretsFrom": ["name"],
        "IntegrationConnection.spec.routes": ["name"],
        "IntegrationConnection.spec.routes[].fields": ["property"],
        "IntegrationConnection.spec.webhook.headers": ["name"],
        "IntegrationConnection.status.conditions": ["type"],
        "IntegrationReplay.status.conditions": ["type"],
    }
