"""Arrays are written so that PostgreSQL reads back the same values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.arrays import numbers, plain_texts


def read_numbers(literal: str) -> list[float | None]:
    inside = literal.removeprefix("{").removesuffix("}")
    return [None if item == "null" else float(item) for item in inside.split(",")] if inside else []


def read_texts(literal: str) -> list[str]:
    inside = literal.removeprefix("{").removesuffix("}")
    return inside.removeprefix('"').removesuffix('"').split('","') if inside else []


@pytest.mark.parametrize(
    ("values", "literal"),
    [
        ([], "{}"),
        ([None], "{null}"),
        ([1, None, -2], "{1,null,-2}"),
        ([0.25, None], "{0.25,null}"),
        ([-(2**63), 2**63 - 1], "{-9223372036854775808,9223372036854775807}"),
    ],
)
def test_numbers_are_written_as_an_array_literal(values: list[float | None], literal: str) -> None:
    assert numbers(values) == literal


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False))))
def test_numbers_come_back_as_they_were(values: list[float | None]) -> None:
    assert read_numbers(numbers(values)) == values


@given(st.lists(st.integers()))
def test_numbers_may_come_from_an_iterator(values: list[int]) -> None:
    assert numbers(iter(values)) == numbers(values)


@pytest.mark.parametrize(
    ("values", "literal"),
    [
        ([], "{}"),
        (["acme"], '{"acme"}'),
        (["2026-11-20 12:00:00+00", "a,b", "{c}", "null"], '{"2026-11-20 12:00:00+00","a,b","{c}","null"}'),
        (["", "acme"], '{"","acme"}'),
    ],
)
def test_texts_are_written_as_an_array_literal(values: list[str], literal: str) -> None:
    assert plain_texts(values) == literal


def test_a_single_empty_text_is_not_an_empty_array() -> None:
    assert plain_texts([""]) == '{""}'


@given(st.lists(st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs"]), min_size=1)))
def test_texts_come_back_as_they_were(values: list[str]) -> None:
    assert read_texts(plain_texts(values)) == values
