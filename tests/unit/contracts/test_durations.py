"""Durations survive being written and read, and everything else is refused with an explanation."""

import re
from datetime import timedelta
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.durations import DURATION_PATTERN, Duration, DurationBounds, format_duration, parse_duration
from contracts.errors import MalformedDurationError

WRITABLE = st.integers(min_value=0, max_value=100_000 * 3_600_000 - 1).map(
    lambda number: timedelta(milliseconds=number)
)
TERMS = st.lists(st.tuples(st.integers(0, 99_999), st.sampled_from(["h", "m", "s", "ms"])), min_size=1, max_size=4)
UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


@given(WRITABLE)
def test_a_duration_survives_a_round_trip(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(WRITABLE)
def test_every_written_duration_matches_the_pattern_of_the_schema(duration: timedelta) -> None:
    assert re.search(DURATION_PATTERN, format_duration(duration))


@given(TERMS)
def test_a_duration_is_the_sum_of_its_terms(terms: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in terms)

    assert parse_duration(text) == timedelta(milliseconds=sum(number * UNITS[unit] for number, unit in terms))


@given(st.text(alphabet="0123456789hms .-+µ", max_size=12))
def test_parser_and_schema_pattern_accept_the_same_text(text: str) -> None:
    try:
        parse_duration(text)
        accepted = True
    except MalformedDurationError:
        accepted = False

    assert accepted == bool(re.fullmatch(DURATION_PATTERN.strip("^$"), text))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("15s", timedelta(seconds=15)),
        ("1h30m", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("0s", timedelta()),
    ],
)
def test_durations_read_and_write_as_people_expect(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert format_duration(duration) == text


@pytest.mark.parametrize("text", ["", "15", "-1s", "1.5h", "1d", " 1s", "1s\n", "1h1h1h1h1h", "100000s", "\u0661s"])
def test_text_that_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(MalformedDurationError, match="such as 15s, 1h30m or 250ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    "duration", [timedelta(microseconds=1), timedelta(seconds=-1), timedelta(hours=100_000), timedelta.max]
)
def test_a_duration_without_a_notation_is_not_written(duration: timedelta) -> None:
    with pytest.raises(MalformedDurationError, match="whole number of milliseconds"):
        format_duration(duration)


def test_bounds_are_inclusive() -> None:
    bounded: TypeAdapter[timedelta] = TypeAdapter(Annotated[Duration, DurationBounds("1s", "1m")])

    assert bounded.validate_python("1s") == timedelta(seconds=1)
    assert bounded.validate_python("60s") == timedelta(minutes=1)


@pytest.mark.parametrize("text", ["999ms", "60001ms"])
def test_a_duration_out_of_bounds_is_told_the_bounds(text: str) -> None:
    bounded: TypeAdapter[timedelta] = TypeAdapter(Annotated[Duration, DurationBounds("1s", "1m")])

    with pytest.raises(ValidationError, match="from 1s to 1m"):
        bounded.validate_python(text)


def test_a_number_is_no_duration() -> None:
    with pytest.raises(ValidationError, match="text with a unit"):
        TypeAdapter(Duration).validate_python(15)
