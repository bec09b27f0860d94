"""What partners tell of is read as they document it, and whatever else is sent is refused and breaks nothing."""

from collections.abc import Callable
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.hubspot.webhooks import read_events
from connectors.inbound import ChangeKind, InboundChange, Told, UnreadableError
from connectors.pipedrive.webhooks import read_event

CHANGE: Final = {
    "eventId": 100,
    "subscriptionId": 2,
    "portalId": 62515,
    "appId": 54321,
    "occurredAt": 1_800_000_000_123,
    "subscriptionType": "company.propertyChange",
    "attemptNumber": 0,
    "objectId": 42,
    "propertyName": "queast_interest",
    "propertyValue": "true",
    "changeSource": "CRM_UI",
    "sourceId": "userId:1",
}
META: Final = {
    "action": "change",
    "entity": "organization",
    "entity_id": "42",
    "company_id": "7000",
    "id": "4a5b",
    "timestamp": "2027-01-15T08:00:00Z",
    "user_id": "1",
    "change_source": "app",
    "attempt": 1,
}


def hubspot(*events: dict[str, Any], app_id: str | None = None) -> Told:
    return read_events(orjson.dumps(events), app_id)


def pipedrive(
    data: object = None, previous: object = None, *, user_id: str | None = None, **meta: Any
) -> tuple[InboundChange, ...]:
    body = {"meta": {**META, **meta}, "data": data, "previous": previous}
    return tuple(read_event(orjson.dumps(body), user_id).changes)


# HubSpot --------------------------------------------------------------------------------------------------------------


def test_a_property_that_changed_at_hubspot_is_told_with_its_value() -> None:
    (change,) = hubspot(CHANGE).changes

    assert change._replace(key="") == (
        "",
        ChangeKind.CHANGED,
        "42",
        1_800_000_000.123,
        "queast_interest",
        "true",
        None,
        False,
    )


def test_an_event_that_hubspot_sends_again_has_the_same_key() -> None:
    again = {**CHANGE, "eventId": 7_000, "attemptNumber": 3}

    assert len(hubspot(CHANGE, again).changes) == 1
    assert hubspot(CHANGE).changes[0].key == hubspot(again).changes[0].key


@pytest.mark.parametrize(
    "other",
    [
        {"portalId": 1},
        {"subscriptionId": 3},
        {"subscriptionType": "company.creation"},
        {"objectId": 43},
        {"propertyName": "name"},
        {"propertyValue": "false"},
        {"propertyValue": None},
        {"occurredAt": 1_800_000_000_124},
    ],
)
def test_what_differs_in_anything_has_another_key(other: dict[str, Any]) -> None:
    assert len({change.key for change in hubspot(CHANGE, {**CHANGE, **other}).changes}) == 2


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("company.creation", ChangeKind.CREATED),
        ("company.restore", ChangeKind.CREATED),
        ("company.deletion", ChangeKind.DELETED),
        ("company.privacyDeletion", ChangeKind.DELETED),
    ],
)
def test_what_happened_to_a_company_at_hubspot_is_told(said: str, kind: ChangeKind) -> None:
    (change,) = hubspot({**CHANGE, "subscriptionType": said}).changes
    (generic,) = hubspot(
        {**CHANGE, "subscriptionType": said.replace("company", "object"), "objectTypeId": "0-2"}
    ).changes

    assert (change.kind, change.remote_id, change.property, change.value) == (kind, "42", None, None)
    assert (generic.kind, generic.remote_id) == (kind, "42")


def test_a_merge_at_hubspot_tells_of_each_company_where_it_went() -> None:
    merge = {
        **CHANGE,
        "subscriptionType": "company.merge",
        "primaryObjectId": 42,
        "mergedObjectIds": [43, 44],
        "newObjectId": 99,
    }
    into_itself = {**merge, "newObjectId": 42}

    assert {(each.kind, each.remote_id, each.into) for each in hubspot(merge).changes} == {
        (ChangeKind.MERGED, "42", "99"),
        (ChangeKind.MERGED, "43", "99"),
        (ChangeKind.MERGED, "44", "99"),
    }
    assert {(each.remote_id, each.into) for each in hubspot(into_itself).changes} == {("43", "42"), ("44", "42")}


def test_what_our_own_app_wrote_to_hubspot_is_an_echo() -> None:
    ours = {**CHANGE, "changeSource": "INTEGRATION", "sourceId": "54321"}

    assert [hubspot(ours, app_id=app).changes[0].echo for app in ("54321", "1", None)] == [True, False, False]
    assert not hubspot(CHANGE, app_id="54321").changes[0].echo


def test_events_about_others_are_counted() -> None:
    contact = {**CHANGE, "subscriptionType": "contact.creation"}
    deal = {**CHANGE, "subscriptionType": "object.creation", "objectTypeId": "0-3"}

    assert hubspot(contact, deal) == Told((), 2)


# Pipedrive ------------------------------------------------------------------------------------------------------------


def test_each_field_that_changed_at_pipedrive_is_a_change() -> None:
    data = {"id": 42, "name": "Acme", "website": "acme.example", "custom_fields": {"c0ffee": "yes", "beef": None}}
    changes = pipedrive(data, {"website": None, "custom_fields": {"c0ffee": None, "beef": "old"}})

    assert {(each.property, each.value) for each in changes} == {
        ("website", "acme.example"),
        ("c0ffee", "yes"),
        ("beef", None),
    }
    assert {(each.kind, each.remote_id, each.occurred_at) for each in changes} == {
        (ChangeKind.CHANGED, "42", 1_800_000_000.0)
    }
    assert len({each.key for each in changes}) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"type": "varchar", "value": "yes"}, "yes"),
        ({"type": "enum", "id": 5}, "5"),
        ({"type": "set", "values": [{"id": 5}, {"id": 7}]}, "5,7"),
        ({"type": "monetary", "value": 1.5, "currency": "EUR"}, "1.5"),
        (True, "true"),
        (0, "0"),
        ("", None),
        ([], None),
        ({}, None),
    ],
)
def test_a_field_of_pipedrive_is_told_as_text(value: object, text: str | None) -> None:
    (change,) = pipedrive({"custom_fields": {"c0ffee": value}}, {"custom_fields": {"c0ffee": None}})

    assert change.value == text


def test_a_new_organisation_is_told_with_what_it_was_made_with() -> None:
    made, named = pipedrive({"id": 42, "name": "Acme"}, action="create")

    assert made.kind is ChangeKind.CREATED
    assert (named.property, named.value) == ("name", "Acme")


def test_an_organisation_that_is_gone_is_told_with_where_it_went() -> None:
    (deleted,) = pipedrive(None, {"name": "Acme"}, action="delete")
    (merged,) = pipedrive(None, {"name": "Acme"}, action="delete", merged_to_id="43")

    assert (deleted.kind, deleted.into) == (ChangeKind.DELETED, None)
    assert (merged.kind, merged.into) == (ChangeKind.MERGED, "43")


def test_what_our_own_user_wrote_through_the_api_is_an_echo() -> None:
    asked = {"data": {"name": "Acme"}, "previous": {"name": "Old"}}
    echoes = [
        pipedrive(**asked, user_id=ours, change_source=source)[0].echo
        for ours, source in (("1", "api"), ("1", "app"), ("2", "api"), (None, "api"))
    ]

    assert echoes == [True, False, False, False]


def test_a_try_that_comes_again_has_the_same_key() -> None:
    first, again = (pipedrive(None, None, action="delete", attempt=attempt)[0].key for attempt in (1, 2))

    assert first == again


# Anything -------------------------------------------------------------------------------------------------------------


def dumped(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):  # an integer or a surrogate that JSON has no place for
        return b"null"


_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_ALMOST_HUBSPOT: Final = st.lists(
    st.builds(lambda name, value: {**CHANGE, name: value}, st.sampled_from([*CHANGE, "mergedObjectIds"]), _JSON),
    max_size=3,
)
_ALMOST_PIPEDRIVE: Final = st.builds(
    lambda name, value, data, previous: {"meta": {**META, name: value}, "data": data, "previous": previous},
    st.sampled_from([*META, "merged_to_id"]),
    _JSON,
    _JSON,
    _JSON,
)


@pytest.mark.parametrize("read", [read_events, read_event])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary() | (_JSON | _ALMOST_HUBSPOT | _ALMOST_PIPEDRIVE).map(dumped))
def test_any_body_is_read_or_refused(read: Callable[[bytes], Told], body: bytes) -> None:
    try:
        told = read(body)
    except UnreadableError:
        return

    assert len({each.key for each in told.changes}) == len(told.changes)
    assert all(each.remote_id.isdecimal() for each in told.changes)


@pytest.mark.parametrize("read", [read_events, read_event])
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 1_000_000, b"\xff\xfe", b"NaN", b""])
def test_a_body_that_is_meant_to_hurt_is_refused(read: Callable[[bytes], Told], body: bytes) -> None:
    with pytest.raises(UnreadableError):
        read(body)


def test_a_refusal_says_where_and_not_what() -> None:
    with pytest.raises(UnreadableError) as hubspots:
        hubspot({**CHANGE, "occurredAt": "confidential"})
    with pytest.raises(UnreadableError) as pipedrives:
        pipedrive(entity_id="confidential")

    assert str(hubspots.value) == "HubSpot's events: 0.occurredAt: int_type"
    assert str(pipedrives.value) == "Pipedrive's event: meta.entity_id: string_pattern_mismatch"
