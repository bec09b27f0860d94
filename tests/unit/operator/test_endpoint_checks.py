"""Requests for tests are carried out once each, a few at once, and whatever happens to the pod is an answer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from integration_operator import endpoint_checks
from integration_operator.conclusion import EndedCheck
from integration_operator.endpoint_checks import AT_ONCE, LONGEST, EndpointChecks
from integration_operator.errors import ApiServerUnreachableError, ConflictError, ForbiddenError, NotFoundError
from integration_operator.names import ObjectKey
from integration_operator.observed import ConnectionObject, connection_of
from integration_operator.settings import OperatorSettings
from integration_operator.work_queue import WorkQueue
from integration_operator.world import Key, World

Json = dict[str, Any]
Make = Callable[..., Json]

POOL = ObjectKey("team", "pool")
DONE = {
    "phase": "Succeeded",
    "containerStatuses": [
        {
            "state": {
                "terminated": {
                    "message": '{"passed": true, "steps": [{'
                    '"name": "status", "passed": true, "seconds": 0.1, "found": "HTTP 204", "advice": ""}]}'
                }
            }
        }
    ],
}


class FakeKube:
    """Pods that end when a test says so; `refusals` come first."""

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.made = 0
        self.refusals: list[Exception] = []

    async def create(self, path: str, body: Json) -> Json:
        if self.refusals:
            raise self.refusals.pop(0)
        name = f"{path}/{body['metadata']['name']}"
        if name in self.pods:
            raise ConflictError("it exists")
        self.made += 1
        self.pods[name] = body | {"status": {}}
        return self.pods[name]

    async def get(self, path: str) -> Json:
        await asyncio.sleep(0)
        if path not in self.pods:
            raise NotFoundError("no pod")
        return self.pods[path]

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        self.pods.pop(path, None)

    async def list(self, path: str, **_: object) -> Any:
        for name in [*self.pods]:
            if name.startswith("/api/v1/namespaces"):
                yield self.pods[name]

    def end(self) -> None:
        for pod in self.pods.values():
            pod["status"] = DONE


class Scene:
    """Checks of one term on a fake API server."""

    def __init__(self, settings: OperatorSettings, kube: FakeKube) -> None:
        self.kube = kube
        self.world = World(b"key", sees_namespaces=False)
        self.queue: WorkQueue[Key] = WorkQueue(Random(1))
        self.checks = EndpointChecks(kube, self.world, self.queue, settings)  # type: ignore[arg-type]
        self._running = asyncio.create_task(self.checks.run())

    def ask(self, connection: ConnectionObject, answered: EndedCheck | None = None) -> None:
        self.checks.consider(connection, POOL, answered)

    async def ended(self, connection: ConnectionObject) -> EndedCheck:
        while (found := self.checks.ended(connection.uid)) is None:
            await asyncio.sleep(0.1)
        return found

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


@pytest.fixture
def requested(make_body: Make) -> Callable[..., ConnectionObject]:
    def make(request: str | None = "one", *, uid: int = 1, handled: str | None = None) -> ConnectionObject:
        annotations = {} if request is None else {"integrations.queast.io/testAt": request}
        status = {"lastHandledTestAt": handled} if handled else None
        return connection_of(make_body(f"c-{uid}", uid=uid, annotations=annotations, status=status))

    return make


@pytest.fixture
def play(run_fast: Callable[..., Any], settings: OperatorSettings) -> Callable[[Callable[[Scene], Any], FakeKube], Any]:
    def run(story: Callable[[Scene], Any], kube: FakeKube) -> Any:
        async def scene() -> Any:
            playing = Scene(settings, kube)
            try:
                return await story(playing)
            finally:
                await playing.close()

        return run_fast(scene)

    return run


Play = Callable[[Callable[[Scene], Any], FakeKube], Any]
Requested = Callable[..., ConnectionObject]


def test_a_request_makes_one_pod_however_often_it_is_looked_at(play: Play, requested: Requested) -> None:
    async def story(scene: Scene) -> EndedCheck:
        for _ in range(3):
            scene.ask(requested())
            await asyncio.sleep(5)
        scene.kube.end()
        ended = await scene.ended(requested())
        scene.ask(requested())
        await scene.checks.told(requested())
        scene.ask(requested(), ended)
        scene.ask(requested(handled="one"))
        await asyncio.sleep(5)
        return ended

    kube = FakeKube()
    ended = play(story, kube)

    assert (ended.request, ended.result.passed) == ("one", True)
    assert (kube.made, kube.pods) == (1, {})


def test_a_connection_that_asks_for_nothing_gets_none(play: Play, requested: Requested) -> None:
    async def story(scene: Scene) -> None:
        scene.ask(requested(None))
        scene.ask(requested("one", handled="one"))
        await asyncio.sleep(5)

    kube = FakeKube()
    play(story, kube)

    assert kube.made == 0


def test_a_next_leader_reads_the_pod_that_the_former_one_made(play: Play, requested: Requested) -> None:
    async def asking(scene: Scene) -> None:
        scene.ask(requested())
        await asyncio.sleep(5)

    async def answering(scene: Scene) -> bool:
        scene.ask(requested())
        return (await scene.ended(requested())).result.passed

    kube = FakeKube()
    play(asking, kube)
    kube.end()

    assert play(answering, kube) is True
    assert kube.made == 1


def test_a_next_leader_deletes_the_pod_of_a_request_that_was_answered(play: Play, requested: Requested) -> None:
    async def asking(scene: Scene) -> None:
        scene.ask(requested())
        scene.ask(requested(uid=2))
        await asyncio.sleep(5)

    kube = FakeKube()
    play(asking, kube)
    left: list[str] = []

    async def clearing(scene: Scene) -> None:
        for connection, handled in ((requested(handled="one"), True), (requested(uid=2), False)):
            scene.world.connections[connection.key] = connection
            scene.world.by_uid[connection.uid] = connection.key
            if not handled:
                left.append(connection.key.name)
        await asyncio.sleep(1)

    play(clearing, kube)

    owners = [pod["metadata"]["ownerReferences"][0]["name"] for pod in kube.pods.values()]
    assert owners == left == ["c-2"]


def test_a_few_are_under_way_at_once(play: Play, requested: Requested) -> None:
    async def story(scene: Scene) -> int:
        for number in range(10):
            scene.ask(requested(uid=number + 1))
        await asyncio.sleep(5)
        at_once = scene.kube.made
        while scene.kube.made < 10:
            scene.kube.end()
            await asyncio.sleep(1)
        return at_once

    assert play(story, FakeKube()) == AT_ONCE


@pytest.mark.parametrize(
    ("refusals", "told"),
    [
        ([ForbiddenError("403: exceeded quota")], "exceeded quota"),
        ([ApiServerUnreachableError("no answer")] * 3, f"no result within {LONGEST:.0f} s: it is Pending"),
    ],
)
def test_what_keeps_a_pod_from_being_made_or_from_ending_is_the_answer(
    play: Play, requested: Requested, refusals: list[Exception], told: str
) -> None:
    async def story(scene: Scene) -> str:
        scene.ask(requested())
        return (await scene.ended(requested())).result.message

    kube = FakeKube()
    kube.refusals = list(refusals)

    assert told in play(story, kube)


def test_a_pod_that_somebody_deletes_is_an_answer(play: Play, requested: Requested) -> None:
    async def story(scene: Scene) -> str:
        scene.ask(requested())
        await asyncio.sleep(3)
        scene.kube.pods.clear()
        return (await scene.ended(requested())).result.message

    assert "deleted" in play(story, FakeKube())


def test_a_defect_is_an_answer_and_the_next_request_is_carried_out(
    play: Play, requested: Requested, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(scene: Scene) -> list[bool]:
        found = []
        for number, reads in enumerate((None, endpoint_checks.read_pod)):
            monkeypatch.setattr(endpoint_checks, "read_pod", reads)
            connection = requested(uid=number + 1)
            scene.ask(connection)
            await asyncio.sleep(3)
            scene.kube.end()
            found.append((await scene.ended(connection)).result.passed)
        return found

    assert play(story, FakeKube()) == [False, True]


def test_a_request_that_changed_meanwhile_is_carried_out_next(play: Play, requested: Requested) -> None:
    async def story(scene: Scene) -> list[str]:
        answered = []
        scene.ask(requested("one"))
        for request in ("one", "two"):
            await asyncio.sleep(3)
            scene.ask(requested("two"))
            scene.kube.end()
            ended = await scene.ended(requested())
            answered.append(ended.request)
            await scene.checks.told(requested())
            scene.ask(replace(requested("two"), status={"lastHandledTestAt": request}), ended)
        return answered

    assert play(story, FakeKube()) == ["one", "two"]
