"""A route's fields: what is set, what is cleared, what is left alone, and what is told of a failure."""

from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.connection import parse_connection_spec
from contracts.delivery_spec import FieldEntry
from contracts.errors import InvalidSpecError
from contracts.fields import FieldFailedError, FieldMapping, InvalidFieldError, check_field

SECRET = "only-for-the-customer"

DATA: dict[str, Any] = {
    "name": " Grünwald & Söhne ",
    "industry": None,
    "employees": 12,
    "score": 0.5,
    "listed": True,
    "domains": ["a.example", "b.example"],
    "founded": "1899-12-31T00:00:00Z",
    "secret": SECRET,
}


def evaluated(value: str, data: dict[str, Any] = DATA) -> dict[str, object]:
    mapping = FieldMapping([FieldEntry(property="it", value=value)])
    return dict(mapping.evaluate({"type": "company.updated", "subject": "c-1", "tenant": "acme", "data": data}))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("event.data.name.trim()", "Grünwald & Söhne"),
        ("event.data.employees", 12),
        ("event.data.score", 0.5),
        ("event.data.listed", True),
        ("event.data.industry", None),
        ("event.data.domains", ["a.example", "b.example"]),
        ("event.data.domains.join(';')", "a.example;b.example"),
        ("event.data.domains[0].upperAscii()", "A.EXAMPLE"),
        ("timestamp(event.data.founded)", datetime(1899, 12, 31, tzinfo=UTC)),
        ("has(event.data.size) ? event.data.size : 'unknown'", "unknown"),
        ("event.data.employees > 10 ? 'large' : null", "large"),
        ("event.subject", "c-1"),
        ("event.data.employees.trim()", 12),
    ],
)
def test_an_expression_sets_a_value(expression: str, value: object) -> None:
    assert evaluated(expression) == {"it": value}


@pytest.mark.parametrize("expression", ["event.data.city", "event.data.address.city", "event.data.domains[2]"])
def test_what_the_event_does_not_have_is_left_alone(expression: str) -> None:
    assert evaluated(expression) == {}


@pytest.mark.parametrize(
    "expression",
    [
        "event.data.secret + 1",
        "int(event.data.secret)",
        "{'a': event.data.secret}",
        "[[event.data.secret]]",
        "[event.data.secret, null]",
        "timestamp(event.data.secret)",
        "duration('1h')",
        "b'bytes'",
    ],
)
def test_a_failure_names_the_property_and_quotes_nothing(expression: str) -> None:
    with pytest.raises(FieldFailedError, match="property it") as failed:
        evaluated(expression)

    assert SECRET not in str(failed.value)


@pytest.mark.parametrize("expression", ["event.data.", "evnt.data.name", "shout(event.subject)", "1 +"])
def test_an_expression_that_never_works_is_refused_beforehand(expression: str) -> None:
    with pytest.raises(InvalidFieldError):
        check_field(expression)


@pytest.mark.parametrize("expression", ["event.data.name", "event.data.a.b[3].trim()", "size(event.data.domains) + 1"])
def test_an_expression_that_only_misses_data_is_accepted(expression: str) -> None:
    check_field(expression)


def test_a_property_is_mapped_once() -> None:
    field = {"property": "name", "value": "event.subject"}
    route = {"name": "all", "events": ["company.updated"], "fields": [field, field]}
    auth = {"privateApp": {"tokenFrom": {"name": "crm", "key": "token"}}}
    with pytest.raises(InvalidSpecError, match="repeated: name"):
        parse_connection_spec({"tenant": "acme", "provider": "HubSpot", "hubspot": {"auth": auth}, "routes": [route]})
