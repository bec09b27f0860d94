"""Fields are checked against the partner's own properties, and values become what those hold."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.hubspot.values import property_of, to_hubspot
from connectors.notes import ELLIPSIS, cut, length, note
from connectors.pipedrive import values as pipedrive
from connectors.properties import Kind, Property, UnfitValueError, unfit_fields

OPTIONS = [{"label": "Software & IT", "value": "SOFTWARE"}, {"label": "Food", "value": "FOOD"}]
INDUSTRY = property_of({"name": "industry", "type": "enumeration", "fieldType": "select", "options": OPTIONS})
SECTORS = property_of({"name": "sectors", "type": "enumeration", "fieldType": "checkbox", "options": OPTIONS})


def of(kind: Kind) -> Property:
    return Property("it", kind)


def test_a_property_that_is_not_there_is_told_with_the_nearest() -> None:
    properties = {"industry": INDUSTRY, "createdate": Property("createdate", Kind.TIME, read_only=True)}

    assert unfit_fields(["industri", "createdate", "industry", "zz"], properties) == [
        "no property `industri`: did you mean industry?",
        "the property `createdate` is the partner's own and cannot be set",
        "no property `zz`",
    ]


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        ("Acme", Kind.TEXT, "Acme"),
        (12, Kind.TEXT, "12"),
        (3.0, Kind.NUMBER, "3"),
        ("4.5", Kind.NUMBER, "4.5"),
        (True, Kind.BOOLEAN, "true"),
        ("FALSE", Kind.BOOLEAN, "false"),
        ("2026-03-01T22:00:00+02:00", Kind.DATE, "2026-03-01"),
        (datetime(2026, 3, 1, tzinfo=UTC), Kind.TIME, "1772323200000"),
        ("2026-03-01", Kind.TIME, "1772323200000"),
        (["a", "b"], Kind.TEXT, "a, b"),
        (None, Kind.NUMBER, ""),
        ("", Kind.DATE, ""),
    ],
)
def test_hubspot_takes_everything_as_text(value: object, kind: Kind, written: str) -> None:
    assert to_hubspot(value, of(kind)) == written  # type: ignore[arg-type]


def test_options_go_by_value_or_label() -> None:
    assert to_hubspot("software & it", INDUSTRY) == "SOFTWARE"
    assert to_hubspot("FOOD", INDUSTRY) == "FOOD"
    assert to_hubspot(["Food", "SOFTWARE"], SECTORS) == "FOOD;SOFTWARE"


@pytest.mark.parametrize(
    ("value", "of"),
    [
        ("private words", of(Kind.NUMBER)),
        (float("nan"), of(Kind.NUMBER)),
        ("inf", of(Kind.NUMBER)),
        (True, of(Kind.NUMBER)),
        ("private words", of(Kind.BOOLEAN)),
        ("private words", of(Kind.DATE)),
        (5, of(Kind.TIME)),
        ("private words", INDUSTRY),
        (["FOOD", "SOFTWARE"], INDUSTRY),
    ],
)
def test_an_unfit_value_is_told_without_itself(value: object, of: Property) -> None:
    with pytest.raises(UnfitValueError, match=of.name) as unfit:
        to_hubspot(value, of)  # type: ignore[arg-type]

    assert "private" not in str(unfit.value)


# Pipedrive --------------------------------------------------------------------------------------------------------

TIERS = [{"label": "Gold", "id": 41}, {"label": "Silver", "id": 42}]


def field(type_: str, code: str = "it") -> Property:
    return pipedrive.property_of({"field_code": code, "field_type": type_, "options": TIERS})


@pytest.mark.parametrize(
    ("value", "of", "written"),
    [
        ("Acme", field("varchar"), "Acme"),
        (12, field("varchar"), "12"),
        ("12", field("int"), 12),
        (0.5, field("double"), 0.5),
        ("2026-03-01T22:00:00+02:00", field("date"), "2026-03-01"),
        ("gold", field("enum"), 41),
        ("42", field("enum"), 42),
        (["Gold", "silver"], field("set"), [41, 42]),
        ("Ulm, DE", field("address", "address"), {"value": "Ulm, DE"}),
        (None, field("enum"), None),
        ("", field("int"), None),
    ],
)
def test_pipedrive_takes_each_type_as_json(value: object, of: Property, written: object) -> None:
    assert pipedrive.to_pipedrive(value, of) == written  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "of"),
    [("private words", field("int")), ("private words", field("enum")), (["Gold", "private"], field("set"))],
)
def test_an_unfit_value_for_pipedrive_is_told_without_itself(value: object, of: Property) -> None:
    with pytest.raises(UnfitValueError, match="it") as unfit:
        pipedrive.to_pipedrive(value, of)  # type: ignore[arg-type]

    assert "private" not in str(unfit.value)


def test_references_into_pipedrive_cannot_be_set() -> None:
    assert unfit_fields(["owner"], {"owner": field("user")}) != []


# Notes ------------------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(0, 50))
def test_a_cut_text_fits_and_is_a_beginning(text: str, limit: int) -> None:
    shortened = cut(text, limit)

    assert length(shortened) <= limit
    assert shortened == text or text.startswith(shortened.removesuffix(ELLIPSIS))


@given(st.text(max_size=40), st.lists(st.tuples(st.text(max_size=10), st.text(max_size=200))), st.integers(50, 400))
def test_a_note_fits_and_nothing_in_it_is_torn(title: str, lines: list[tuple[str, str]], limit: int) -> None:
    from html.parser import HTMLParser

    written = note(title, lines, limit)
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in {"p", "strong", "br"}
            assert attrs == []
            if tag != "br":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Reader(convert_charrefs=False).feed(written)

    assert length(written) <= limit
    assert open_tags == []


def test_markup_in_a_note_is_text() -> None:
    written = note("<script>", [("a & b", '"quoted"\n<b>')], 1000)

    assert written == ("<p><strong>&lt;script&gt;</strong></p><p>a &amp; b: &quot;quoted&quot;<br>&lt;b&gt;</p>")
