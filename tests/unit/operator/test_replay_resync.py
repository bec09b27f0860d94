"""What watches missed of replays is found by comparing, and what goes on for objects that are gone is ended."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

import pytest

from contracts.ids import ReplayUid
from integration_operator.errors import ApiServerUnreachableError, NotFoundError
from integration_operator.kube import Json
from integration_operator.replay_resync import ReplayResync
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, World

Make = Callable[..., Json]

SPEC = {"tenant": "acme", "reason": "they lost it", "selection": {"types": ["*"]}}


class Api:
    """An API server that has some replays."""

    def __init__(self, *bodies: Json) -> None:
        self.bodies = {body["metadata"]["name"]: body for body in bodies}
        self.away = False

    async def get(self, path: str) -> Json:
        if self.away:
            raise ApiServerUnreachableError("no answer")
        try:
            return self.bodies[path.rpartition("/")[2]]
        except KeyError:
            raise NotFoundError("404") from None

    @property
    def listed(self) -> dict[ReplayUid, Json]:
        return {ReplayUid(UUID(each["metadata"]["uid"])): each for each in self.bodies.values()}


class Unfinished:
    """A database in which these replays go on, of the namespace `team` and of another."""

    def __init__(self, *uids: int) -> None:
        self._found = [(ReplayUid(UUID(int=uid)), "team" if uid < 10 else "other", "again") for uid in uids]

    async def once(self, work: Any) -> Any:
        del work
        return self._found


@pytest.fixture
def replay(make_body: Make) -> Make:
    def make(name: str = "again", **metadata: Any) -> Json:
        return make_body(name, **({"spec": SPEC} | metadata))

    return make


def compare(
    api: Api, world: World, *unfinished: int, first: bool = False, namespaces: tuple[str, ...] = ()
) -> tuple[int, list[int], tuple[int, int]]:
    """Compare; return how much was missed, which uids the world has then, and how many keys are queued."""

    async def run() -> tuple[int, list[int], tuple[int, int]]:
        queue: WorkQueue[Key] = WorkQueue(Random(0))
        resync = ReplayResync(api, world, queue, Unfinished(*unfinished), namespaces)  # type: ignore[arg-type]
        missed = await resync.compare(api.listed, first=first)
        depths = queue.depth(Lane.CHANGED), queue.depth(Lane.RESYNC)
        return missed, sorted(uid.int for uid in world.replays), depths

    return asyncio.run(run())


@pytest.fixture
def world() -> World:
    return World(b"k" * 32, sees_namespaces=True)


def test_what_nobody_told_of_is_taken_in(world: World, replay: Make) -> None:
    list(world.see_replay(replay("old", uid=2)))
    api = Api(replay("new"), replay("old", uid=2, version=2, generation=2))

    assert compare(api, world) == (2, [1, 2], (2, 0))


def test_what_is_known_is_left_alone_but_at_first(world: World, replay: Make) -> None:
    list(world.see_replay(replay(status={"observedGeneration": 1})))
    list(world.see_replay(replay("fresh", uid=2)))
    api = Api(replay(), replay("fresh", uid=2))

    assert compare(api, world) == (0, [1, 2], (0, 0))
    assert compare(api, world, first=True) == (0, [1, 2], (1, 1))


def test_what_is_gone_is_found_also_when_it_has_a_successor(world: World, replay: Make) -> None:
    list(world.see_replay(replay("gone", uid=1)))
    list(world.see_replay(replay("replaced", uid=2)))
    api = Api(replay("replaced", uid=3, version=5))

    assert compare(api, world) == (3, [3], (3, 0))


def test_an_api_server_that_is_away_says_nothing_about_what_is_gone(world: World, replay: Make) -> None:
    list(world.see_replay(replay()))
    api = Api()
    api.away = True

    assert compare(api, world) == (0, [1], (0, 0))


def test_what_goes_on_for_an_object_that_is_gone_is_looked_at(world: World, replay: Make) -> None:
    list(world.see_replay(replay()))

    assert compare(Api(replay()), world, 1, 2, 11) == (0, [1], (0, 2))
    assert compare(Api(replay()), world, 1, 2, 11, namespaces=("team",)) == (0, [1], (0, 1))
