"""Replays that a resource asks for, carried out by real dispatchers and workers."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from contracts.ids import ReplayUid, TenantId
from store.replay_resources import ReplayResource, ResourceProgress, hand_on, read_progress
from store.replays import ReplayState

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio


async def delivered(house: "House", number: int) -> None:
    """Run the programs and have events of as many subjects delivered."""
    await house.publish(throttle={"concurrency": 1, "requestsPerSecond": 1000.0, "burst": 1000})
    house.start()
    for index in range(number):
        house.layer.emit(f"subject-{index}", number=index)
    await house.until_settled()


async def ask(house: "House", **spec: Any) -> ReplayUid:
    """Hand a resource on, as the operator does."""
    wire = {"tenant": "acme", "reason": "they lost it", "selection": {"types": ["*"]}, **spec}
    resource = ReplayResource(ReplayUid(uuid4()), TenantId("acme"), "acme", "again", wire)
    async with await house.layer.connect("operator") as operator:
        await hand_on(operator, resource)
    return resource.uid


async def progress(house: "House", uid: ReplayUid) -> ResourceProgress:
    async with await house.layer.connect("operator") as operator:
        found = await read_progress(operator, uid)
    assert found is not None
    return found


def states(house: "House") -> list[str]:
    return house.layer.column("select state from integration.replay order by id")


async def test_a_dry_run_sends_nothing_and_the_replay_after_it_what_it_counted(house: "House") -> None:
    await delivered(house, 30)
    dry = await ask(house, dryRun=True)
    await house.until(lambda: states(house) == ["Completed"])
    accepted = [arrival.accepted for arrival in house.arrivals()]
    wet = await ask(house)
    await house.until(lambda: states(house) == ["Completed", "Completed"])
    (counted,), (done,) = (await progress(house, dry)).parts, (await progress(house, wet)).parts

    assert accepted == [1] * 30
    assert [arrival.accepted for arrival in house.arrivals()] == [2] * 30
    assert (counted.queued, counted.delivered) == (30, 0)
    assert (done.queued, done.delivered, done.in_queue, done.dead) == (30, 30, 0, 0)


async def test_it_is_started_once_however_often_dispatchers_are_killed(house: "House") -> None:
    await delivered(house, 60)
    await house.kill("dispatcher")
    uid = await ask(house, connection="hook")
    kills = 0
    while states(house) != ["Completed"]:
        house.start_dispatcher()
        before = house.layer.rows("select revision from integration.replay")
        await house.until(lambda before=before: house.layer.rows("select revision from integration.replay") != before)
        await house.kill("dispatcher")
        kills += 1
    (part,) = (await progress(house, uid)).parts

    assert kills >= 3
    assert (part.state, part.delivered) == (ReplayState.COMPLETED, 60)
    assert [arrival.accepted for arrival in house.arrivals()] == [2] * 60
