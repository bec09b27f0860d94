"""Workers come, go and die, connections break, the database is away: nothing is lost and nothing overtakes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from connectors.webhook.simulator_faults import Delay, Status
from store.errors import NotMigratedError

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

SOON = {"maxAttempts": 50, "initialDelay": "100ms", "maxDelay": "200ms"}
LANES = [f"lane-{number}" for number in range(6)]


async def publish_lanes(house: "House", **delivery: object) -> None:
    for name in LANES:
        await house.publish(f"/{name}", name=name, **delivery)


def owners(house: "House") -> Counter[str]:
    """Count lanes by the name of the worker that owns them."""
    return Counter(
        house.layer.column("select name from integration.worker_session s join integration.lane l on l.owner = s.id")
    )


@asynccontextmanager
async def stream(house: "House", subjects: int = 8) -> AsyncIterator[None]:
    """Emit events all the while."""

    async def emitting() -> None:
        number = 0
        while True:
            house.layer.emit(f"subject-{number % subjects}", number=number)
            number += 1
            await asyncio.sleep(0.03)

    task = asyncio.create_task(emitting())
    try:
        yield
    finally:
        task.cancel()


def emitted(house: "House") -> int:
    number: int = house.layer.value("select count(*) from integration.event")
    return number


def assert_all_arrived(house: "House", paths: list[str], *, repeats: bool) -> None:
    for path in paths:
        stats = house.simulator.stats(path)
        assert stats.accepted == emitted(house)
        assert stats.changed == 0
        assert repeats or stats.repeats == 0
        house.assert_in_order(path)


PATHS = [f"/{name}" for name in LANES]


# Sharing ----------------------------------------------------------------------------------------------------------


async def test_workers_share_the_lanes_evenly_and_no_subject_is_disordered_as_they_come_and_go(house: "House") -> None:
    await publish_lanes(house)
    house.start_dispatcher()
    house.start_worker("first")
    async with stream(house):
        await house.until(lambda: owners(house) == {"first": 6})
        house.start_worker("second")
        await house.until(lambda: owners(house) == {"first": 3, "second": 3})
        house.start_worker("third")
        await house.until(lambda: owners(house) == {"first": 2, "second": 2, "third": 2})
        await house.stop("first")
        await house.until(lambda: owners(house) == {"second": 3, "third": 3})
        await house.stop("second")
        await house.until(lambda: owners(house) == {"third": 6})
    await house.until_settled()

    assert_all_arrived(house, PATHS, repeats=False)


async def test_a_lane_with_a_slow_request_goes_on_when_its_release_is_called_off(house: "House") -> None:
    await house.publish("/slow", name="slow", throttle={"concurrency": 1})
    await house.publish("/slower", name="slower", throttle={"concurrency": 1})
    house.start_dispatcher()
    house.start_worker("first")
    await house.until(lambda: owners(house) == {"first": 2})
    for path in ("/slow", "/slower"):
        house.simulator.change(path, script=[Delay(seconds=4)])
    house.layer.emit("slow")
    await house.until(lambda: len(house.arrivals("/slow")) == len(house.arrivals("/slower")) == 1)
    house.start_worker("second")  # so that the first is to give up one of two busy lanes
    await house.until(lambda: house.layer.value("select count(*) from integration.worker_session") == 2)
    await asyncio.sleep(1.5)  # a round of sharing
    await house.kill("second")
    house.layer.admin.execute("delete from integration.worker_session where name = 'second'")
    house.layer.emit("next")
    await house.until_settled()

    assert_all_arrived(house, ["/slow", "/slower"], repeats=False)


async def test_a_draining_worker_finishes_what_it_began_and_nothing_is_repeated(house: "House") -> None:
    await publish_lanes(house)
    for path in PATHS:
        house.simulator.change(path, script=[Delay(seconds=0.05, times=None)])
    house.start_dispatcher()
    async with stream(house):
        for number in range(3):
            house.start_worker(f"worker-{number}")
            await house.until(lambda number=number: owners(house) == {f"worker-{number}": 6})  # type: ignore[misc]
            await house.until_accepted(number * 10 + 10, PATHS[0])
            await house.stop(f"worker-{number}")
    house.start_worker("last")
    await house.until_settled()

    assert_all_arrived(house, PATHS, repeats=False)


async def test_a_killed_worker_s_lanes_go_to_another_when_its_lease_runs_out(house: "House") -> None:
    await publish_lanes(house)
    for path in PATHS:
        house.simulator.change(path, script=[Delay(seconds=0.02, times=None)])
    house.start_dispatcher()
    house.start_worker("first")
    async with stream(house):
        await house.until_accepted(10, PATHS[0])
        await house.kill("first")
        house.start_worker("second")
        await house.until(lambda: owners(house) == {"second": 6})
    await house.until_settled()

    assert_all_arrived(house, PATHS, repeats=True)


async def test_a_worker_that_starts_again_under_its_name_goes_on_at_once(house: "House") -> None:
    await publish_lanes(house)
    house.start_dispatcher()
    house.start_worker("pod", lease=timedelta(minutes=5))
    async with stream(house):
        await house.until_accepted(10, PATHS[0])
        await house.kill("pod")
        house.start_worker("pod", lease=timedelta(minutes=5))
        await house.until(lambda: owners(house) == {"pod": 6})
    await house.until_settled()

    assert_all_arrived(house, PATHS, repeats=True)


async def test_two_dispatchers_and_the_death_of_one_dispatch_everything_once(house: "House") -> None:
    await house.publish()
    for name in ("first", "second"):
        house.start_dispatcher(name, batch=7)
    house.start_worker()
    async with stream(house):
        await house.until_accepted(50)
        await house.stop("first")
        await house.until_accepted(80)
        house.start_dispatcher("third", batch=7)
        await house.until_accepted(110)
    await house.until_settled()

    assert_all_arrived(house, ["/hook"], repeats=False)


# The database -----------------------------------------------------------------------------------------------------


async def test_connections_that_are_cut_again_and_again_lose_and_disorder_nothing(house: "House") -> None:
    await publish_lanes(house, retry=SOON)
    for number, path in enumerate(PATHS):
        house.simulator.change(path, script=[Status(status=503, times=1), Delay(seconds=0.01, times=20)] * (number + 1))
    house.start()
    async with stream(house):
        await house.until_accepted(10, PATHS[0])
        for _ in range(8):
            assert house.cut_connections() > 0
            await asyncio.sleep(0.3)
    await house.until_settled()

    assert_all_arrived(house, PATHS, repeats=True)


async def test_a_connection_that_died_while_nothing_happened_does_not_end_the_worker_that_records_a_failure(
    house: "House",
) -> None:
    await house.publish(retry=SOON)
    house.start()
    house.layer.emit("before")
    await house.until_settled()
    house.simulator.change("/hook", script=[Status(status=503, times=3)])
    house.cut_connections()
    house.layer.emit("after")
    await house.until_settled()

    assert_all_arrived(house, ["/hook"], repeats=False)


@asynccontextmanager
async def database_away(house: "House") -> AsyncIterator[None]:
    """Let nobody but the superuser, who has a connection, into the database."""
    house.layer.admin.execute(b"alter role pool_a nologin; alter role dispatcher nologin")
    house.cut_connections()
    try:
        yield
    finally:
        house.layer.admin.execute(b"alter role pool_a login; alter role dispatcher login")


async def test_a_database_that_is_away_for_longer_than_the_lease_is_waited_for(house: "House") -> None:
    await publish_lanes(house)
    house.start_dispatcher()
    house.start_worker(lease=timedelta(seconds=1))
    async with stream(house):
        await house.until_accepted(10, PATHS[0])
        async with database_away(house):
            await asyncio.sleep(2)
    await house.until_settled()

    assert_all_arrived(house, PATHS, repeats=True)


async def test_a_worker_and_a_dispatcher_stop_while_the_database_is_away(house: "House") -> None:
    await house.publish()
    house.start()
    house.layer.emit()
    await house.until_settled()
    async with database_away(house):
        await house.stop("worker")
        await house.stop("dispatcher")


async def test_programs_that_start_before_the_database_wait_for_it(house: "House") -> None:
    await house.publish()
    house.layer.emit()
    async with database_away(house):
        house.start()
        await asyncio.sleep(0.5)
        running = [not task.done() for task in house.tasks.values()]
    await house.until_settled()

    assert running == [True, True]


async def test_programs_that_find_no_schema_end_and_say_what_to_do(house: "House") -> None:
    house.layer.admin.execute("drop schema integration cascade")
    house.start()

    for name in ("worker", "dispatcher"):
        with pytest.raises(BaseException) as ended:  # noqa: PT011 -- a task group wraps it
            async with asyncio.timeout(10):
                await house.tasks.pop(name)
        assert _reasons(ended.value) == [NotMigratedError]


def _reasons(error: BaseException) -> list[type[BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        return [reason for each in error.exceptions for reason in _reasons(each)]
    return [type(error)]


async def test_a_pause_of_the_whole_worker_past_its_lease_ends_its_session_and_sends_nothing_twice_at_once(
    house: "House",
) -> None:
    await house.publish(throttle={"concurrency": 1})
    house.start_dispatcher()
    house.start_worker("hung", lease=timedelta(seconds=1))
    house.layer.emit("before")
    await house.until_settled()
    house.layer.admin.execute("delete from integration.worker_session")  # as another worker would, after the lease
    house.start_worker("healthy", lease=timedelta(seconds=1))
    for number in range(20):
        house.layer.emit("after", number=number)
    await house.until_settled()
    await house.until(lambda: sum(owners(house).values()) == 1)

    assert house.simulator.stats("/hook").accepted == 21
    house.assert_in_order()
