"""Events are checked once, before they are stored, as the JSON that is stored."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidEventError
from contracts.events import (
    MAX_DEDUPE_KEY_CHARACTERS,
    MAX_EVENT_BYTES,
    MAX_SUBJECT_CHARACTERS,
    canonical_event_types,
    is_extension_type,
    validate_event,
)

COMPANY: dict[str, Any] = {
    "id": "cmp_1",
    "name": "Bücher GmbH",
    "domains": ["buecher.example"],
    "website": "https://buecher.example",
    "linkedin": None,
    "employees": 51,
    "country": "DE",
    "city": "Berlin",
    "industry": "Publishing",
}

SIGNAL: dict[str, Any] = {
    "id": "sig_1",
    "contract": {"uri": "https://signals.example/contract", "version": "2.1.0"},
    "company": {"id": "cmp_1"},
    "signal": {"anything": [1, {"nested": None}]},
}

BOOKMARK: dict[str, Any] = {
    "company": {"id": "cmp_1", "name": "Bücher GmbH"},
    "partner": {"provider": "HubSpot", "connection": "acme/crm", "id": "512"},
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "company.bookmarked": BOOKMARK,
    "company.created": COMPANY,
    "company.deleted": {"id": "cmp_1"},
    "company.updated": COMPANY,
    "signal.published": SIGNAL,
    "ext.acme.order.paid": {"any": {"thing": 1}},
}

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(categories=["L"])), inner, max_size=3)
    ),
    max_leaves=10,
)


def refusal(event_type: str, data: Any, *, tenant: str = "acme", subject: str = "cmp_1", **more: Any) -> str:
    with pytest.raises(InvalidEventError) as caught:
        validate_event(tenant, event_type, subject, data, **more)
    return str(caught.value)


@pytest.mark.parametrize("event_type", EXAMPLES)
def test_a_good_event_comes_back_as_its_json(event_type: str) -> None:
    encoded = validate_event("acme", event_type, "cmp_1", EXAMPLES[event_type], dedupe_key="once")

    assert json.loads(encoded) == EXAMPLES[event_type]


def test_every_canonical_type_has_an_example_here() -> None:
    assert {event_type.type for event_type in canonical_event_types()} < EXAMPLES.keys()


@pytest.mark.parametrize("event_type", canonical_event_types(), ids=lambda event_type: event_type.type)
def test_required_keys_are_required(event_type: Any) -> None:
    for key in event_type.required_keys:
        data = {name: value for name, value in EXAMPLES[event_type.type].items() if name != key}

        assert f"data.{key}: is missing" in refusal(event_type.type, data)


@pytest.mark.parametrize("event_type", canonical_event_types(), ids=lambda event_type: event_type.type)
def test_keys_that_are_not_required_can_be_left_out(event_type: Any) -> None:
    data = {key: EXAMPLES[event_type.type][key] for key in event_type.required_keys}

    assert validate_event("acme", event_type.type, "cmp_1", data)


@given(JSON_VALUES)
def test_unknown_fields_are_passed_on(value: Any) -> None:
    data = COMPANY | {"future": value}

    assert json.loads(validate_event("acme", "company.updated", "cmp_1", data)) == data


@given(st.dictionaries(st.text(st.characters(categories=["L"])), JSON_VALUES, max_size=4))
def test_the_content_of_a_signal_is_not_looked_at(content: dict[str, Any]) -> None:
    data = SIGNAL | {"signal": content}

    assert json.loads(validate_event("acme", "signal.published", "cmp_1", data)) == data


@given(st.dictionaries(st.text(st.characters(categories=["L"])), JSON_VALUES, max_size=4))
def test_an_extension_takes_any_object(data: dict[str, Any]) -> None:
    assert json.loads(validate_event("acme", "ext.acme.order", "o-1", data)) == data


def test_every_problem_is_told_at_once_with_what_to_do() -> None:
    message = refusal("company.updated", {"id": "", "employees": "many"}, tenant="Acme", subject="")

    assert message == (
        "event of type 'company.updated' is refused: "
        "tenant: found 'Acme'; allowed: up to 63 lower-case letters, digits and '-', "
        "beginning and ending with a letter or digit; "
        "subject: found text of 0 characters; from 1 to 512 are allowed; "
        "data.id: found ''; at least 1 character(s) are required; "
        "data.name: is missing; a value is required; "
        "data.employees: found text; a whole number is required. "
        "Nothing was stored; correct it as https://integrations.queast.io/schemas/company.updated.v1.json "
        "describes and emit it again."
    )


def test_a_mistyped_type_is_told_the_nearest() -> None:
    assert "did you mean company.updated?" in refusal("company.updatd", COMPANY)


@pytest.mark.parametrize("name", ["ext.acme", "ext.Acme.order", "ext..order", "extra.acme.order", "ext.acme.", "order"])
def test_an_extension_names_vendor_and_event(name: str) -> None:
    assert not is_extension_type(name)
    assert "ext.<vendor>.<name>" in refusal(name, {})


@pytest.mark.parametrize("data", [None, [], "text", b"{}"])
def test_data_is_an_object(data: Any) -> None:
    assert "a JSON object is required" in refusal("ext.acme.order", data)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "cannot be written as JSON"),
        (float("inf"), "cannot be written as JSON"),
        (object(), "Object of type object is not JSON serializable"),
        ("\ud800", "half of a surrogate pair"),
        ("a\x00b", "U+0000"),
    ],
)
def test_what_cannot_be_stored_is_refused(value: Any, reason: str) -> None:
    assert reason in refusal("ext.acme.order", {"value": value})


def test_a_written_out_escape_is_not_the_nul_character() -> None:
    assert validate_event("acme", "ext.acme.order", "o-1", {"value": "\\u0000"}) == b'{"value":"\\\\u0000"}'


def test_data_that_contains_itself_is_refused() -> None:
    data: dict[str, Any] = {}
    data["self"] = data

    assert "data: " in refusal("ext.acme.order", data)


def test_data_may_be_as_large_as_the_limit() -> None:
    frame = len(b'{"v":""}')

    assert (
        len(validate_event("acme", "ext.acme.order", "o-1", {"v": "x" * (MAX_EVENT_BYTES - frame)})) == MAX_EVENT_BYTES
    )
    assert "at most 262144 are allowed" in refusal("ext.acme.order", {"v": "x" * (MAX_EVENT_BYTES - frame + 1)})


def test_the_limit_counts_bytes_and_not_characters() -> None:
    assert "at most 262144 are allowed" in refusal("ext.acme.order", {"v": "ü" * (MAX_EVENT_BYTES // 2)})


def test_subject_and_dedupe_key_may_be_as_long_as_their_limits() -> None:
    subject, key = "s" * MAX_SUBJECT_CHARACTERS, "k" * MAX_DEDUPE_KEY_CHARACTERS

    assert validate_event("acme", "ext.acme.order", subject, {}, dedupe_key=key) == b"{}"


@pytest.mark.parametrize("key", ["", "k" * (MAX_DEDUPE_KEY_CHARACTERS + 1), "a\nb"])
def test_a_malformed_dedupe_key_is_refused(key: str) -> None:
    assert "dedupe_key: " in refusal("ext.acme.order", {}, dedupe_key=key)


@pytest.mark.parametrize("subject", ["", "s" * (MAX_SUBJECT_CHARACTERS + 1), "a\x00b"])
def test_a_malformed_subject_is_refused(subject: str) -> None:
    assert "subject: " in refusal("ext.acme.order", {}, subject=subject)


@pytest.mark.parametrize("tenant", ["", "Acme", "-a", "a-", "a" * 64, "a\n", "a_b"])
def test_a_malformed_tenant_is_refused(tenant: str) -> None:
    assert "tenant: " in refusal("ext.acme.order", {}, tenant=tenant)
