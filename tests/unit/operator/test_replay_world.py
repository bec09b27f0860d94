"""What the watches tell of replays concerns the right ones, in whatever order it comes."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from contracts.ids import ReplayUid
from integration_operator.names import ObjectKey
from integration_operator.world import Key, Kind, World

Json = dict[str, Any]
Make = Callable[..., Json]

SPEC = {"tenant": "acme", "reason": "they lost it", "selection": {"types": ["*"]}}


def key(uid: int = 1) -> Key:
    return Key(Kind.REPLAY, ObjectKey("team", str(UUID(int=uid))))


@pytest.fixture
def world() -> World:
    return World(b"k" * 32, sees_namespaces=True)


@pytest.fixture
def replay(make_body: Make) -> Make:
    def make(**metadata: Any) -> Json:
        return make_body("again", **({"spec": SPEC} | metadata))

    return make


def namespace(*tenants: str) -> Json:
    labels = {f"tenant.integrations.queast.io/{tenant}": "" for tenant in tenants}
    return {"metadata": {"name": "team", "labels": labels}}


def test_a_new_spec_and_a_deletion_are_news_and_our_own_status_is_none(world: World, replay: Make) -> None:
    seen = [
        list(world.see_replay(body))
        for body in (
            replay(),
            replay(version=2, status={"state": "Running"}),
            replay(version=3, generation=2, spec=SPEC | {"cancel": True}),
            replay(version=4, generation=3, deletionTimestamp="2026-11-20T00:00:00Z"),
        )
    ]

    assert seen == [[key()], [], [key()], [key()]]


def test_a_successor_of_the_same_name_is_another_replay(world: World, replay: Make) -> None:
    list(world.see_replay(replay()))
    successor = list(world.see_replay(replay(uid=2, version=2)))
    gone = list(world.see_replay(replay(), deleted=True))

    assert (successor, gone) == ([key(2)], [key(1)])
    assert list(world.replays) == [UUID(int=2)]


def test_a_late_answer_brings_no_deleted_replay_back(world: World, replay: Make) -> None:
    list(world.see_replay(replay()))
    list(world.see_replay(replay(version=3), deleted=True))
    late = list(world.see_replay(replay(version=2)))

    assert late == []
    assert world.replays == {}


def test_an_older_sight_changes_nothing(world: World, replay: Make) -> None:
    list(world.see_replay(replay(version=11, generation=2)))
    late = list(world.see_replay(replay(version=10)))

    assert late == []
    assert world.replays[ReplayUid(UUID(int=1))].generation == 2


def test_claims_are_not_taken_for_granted_before_they_are_known(world: World, replay: Make) -> None:
    list(world.see_replay(replay()))
    before = world.knows_claims("team")
    concerned = list(world.see_namespace(namespace("globex")))
    unclaimed = world.is_claimed(world.replays[ReplayUid(UUID(int=1))])
    again = list(world.see_namespace(namespace("acme")))

    assert not before
    assert world.knows_claims("team")
    assert (concerned, again) == ([key()], [key()])
    assert not unclaimed
    assert world.is_claimed(world.replays[ReplayUid(UUID(int=1))])
