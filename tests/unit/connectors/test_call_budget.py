"""A partner that allows so many calls in a window never has to refuse one, and nearly all it allows are made."""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.call_budget import BudgetSpentError, CallBudget, UnusedCallError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def virtual_time(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[None]:
    """Have sleeping pass the clock's time and no other."""

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    with monkeypatch.context() as patched:
        patched.setattr("connectors.call_budget.asyncio.sleep", sleep)
        yield


@dataclass
class Partner:
    """Counts calls as they arrive, in a rolling window."""

    limit: int
    seconds: float
    arrivals: deque[float] = field(default_factory=deque)
    refused: int = 0

    def receive(self, at: float) -> int:
        while self.arrivals and self.arrivals[0] <= at - self.seconds:
            self.arrivals.popleft()
        if len(self.arrivals) >= self.limit:
            self.refused += 1
        else:
            self.arrivals.append(at)
        return self.limit - len(self.arrivals)


async def run(budget: CallBudget, partner: Partner, clock: Clock, random: Random, lanes: int, until: float) -> int:
    """Keep `lanes` calls under way, each arriving and being answered after a time of its own; how many were made."""
    events: list[tuple[float, int, str]] = []
    made, number = 0, 0
    calls: dict[int, AbstractAsyncContextManager[None]] = {}
    while clock.now < until:
        if len(calls) < lanes and budget.wait_seconds() == 0:
            call = budget.call(0.0)
            await call.__aenter__()
            number += 1
            made += 1
            calls[number] = call
            arrival = clock.now + random.uniform(0.001, 0.2)
            heapq.heappush(events, (arrival, number, "arrive"))
            heapq.heappush(events, (arrival + random.uniform(0.001, 0.2), number, "answer"))
            continue
        wait = budget.wait_seconds() if len(calls) < lanes else float("inf")
        if events and events[0][0] <= clock.now + wait:
            clock.now, which, what = heapq.heappop(events)
            if what == "arrive":
                partner.receive(clock.now)
            else:
                await calls.pop(which).__aexit__(None, None, None)
        else:
            clock.now += max(wait, 0.001)
    return made


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 2**32))
def test_no_call_is_ever_refused_however_long_calls_travel(limit: int, lanes: int, seed: int) -> None:
    clock = Clock()
    partner = Partner(limit, 10.0)
    budget = CallBudget(limit, 10.0, clock=clock)
    asyncio.run(run(budget, partner, clock, Random(seed), lanes, clock.now + 60))

    assert partner.refused == 0


def test_nearly_all_calls_that_are_allowed_are_made() -> None:
    clock = Clock()
    partner = Partner(100, 10.0)
    budget = CallBudget(100, 10.0, clock=clock)
    made = asyncio.run(run(budget, partner, clock, Random(1), 8, clock.now + 100))

    assert partner.refused == 0
    assert made / 1000 >= 0.95


async def take(budget: CallBudget, patience: float = 0.0) -> None:
    async with budget.call(patience):
        pass


async def test_whoever_cannot_wait_that_long_is_told_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    budget = CallBudget(2, 10.0, clock=clock)
    with virtual_time(monkeypatch, clock):
        await take(budget)
        clock.now += 4
        await take(budget)
        with pytest.raises(BudgetSpentError) as spent:
            await take(budget, 5.0)
        await take(budget, 6.0)

    assert spent.value.seconds == pytest.approx(6.0)
    assert clock.now == pytest.approx(1010.0)


async def test_until_the_partner_has_spoken_one_call_is_made() -> None:
    clock = Clock()
    budget = CallBudget(100, 10.0, told_by_partner=True, clock=clock)
    await take(budget)
    with pytest.raises(BudgetSpentError):
        await take(budget)
    budget.told(190, 189)
    await take(budget)

    assert budget.limit == 190


async def test_what_others_spend_is_left_to_them() -> None:
    clock = Clock()
    budget = CallBudget(10, 10.0, clock=clock)
    await take(budget)
    budget.told(10, 2)  # one call is ours, seven are somebody's
    await take(budget)
    await take(budget)
    with pytest.raises(BudgetSpentError) as spent:
        await take(budget)
    clock.now += 10.1
    for _ in range(10):
        await take(budget)

    assert spent.value.seconds == pytest.approx(10.0)


async def test_after_a_refusal_nothing_is_asked_for_as_long_as_it_says() -> None:
    clock = Clock()
    budget = CallBudget(10, 10.0, clock=clock)
    budget.refused(3.0)
    with pytest.raises(BudgetSpentError) as spent:
        await take(budget)
    clock.now += 3
    await take(budget)

    assert spent.value.seconds == pytest.approx(3.0)


async def test_a_call_that_was_not_made_counts_for_nothing() -> None:
    budget = CallBudget(5, 10.0, told_by_partner=True, clock=Clock())
    with pytest.raises(UnusedCallError):
        async with budget.call(0):
            raise UnusedCallError

    assert budget.wait_seconds() == 0
