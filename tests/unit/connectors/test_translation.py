"""Whatever an event holds, a partner takes what becomes of it, or it is refused before anything is sent."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.hubspot import values as hubspot
from connectors.hubspot.simulator_records import Records as HubSpotRecords
from connectors.pipedrive import values as pipedrive
from connectors.pipedrive.simulator_records import Records as PipedriveRecords
from connectors.properties import UnfitValueError

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["2026-03-01", "2026-03-01T12:00:00Z", "12", "-1.5", "1e400", "nan", " TRUE ", "retail", "Gold", "٣"]
    ),
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.sampled_from([UTC])),
)
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=4))

OPTIONS = [{"label": "Gold Partner", "value": "gold"}, {"label": "Retail", "value": "RETAIL"}]
HUBSPOT_KINDS = {
    "text": ("string", "text"),
    "number": ("number", "number"),
    "bool": ("bool", "booleancheckbox"),
    "date": ("date", "date"),
    "datetime": ("datetime", "date"),
    "select": ("enumeration", "select"),
    "checkbox": ("enumeration", "checkbox"),
}
PIPEDRIVE_KINDS = ["varchar", "text", "int", "double", "date", "enum", "set"]


@pytest.mark.parametrize("kind", HUBSPOT_KINDS)
@given(value=VALUES)
def test_hubspot_takes_every_value_that_is_not_refused_before(kind: str, value: Any) -> None:
    records = HubSpotRecords(lambda: 1_800_000_000.0)
    type_, field_type = HUBSPOT_KINDS[kind]
    described = {
        "name": "ours",
        "label": "Ours",
        "type": type_,
        "fieldType": field_type,
        "groupName": "companyinformation",
        **({"options": OPTIONS} if type_ == "enumeration" else {}),
    }
    of = hubspot.property_of(records.create_property("companies", described))
    try:
        translated = hubspot.to_hubspot(value, of)
    except UnfitValueError:
        return
    record = records.create("companies", {"name": "Acme", "ours": "" if value is None else translated})

    assert record.properties.get("ours", "") == translated


@pytest.mark.parametrize("kind", PIPEDRIVE_KINDS)
@given(value=VALUES)
def test_pipedrive_takes_every_value_that_is_not_refused_before(kind: str, value: Any) -> None:
    records = PipedriveRecords(lambda: 1_800_000_000.0, "7000")
    options = ["Gold", "Retail"] if kind in ("enum", "set") else None
    of = pipedrive.property_of(records.create_field("Ours", kind, options))
    try:
        translated = pipedrive.to_pipedrive(value, of)
    except UnfitValueError:
        return
    made = records.write_organization({"name": "Acme", "custom_fields": {of.name: translated}})

    assert made.values["custom_fields"].get(of.name) == translated


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_clears_at_both(value: Any) -> None:
    of = hubspot.property_of({"name": "a", "type": "number", "fieldType": "number"})
    ours = pipedrive.property_of({"field_code": "a", "field_name": "A", "field_type": "double"})

    assert hubspot.to_hubspot(value, of) == ""
    assert pipedrive.to_pipedrive(value, ours) is None
