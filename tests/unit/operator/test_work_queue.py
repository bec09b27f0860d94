"""No key is lost, the urgent ones come first, and failing ones come back ever later."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration_operator import work_queue
from integration_operator.work_queue import Lane, WorkQueue

RunFast = Callable[[Callable[[], Awaitable[Any]]], Any]
Handle = Callable[[str], Awaitable[None]]


@pytest.fixture(scope="module", autouse=True)
def _clock(loop_time: Any) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work_queue, "time", loop_time)
        yield


async def work_for(queue: WorkQueue[str], handle: Handle, seconds: float, workers: int = 1) -> None:
    """Have the queue worked on until nothing is left to do, or `seconds` are over."""
    tasks = [asyncio.create_task(queue.work(handle)) for _ in range(workers)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def test_the_changed_come_before_the_rest_and_each_key_once(run_fast: RunFast) -> None:
    done: list[str] = []

    async def handle(key: str) -> None:
        done.append(key)

    async def run() -> None:
        queue = WorkQueue[str](Random(1))
        for key in ("old", "older", "both"):
            queue.add(key, Lane.RESYNC)
        for key in ("new", "both", "new"):
            queue.add(key)
        queue.add("new", Lane.RESYNC)
        assert (queue.depth(Lane.CHANGED), queue.depth(Lane.RESYNC)) == (2, 2)
        await work_for(queue, handle, 1)

    run_fast(run)

    assert done == ["new", "both", "old", "older"]


def test_a_key_that_changes_while_worked_on_is_worked_on_again(run_fast: RunFast) -> None:
    seen: list[int] = []

    async def run() -> None:
        queue, value = WorkQueue[str](Random(1)), 0

        async def handle(key: str) -> None:
            read = value
            await asyncio.sleep(1)
            seen.append(read)

        queue.add("a")
        working = asyncio.create_task(work_for(queue, handle, 10, workers=3))
        await asyncio.sleep(0.5)
        value = 1
        queue.add("a", Lane.RESYNC)
        queue.add("a")
        await working
        assert queue.idle

    run_fast(run)

    assert seen == [0, 1]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 3), st.sampled_from(Lane)), max_size=30),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_the_last_change_of_every_key_is_worked_on(
    run_fast: RunFast, changes: list[tuple[str, float, Lane]], workers: int, seed: int
) -> None:
    truth: dict[str, int] = {}
    known: dict[str, int] = {}
    at_work: set[str] = set()

    async def run() -> None:
        random = Random(seed)
        queue = WorkQueue[str](random)

        async def handle(key: str) -> None:
            assert key not in at_work
            at_work.add(key)
            read = truth[key]
            try:
                await asyncio.sleep(random.uniform(0, 2))
                if random.random() < 0.3:
                    raise OSError("not now")
            finally:
                at_work.discard(key)
            known[key] = read

        async def change() -> None:
            for key, delay, lane in changes:
                truth[key] = truth.get(key, 0) + 1
                queue.add(key, lane)
                await asyncio.sleep(delay)

        changing = asyncio.create_task(change())
        await work_for(queue, handle, 10_000, workers)
        await changing

    run_fast(run)

    assert known == truth


def test_a_failing_key_comes_back_ever_later_up_to_a_bound(run_fast: RunFast) -> None:
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        raise OSError("no")

    async def run() -> None:
        queue = WorkQueue[str](Random(1))
        queue.add("a")
        await work_for(queue, handle, 5_000)

    run_fast(run)
    delays = [after - before for before, after in pairwise(times)]

    assert delays[:10] == sorted(delays[:10])
    assert max(delays) <= 300.0
    assert min(delays[12:]) >= 150.0


def test_a_key_comes_back_no_sooner_than_asked_for_and_none_is_lost_to_what_nobody_would_wait_for(
    run_fast: RunFast,
) -> None:
    times: dict[str, list[float]] = {"soon": [], "never": []}

    async def handle(key: str) -> None:
        times[key].append(asyncio.get_running_loop().time())
        raise TimeoutError(key)

    async def run() -> None:
        queue = WorkQueue[str](Random(1), asked=lambda error: {"soon": 20.0, "never": 1e9}[str(error)])
        queue.add_all(times)
        await work_for(queue, handle, 1_000)

    run_fast(run)
    first_delays = {key: found[1] - found[0] for key, found in times.items()}

    assert 20.0 <= first_delays["soon"] <= 30.0
    assert 300.0 <= first_delays["never"] <= 450.0


def test_a_success_ends_the_delays(run_fast: RunFast) -> None:
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) != 6:
            raise OSError("no")

    async def run() -> None:
        queue = WorkQueue[str](Random(1))
        queue.add("a")
        await work_for(queue, handle, 60)
        queue.add("a")
        await work_for(queue, handle, 1)

    run_fast(run)

    assert times[7] - times[6] < times[5] - times[4]


def test_failing_keys_hold_nobody_else_up(run_fast: RunFast) -> None:
    done: list[str] = []

    async def handle(key: str) -> None:
        if key == "bad":
            raise OSError("no")
        done.append(key)

    async def run() -> None:
        queue = WorkQueue[str](Random(1))
        for key in ("bad", "good", "better"):
            queue.add(key)
        await work_for(queue, handle, 0.01)

    run_fast(run)

    assert done == ["good", "better"]


def test_a_storm_is_slowed_down_and_its_last_change_is_worked_on(run_fast: RunFast) -> None:
    seen: list[int] = []

    async def run() -> None:
        queue, value = WorkQueue[str](Random(1)), 0

        async def handle(key: str) -> None:
            if key == "stormy":
                seen.append(value)

        working = asyncio.create_task(work_for(queue, handle, 200))
        for value in range(1, 1001):  # noqa: B007 -- `handle` reads it
            queue.add("stormy")
            await asyncio.sleep(0.05)
        assert len(seen) < 100
        await working

    run_fast(run)

    assert seen[-1] == 1000


def test_keys_that_are_gone_are_not_remembered(run_fast: RunFast) -> None:
    async def handle(key: str) -> None:
        pass

    async def run() -> int:
        queue = WorkQueue[str](Random(1))
        working = asyncio.create_task(work_for(queue, handle, 2_000))
        for number in range(1_000):
            queue.add(f"removal-{number}")
            await asyncio.sleep(1)
        await working
        return len(queue._runs)

    assert run_fast(run) < 200


def test_of_several_delays_the_shortest_counts(run_fast: RunFast) -> None:
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(asyncio.get_running_loop().time())

    async def run() -> None:
        queue = WorkQueue[str](Random(1))
        for seconds in (30.0, 10.0, 20.0):
            queue.add_after("a", seconds)
        await work_for(queue, handle, 100)

    run_fast(run)

    assert times == pytest.approx([10.0])


def test_nothing_comes_back_after_it_was_cleared(run_fast: RunFast) -> None:
    done: list[str] = []

    async def handle(key: str) -> None:
        done.append(key)
        raise OSError("no")

    async def run() -> None:
        queue = WorkQueue[str](Random(1))
        queue.add("failing")
        await work_for(queue, handle, 0.01)
        queue.add("changed")
        queue.add("looked at", Lane.RESYNC)
        queue.add_after("delayed", 5)
        queue.clear()
        assert queue.idle
        await work_for(queue, handle, 1_000)

    run_fast(run)

    assert done == ["failing"]


def test_one_that_was_interrupted_is_not_lost_if_it_was_added_again(run_fast: RunFast) -> None:
    done: list[str] = []

    async def run() -> None:
        queue = WorkQueue[str](Random(1))

        async def hang(key: str) -> None:
            queue.add(key)
            await asyncio.sleep(1_000)

        async def handle(key: str) -> None:
            done.append(key)

        queue.add("a")
        await work_for(queue, hang, 1)
        await work_for(queue, handle, 1)

    run_fast(run)

    assert done == ["a"]


def test_what_failed_is_tried_at_once_when_there_is_reason_to_hurry(run_fast: RunFast) -> None:
    done: list[str] = []

    async def run() -> None:
        queue, away = WorkQueue[str](Random(1)), True

        async def handle(key: str) -> None:
            if away:
                raise OSError("no")
            done.append(key)

        queue.add("failing")
        queue.add_after("not yet due", 3_000)
        working = asyncio.create_task(work_for(queue, handle, 2_000))
        await asyncio.sleep(1_500)
        away = False
        queue.hurry()
        await asyncio.sleep(0.01)
        assert done == ["failing"]
        await working

    run_fast(run)

    assert done == ["failing"]


def test_an_error_that_ends_the_term_ends_the_work(run_fast: RunFast) -> None:
    class OverError(Exception):
        pass

    async def handle(key: str) -> None:
        raise OverError(key)

    async def run() -> None:
        queue = WorkQueue[str](Random(1), OverError)
        queue.add("a")
        with pytest.raises(OverError):
            await queue.work(handle)

    run_fast(run)
