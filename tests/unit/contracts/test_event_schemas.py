"""The committed JSON Schemas are those that the models generate, and they accept what the models accept.

`UPDATE_SCHEMAS=1 pytest tests/unit/contracts/test_event_schemas.py` writes them anew after a model has changed.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import contracts
from contracts.errors import InvalidEventError
from contracts.events import canonical_event_types, event_schemas, validate_event

FOLDER = Path(contracts.__file__).parent / "schemas"

COMPANY: dict[str, Any] = {"id": "cmp_1", "name": "Bücher GmbH", "domains": ["buecher.example"], "employees": 51}

CASES: list[tuple[str, dict[str, Any], bool]] = [
    ("company.created", COMPANY, True),
    ("company.updated", COMPANY | {"website": None, "future": {"a": 1}}, True),
    ("company.updated", COMPANY | {"domains": None}, False),
    ("company.updated", COMPANY | {"employees": -1}, False),
    ("company.updated", COMPANY | {"employees": "51"}, False),
    ("company.updated", COMPANY | {"domains": [""]}, False),
    ("company.updated", {"id": "cmp_1"}, False),
    ("company.updated", COMPANY | {"id": 1}, False),
    ("company.deleted", {"id": "cmp_1"}, True),
    ("company.deleted", {}, False),
    ("company.bookmarked", {"company": {"id": "cmp_1"}}, True),
    ("company.bookmarked", {"company": {"id": "cmp_1"}, "partner": {"provider": "HubSpot"}}, False),
    ("company.bookmarked", {"company": "cmp_1"}, False),
    (
        "signal.published",
        {
            "id": "sig_1",
            "contract": {"uri": "https://signals.example/contract", "version": "2"},
            "company": {"id": "cmp_1"},
            "signal": {"opaque": [1, 2]},
        },
        True,
    ),
    ("signal.published", {"id": "sig_1", "company": {"id": "cmp_1"}, "signal": {}}, False),
]


def written(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module", autouse=True)
def rewrite_on_request() -> None:
    if "UPDATE_SCHEMAS" not in os.environ:
        return
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, schema in event_schemas().items():
        (FOLDER / name).write_text(written(schema), encoding="utf-8")


def test_the_committed_schemas_are_the_generated_ones() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}

    assert committed == {name: written(schema) for name, schema in event_schemas().items()}


def test_there_is_a_schema_for_every_type_and_one_for_extensions() -> None:
    assert event_schemas().keys() == {each.schema_file for each in canonical_event_types()} | {"ext.v1.json"}


@pytest.mark.parametrize("name", event_schemas())
def test_a_schema_is_valid_identified_and_open(name: str) -> None:
    schema = event_schemas()[name]
    Draft202012Validator.check_schema(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"https://integrations.queast.io/schemas/{name}"
    assert schema["additionalProperties"] is True
    assert all(part["additionalProperties"] is True for part in schema.get("$defs", {}).values())


@pytest.mark.parametrize("event_type", canonical_event_types(), ids=lambda event_type: event_type.type)
def test_a_schema_requires_the_keys_of_its_type(event_type: Any) -> None:
    assert tuple(event_schemas()[event_type.schema_file]["required"]) == event_type.required_keys


@pytest.mark.parametrize(("event_type", "data", "good"), CASES)
def test_schema_and_model_agree(event_type: str, data: dict[str, Any], good: bool) -> None:
    try:
        validate_event("acme", event_type, "cmp_1", data)
        accepted = True
    except InvalidEventError:
        accepted = False

    assert accepted is good
    assert Draft202012Validator(event_schemas()[f"{event_type}.v1.json"]).is_valid(data) is good
