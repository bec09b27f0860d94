"""A replay's object is brought to what it says in any order of deaths and news, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from contracts.ids import ReplayUid
from integration_operator.databases import Databases
from integration_operator.errors import ApiServerUnreachableError, NotFoundError
from integration_operator.kube import Json
from integration_operator.names import ObjectKey
from integration_operator.replay_reconciling import ReplayReconciler
from integration_operator.work_queue import Lane, WorkQueue
from integration_operator.world import Key, World
from store.errors import SupersededError
from store.leadership import Term, begin_term

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

UID = ReplayUid(UUID(int=1))
KEY = ObjectKey("acme", str(UID))
TERM = Term(datetime(2026, 1, 1, tzinfo=UTC), 1, "operator-0")
PLACE = "/apis/integrations.queast.io/v1alpha1/namespaces/acme/integrationreplays/again"


@dataclass
class Api:
    """An API server that has one replay, and fails when told to."""

    body: Json | None = None
    failing: bool = False
    statuses: list[Json] = field(default_factory=list)
    deleted: list[tuple[str, str | None]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    async def merge(self, path: str, change: Json) -> Json:
        if self.failing:
            raise ApiServerUnreachableError("no answer")
        if self.body is None:
            raise NotFoundError("404")
        assert path == f"{PLACE}/status"
        merged = {name: each for name, each in {**self.body["status"], **change["status"]}.items() if each is not None}
        metadata = {**self.body["metadata"], "resourceVersion": str(int(self.body["metadata"]["resourceVersion"]) + 1)}
        self.body = {**self.body, "metadata": metadata, "status": merged}
        self.statuses.append(merged)
        return self.body

    async def create(self, path: str, body: Json) -> Json:
        self.events.append(f"{body['type']} {body['reason']}")
        return body

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        self.deleted.append((path, uid))


@dataclass
class Operator:
    """A leader's part that looks after replays."""

    layer: "Layer"
    api: Api
    world: World
    queue: WorkQueue[Key]
    database: Databases
    reconciler: ReplayReconciler

    def apply(self, generation: int = 1, status: Json | None = None, **spec: Any) -> None:
        """Let the watch tell of the replay."""
        former = self.api.body
        version = int(former["metadata"]["resourceVersion"]) + 1 if former else 1
        metadata = {"name": "again", "namespace": "acme", "uid": str(UID)}
        self.api.body = {
            "metadata": {**metadata, "generation": generation, "resourceVersion": str(version)},
            "spec": {"tenant": "acme", "reason": "they lost it", "selection": {"types": ["*"]}, **spec},
            "status": status or (former["status"] if former else {"observedGeneration": -1}),
        }
        self.queue.add_all(self.world.see_replay(self.api.body))

    def delete(self) -> None:
        """Let the watch tell that the replay is gone."""
        assert self.api.body is not None
        gone, self.api.body = self.api.body, None
        self.queue.add_all(self.world.see_replay(gone, deleted=True))

    def label(self, *tenants: str) -> None:
        """Let the watch tell for which tenants the namespace is labelled."""
        labels = {f"tenant.integrations.queast.io/{tenant}": "" for tenant in tenants}
        self.queue.add_all(self.world.see_namespace({"metadata": {"name": "acme", "labels": labels}}))

    async def reconcile(self) -> None:
        await self.reconciler.reconcile(KEY)

    def asked(self) -> list[tuple[str, str]]:
        """Return state and detail of everything that was recorded."""
        return self.layer.rows("select state, detail from integration.replay_resource")

    def ready(self) -> str:
        """Return the reason of the last status' condition Ready."""
        return str(self.api.statuses[-1]["conditions"][0]["reason"])


@pytest.fixture
async def operator(layer: "Layer") -> AsyncIterator[Operator]:
    api, world, queue = Api(), World(b"k" * 32, sees_namespaces=True), WorkQueue[Key](Random(0), SupersededError)
    database = Databases(lambda: layer.dsn("operator"), "operator", lambda _: None, size=2)
    await database.once(lambda opened: begin_term(opened, TERM))
    reconciler = ReplayReconciler(api, world, queue, database, TERM)  # type: ignore[arg-type]
    operator = Operator(layer, api, world, queue, database, reconciler)
    operator.label("acme")
    yield operator
    queue.clear()
    await database.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_however_often_it_is_looked_at_it_is_asked_for_once_and_told_of_once(operator: Operator) -> None:
    operator.apply()
    for _ in range(3):
        await operator.reconcile()

    assert operator.asked() == [("Asked", "")]
    assert [status["state"] for status in operator.api.statuses] == ["Waiting"]
    assert operator.api.events == ["Normal Asked"]


async def test_one_that_dies_before_it_has_told_leaves_a_replay_that_the_next_one_tells_of(operator: Operator) -> None:
    operator.apply()
    operator.api.failing = True
    with pytest.raises(ApiServerUnreachableError):
        await operator.reconcile()
    between = operator.asked()
    operator.api.failing = False
    await operator.reconcile()

    assert between == operator.asked() == [("Asked", "")]
    assert operator.ready() == "Asked"


async def test_one_that_is_gone_before_it_could_be_asked_for_is_cancelled_all_the_same(operator: Operator) -> None:
    operator.apply()
    working = asyncio.create_task(operator.queue.work(lambda key: operator.reconciler.reconcile(key.object)))
    with operator.layer.admin.transaction():
        operator.layer.rows("lock table integration.replay_resource in share mode")
        await until(lambda: bool(operator.layer.rows("select 1 from pg_locks where not granted")))
        operator.delete()
    await until(lambda: operator.asked() == [("Cancelled", "its IntegrationReplay was deleted")])
    working.cancel()

    assert operator.api.statuses == []


async def test_a_cancelled_spec_is_recorded_as_such_and_never_started(operator: Operator) -> None:
    operator.apply(cancel=True)
    await operator.reconcile()

    assert operator.asked() == [("Cancelled", "spec.cancel is true")]
    assert operator.ready() == "Cancelled"


async def test_a_cancellation_is_made_up_for_by_the_next_leader(operator: Operator) -> None:
    operator.apply()
    await operator.reconcile()
    operator.apply(generation=2, cancel=True)
    await operator.reconcile()

    assert operator.asked() == [("Cancelled", "spec.cancel is true")]
    assert operator.api.statuses[-1]["observedGeneration"] == 2


async def test_nothing_is_asked_for_before_the_namespace_s_labels_are_known(operator: Operator) -> None:
    operator.world.namespaces.clear()
    operator.apply()
    await operator.reconcile()
    before = (operator.asked(), list(operator.api.statuses))
    operator.label("globex")
    await operator.reconcile()

    assert before == ([], [])
    assert operator.asked() == []
    assert operator.ready() == "ForbiddenTenant"


async def test_a_label_that_is_taken_away_ends_what_was_asked_for(operator: Operator) -> None:
    operator.apply()
    await operator.reconcile()
    operator.label()
    await operator.reconcile()

    assert operator.asked() == [("Cancelled", "its namespace is no longer labelled for the tenant")]


READY = {"type": "Ready", "status": "True", "reason": "Completed", "message": "3 delivered again"}
FINISHED = {
    "observedGeneration": 1,
    "state": "Completed",
    "startedAt": "2026-01-31T10:00:00Z",
    "finishedAt": "2026-01-31T10:00:05Z",
    "conditions": [READY | {"observedGeneration": 1}],
}


async def test_what_has_ended_is_neither_asked_for_nor_told_of_again(operator: Operator) -> None:
    operator.apply(status=FINISHED)
    await operator.reconcile()
    operator.delete()
    await operator.reconcile()

    assert operator.asked() == []
    assert (operator.api.statuses, operator.api.deleted) == ([], [])


async def test_of_what_has_ended_a_newer_spec_changes_the_generation_alone(operator: Operator) -> None:
    operator.apply(status=FINISHED, generation=2, ttlAfterFinished="8760h")
    await operator.reconcile()

    renewed = FINISHED | {"observedGeneration": 2, "conditions": [READY | {"observedGeneration": 2}]}
    assert operator.api.statuses == [renewed]
    assert operator.api.events == []


@pytest.mark.parametrize(("age", "deletions"), [(timedelta(seconds=30), 0), (timedelta(seconds=90), 1)])
async def test_it_is_deleted_when_its_time_is_over_and_no_sooner(
    operator: Operator, age: timedelta, deletions: int
) -> None:
    finished = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    operator.apply(status=FINISHED | {"finishedAt": finished}, ttlAfterFinished="1m")
    await operator.reconcile()

    assert operator.api.deleted == [(PLACE, str(UID))] * deletions


async def test_one_that_was_started_and_is_unknown_now_is_lost_and_not_started_anew(operator: Operator) -> None:
    started = {name: value for name, value in FINISHED.items() if name != "finishedAt"}
    operator.apply(status=started | {"state": "Running"})
    await operator.reconcile()

    assert operator.asked() == []
    assert operator.ready() == "Lost"
    assert operator.queue.depth(Lane.CHANGED) == 1  # to be kept for its time


@pytest.mark.parametrize("step", ["ask", "cancel", "remove"])
async def test_a_former_leader_writes_nothing(operator: Operator, step: str) -> None:
    operator.apply()
    if step != "ask":
        await operator.reconcile()
    before = operator.asked()
    newer = Term(TERM.lease_created, TERM.transitions + 1, "operator-1")
    await operator.database.once(lambda opened: begin_term(opened, newer))
    if step == "cancel":
        operator.apply(generation=2, cancel=True)
    if step == "remove":
        operator.delete()
    with pytest.raises(SupersededError):
        await operator.reconcile()

    assert operator.asked() == before
