"""Logs are one JSON object a line, whatever is logged."""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs.logs import JsonLines


def formatted(message: str, *arguments: object, extra: dict[str, object] | None = None, **more: Any) -> str:
    logger = logging.Logger("delivery.test")
    record = logger.makeRecord(
        logger.name, logging.WARNING, "test.py", 1, message, arguments, more.get("exc_info"), extra=extra
    )
    return JsonLines("worker").format(record)


def failure(error: ValueError) -> Any:
    try:
        raise error
    except ValueError:
        return sys.exc_info()


def test_a_line_says_what_happened_and_where() -> None:
    line = json.loads(formatted("lane %s opened", 7))

    assert {key: line[key] for key in ("level", "program", "message")} == {
        "level": "WARNING",
        "program": "worker",
        "message": "lane 7 opened",
    }


def test_a_line_holds_nothing_that_nobody_asked_for() -> None:
    assert json.loads(formatted("hello")).keys() == {"time", "level", "program", "message"}


def test_the_time_is_that_of_the_record_with_its_zone() -> None:
    before = datetime.now(UTC).replace(microsecond=0)

    written = datetime.fromisoformat(json.loads(formatted("hello"))["time"])

    assert before <= written <= datetime.now(UTC)


@given(st.text())
def test_a_message_of_any_text_stays_on_one_line(message: str) -> None:
    line = formatted("%s", message)

    assert "\n" not in line
    assert json.loads(line)["message"] == message


@given(st.dictionaries(st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=9), st.text()))
def test_extra_fields_are_part_of_the_object(extra: dict[str, str]) -> None:
    line = json.loads(formatted("hello", extra=dict(extra)))

    assert {key: line[key] for key in extra} == extra


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (7, 7),
        (None, None),
        ([1, "two"], [1, "two"]),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("secrets"), "secrets"),
        ({1: "one"}, {"1": "one"}),
        (ValueError("odd"), "odd"),
    ],
)
def test_an_extra_field_may_be_of_any_type(value: object, written: object) -> None:
    assert json.loads(formatted("hello", extra={"detail": value}))["detail"] == written


@pytest.mark.parametrize("value", [2**64, "broken \udcff", {"a": 2**64}], ids=["large", "surrogate", "large inside"])
def test_an_extra_field_that_json_cannot_take_as_it_is_does_not_lose_the_line(value: object) -> None:
    assert json.loads(formatted("hello", extra={"detail": value}))["message"] == "hello"


def test_a_message_with_bytes_that_were_no_text_is_not_lost() -> None:
    assert json.loads(formatted("cannot read %s", "file-\udcff"))["message"].startswith("cannot read file-")


def test_an_exception_is_written_as_its_traceback() -> None:
    line = json.loads(formatted("it failed", exc_info=failure(ValueError("odd number"))))

    assert line["traceback"].startswith("Traceback (most recent call last):")
    assert line["traceback"].endswith("ValueError: odd number")


def test_a_traceback_stays_on_one_line() -> None:
    assert "\n" not in formatted("it failed", exc_info=failure(ValueError("two\nlines")))


def test_a_traceback_shows_no_values_of_variables() -> None:
    credential = "-".join(("very", "private"))

    def use(value: str) -> None:
        raise ValueError(len(value))

    try:
        use(credential)
    except ValueError:
        line = formatted("it failed", exc_info=sys.exc_info())

    assert credential not in line
