"""Retry-After is obeyed and never trusted."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.retry_after import RETRY_AFTER_LIMIT, parse_retry_after

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AN_HOUR_OFF = format_datetime(NOW - timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", timedelta(0)),
        ("120", timedelta(minutes=2)),
        (" 7 ", timedelta(seconds=7)),
        ("1.9", timedelta(seconds=1)),
        ("000000000000000000005", timedelta(seconds=5)),
        ("9" * 4000, RETRY_AFTER_LIMIT),
        ("999999999", RETRY_AFTER_LIMIT),
        ("Fri, 20 Nov 2026 12:01:30 GMT", timedelta(seconds=90)),
        ("Friday, 20-Nov-26 12:01:30 GMT", timedelta(seconds=90)),
        ("Fri Nov 20 12:01:30 2026", timedelta(seconds=90)),
        ("Fri, 20 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_LIMIT),
    ],
)
def test_seconds_and_moments_are_read(value: str, wait: timedelta) -> None:
    assert parse_retry_after(value, None, NOW) == wait


@pytest.mark.parametrize(
    "value", [None, "", "-5", "soon", "1e3", "0x10", "٣", "Fri, 99 Nov 2026 12:00:00 GMT", "12:00", "nan", "1 2 3"]
)
def test_what_cannot_be_read_is_nothing(value: str | None) -> None:
    assert parse_retry_after(value, None, NOW) is None


def test_a_moment_counts_from_the_answers_own_clock() -> None:
    moment = format_datetime(NOW - timedelta(hours=1) + timedelta(seconds=30), usegmt=True)

    assert parse_retry_after(moment, AN_HOUR_OFF, NOW) == timedelta(seconds=30)


def test_a_moment_counts_from_our_clock_if_the_answers_is_unreadable() -> None:
    moment = format_datetime(NOW + timedelta(seconds=30), usegmt=True)

    assert parse_retry_after(moment, "yesterday", NOW) == timedelta(seconds=30)


@given(st.text(max_size=60), st.none() | st.text(max_size=60))
def test_nothing_raises_and_no_wait_is_out_of_bounds(value: str, date: str | None) -> None:
    wait = parse_retry_after(value, date, NOW)

    assert wait is None or timedelta(0) <= wait <= RETRY_AFTER_LIMIT


@given(st.datetimes(), st.datetimes())
def test_any_moment_against_any_date_is_within_bounds(moment: datetime, date: datetime) -> None:
    wait = parse_retry_after(
        format_datetime(moment.replace(tzinfo=UTC), usegmt=True),
        format_datetime(date.replace(tzinfo=UTC), usegmt=True),
        NOW,
    )

    assert wait is None or timedelta(0) <= wait <= RETRY_AFTER_LIMIT
