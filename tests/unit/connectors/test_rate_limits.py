"""What partners say of their limits is understood in every form that servers send, and never trusted."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.rate_limits import wait_for_budget
from connectors.retry_after import RETRY_AFTER_LIMIT

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MOMENT = int(NOW.timestamp())


def wait(headers: dict[str, str], *, refused: bool = False) -> timedelta | None:
    return wait_for_budget(headers.get, NOW, refused=refused)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"ratelimit": '"burst";r=0;t=30'}, 30),
        ({"ratelimit": '"burst";r=0;t=3, "daily";r=0;t=600'}, 600),
        ({"ratelimit": '"burst";r=0;t=3, "daily";r=50;t=600'}, 3),
        ({"ratelimit": ' "burst" ; r=0 ; pk=:YQ==: ; t=7 '}, 7),
        ({"ratelimit": '"burst";r=0', "ratelimit-policy": '"burst";q=100;w=60'}, 60),
        ({"ratelimit": "limit=100, remaining=0, reset=12"}, 12),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}, 9),
        ({"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "1.5"}, 1),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(MOMENT + 45)}, 45),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str((MOMENT + 45) * 1000)}, 45),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(MOMENT - 45)}, 0),
        ({"ratelimit": '"a";r=0;t=5', "x-ratelimit-remaining": "0", "x-ratelimit-reset": "99"}, 5),
    ],
)
def test_a_used_up_budget_says_when_it_returns(headers: dict[str, str], seconds: int) -> None:
    assert wait(headers) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit": '"burst";r=1;t=30'},
        {"ratelimit": '"burst";r=50;t=30', "x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"},
        {"ratelimit": "limit=100, remaining=3, reset=12"},
        {"ratelimit-remaining": "1", "ratelimit-reset": "9"},
        {"x-ratelimit-remaining": "20", "x-ratelimit-reset": "9"},
    ],
)
def test_what_is_left_of_a_budget_asks_for_nothing(headers: dict[str, str]) -> None:
    assert wait(headers, refused=True) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"ratelimit": ""},
        {"ratelimit": '"burst";r=0'},
        {"ratelimit": '"burst";r=0;t=soon'},
        {"ratelimit": '"burst";r=-1;t=-5'},
        {"ratelimit": '"burst";r=0;t=1e9'},
        {"ratelimit": '"burst;r=0;t=³'},
        {"x-ratelimit-remaining": "0"},
        {"x-ratelimit-remaining": "none", "x-ratelimit-reset": "9"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "tomorrow"},
    ],
)
def test_what_cannot_be_read_is_nothing(headers: dict[str, str]) -> None:
    assert wait(headers) is None


def test_a_reset_alone_counts_only_where_the_partner_has_refused() -> None:
    headers = {"x-ratelimit-reset": "9"}

    assert (wait(headers), wait(headers, refused=True)) == (None, timedelta(seconds=9))


def test_a_moment_counts_from_the_date_of_the_answer() -> None:
    date = format_datetime(NOW - timedelta(hours=1), usegmt=True)
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(MOMENT - 3600 + 20), "date": date}

    assert wait(headers) == timedelta(seconds=20)


FIELDS = ("ratelimit", "ratelimit-policy", "x-ratelimit-remaining", "x-ratelimit-reset", "date")
VALUES = st.lists(
    st.sampled_from(['"a"', ";r=0", ";t=", "remaining=0", ",", " reset=", "0", "9" * 20, "1763640000", "é", "=", "-1"]),
    max_size=6,
).map("".join)


@given(st.tuples(*([VALUES] * len(FIELDS))), st.booleans())
def test_no_header_makes_a_wait_negative_or_endless(values: tuple[str, ...], refused: bool) -> None:
    asked = wait(dict(zip(FIELDS, values, strict=True)), refused=refused)

    assert asked is None or timedelta(0) <= asked <= RETRY_AFTER_LIMIT
