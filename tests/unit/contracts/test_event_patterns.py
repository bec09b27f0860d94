"""A pattern selects exactly the event types that it says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.patterns import EVENT_TYPE, EVENT_TYPE_LIMIT, EVENT_TYPE_PATTERN, compile_patterns, is_event_type

WORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True)
TYPES = st.lists(WORDS, min_size=2, max_size=5).map(".".join)


@given(TYPES)
def test_an_exact_pattern_selects_its_type(event_type: str) -> None:
    assert compile_patterns([event_type])(event_type)


@given(TYPES, TYPES)
def test_an_exact_pattern_selects_no_other_type(pattern: str, event_type: str) -> None:
    assert compile_patterns([pattern])(event_type) == (pattern == event_type)


@given(TYPES)
def test_a_star_selects_every_type(event_type: str) -> None:
    assert compile_patterns(["*"])(event_type)


@given(TYPES, TYPES)
def test_a_prefix_selects_everything_below_it(prefix: str, rest: str) -> None:
    assert compile_patterns([f"{prefix}.*"])(f"{prefix}.{rest}")


@given(TYPES)
def test_a_prefix_does_not_select_itself(prefix: str) -> None:
    assert not compile_patterns([f"{prefix}.*"])(prefix)


@given(st.lists(TYPES, max_size=4), TYPES)
def test_several_patterns_select_what_any_of_them_selects(patterns: list[str], event_type: str) -> None:
    together = compile_patterns(patterns)(event_type)

    assert together == any(compile_patterns([pattern])(event_type) for pattern in patterns)


def test_a_prefix_ends_at_a_whole_word() -> None:
    assert not compile_patterns(["company.*"])("companywide.updated")


def test_no_pattern_selects_nothing() -> None:
    assert not compile_patterns([])("company.updated")


@given(TYPES)
def test_every_type_is_also_a_pattern(event_type: str) -> None:
    assert is_event_type(event_type)
    assert re.search(EVENT_TYPE, event_type)
    assert re.search(EVENT_TYPE_PATTERN, event_type)


@pytest.mark.parametrize("name", ["", "company", "Company.updated", "company..updated", "a.b\n", "1a.b", "a.*", "é.b"])
def test_a_malformed_name_is_no_event_type(name: str) -> None:
    assert not is_event_type(name)


def test_a_name_can_be_too_long_for_an_event_type() -> None:
    assert is_event_type("a." + "b" * (EVENT_TYPE_LIMIT - 2))
    assert not is_event_type("a." + "b" * (EVENT_TYPE_LIMIT - 1))


@pytest.mark.parametrize("pattern", ["", "company", "*.updated", "company*", "company.*.x", "**", ".*", "Company.*"])
def test_malformed_patterns_do_not_match_the_schema(pattern: str) -> None:
    assert not re.fullmatch(EVENT_TYPE_PATTERN.strip("^$"), pattern)


@pytest.mark.parametrize("pattern", ["*", "company.*", "company.updated", "ext.acme.*"])
def test_well_formed_patterns_match_the_schema(pattern: str) -> None:
    assert re.search(EVENT_TYPE_PATTERN, pattern)
