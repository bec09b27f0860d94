"""A crowd lets go of the most modest first, and does not grow with those who have left."""

from dataclasses import dataclass

from delivery.crowd import Crowd


@dataclass
class Somebody:
    name: str = ""
    ticket: int = 0


def test_those_for_whom_enough_is_there_leave_the_most_modest_first() -> None:
    crowd = Crowd[Somebody]()
    for name, needed in (("six", 6), ("two", 2), ("four", 4), ("four too", 4)):
        crowd.add(Somebody(name), needed)

    assert [somebody.name for somebody in crowd.leave(5)] == ["two", "four", "four too"]
    assert crowd.needed == 6


def test_who_took_another_ticket_leaves_once() -> None:
    crowd = Crowd[Somebody]()
    somebody = Somebody()
    crowd.add(somebody, 1)
    crowd.add(somebody, 2)

    assert list(crowd.leave(5)) == [somebody]


def test_who_gave_the_ticket_back_does_not_leave_again() -> None:
    crowd = Crowd[Somebody]()
    somebody = Somebody()
    crowd.add(somebody, 1)
    somebody.ticket = 0

    assert list(crowd.leave(5)) == []


def test_a_crowd_does_not_grow_with_those_who_have_left() -> None:
    crowd = Crowd[Somebody]()
    stays, comes_and_goes = Somebody(), Somebody()
    crowd.add(stays, 3)
    for _ in range(1_000):
        crowd.add(comes_and_goes, 9)

    assert len(crowd) < 100
    assert list(crowd.leave(9)) == [stays, comes_and_goes]
