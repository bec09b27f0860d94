"""The age of the oldest transaction follows from numbers seen at known times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.horizon import LOOKS, Horizon


def test_a_database_in_which_nothing_happens_has_no_old_transaction() -> None:
    horizon = Horizon()

    assert [horizon.age(now, 100, 100) for now in (0.0, 600.0, 1200.0)] == [0, 0, 0]


def test_a_number_that_is_held_ages_from_the_last_moment_at_which_it_was_to_come() -> None:
    horizon = Horizon()
    ages = [
        horizon.age(0.0, 100, 100),
        horizon.age(15.0, 100, 100),
        horizon.age(30.0, 130, 100),
        horizon.age(45.0, 160, 100),
        horizon.age(60.0, 190, 131),
        horizon.age(75.0, 220, 220),
    ]

    assert ages == [0, 0, 15, 30, 30, 0]


def test_what_is_older_than_the_first_look_is_as_old_as_that() -> None:
    horizon = Horizon()

    assert [horizon.age(now, 1000 + int(now), 7) for now in (0.0, 15.0, 400.0)] == [0, 15, 400]


def test_a_transaction_that_was_there_first_ages_though_nothing_else_happens() -> None:
    horizon = Horizon()

    assert [horizon.age(now, 100, 7) for now in (0.0, 15.0, 400.0)] == [0, 15, 400]


def test_a_server_that_took_over_with_lower_numbers_begins_anew() -> None:
    horizon = Horizon()
    before = [horizon.age(0.0, 100, 100), horizon.age(60.0, 200, 100)]
    after = [horizon.age(75.0, 150, 150), horizon.age(90.0, 160, 150), horizon.age(105.0, 170, 120)]

    assert before == [0, 60]
    assert after == [0, 15, 30]


def test_the_looks_that_are_remembered_are_bounded() -> None:
    horizon = Horizon()
    ages = [horizon.age(float(now), now, 0) for now in range(1, 2 * LOOKS)]

    assert max(ages) == LOOKS


@given(steps=st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 50)), min_size=1, max_size=50), data=st.data())
def test_an_age_is_never_more_than_was_watched_and_never_less_than_is_proven(
    steps: list[tuple[float, int]], data: st.DataObject
) -> None:
    horizon, now, following = Horizon(), 0.0, 100
    seen: list[tuple[float, int]] = []
    for passed, begun in steps:
        now, following = now + passed, following + begun
        seen.append((now, following))
        oldest = data.draw(st.integers(90, following))
        age = horizon.age(now, following, oldest)
        gone_by = min([at for at, number in seen if number > oldest], default=now)

        assert now - gone_by <= age <= now - seen[0][0]
        assert age == pytest.approx(now - max([at for at, number in seen if number <= oldest], default=seen[0][0]))
