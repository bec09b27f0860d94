"""A worker tells its own slowness from its partners'."""

import asyncio
import time
from contextlib import suppress

import pytest

from delivery.lag import TICK_SECONDS, WAITS, LoopLag


async def lag_after(block_seconds: float) -> LoopLag:
    lag = LoopLag()
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(TICK_SECONDS + block_seconds)  # noqa: ASYNC251 -- what a busy loop does
    for _ in range(3):
        await asyncio.sleep(0)
    measuring.cancel()
    with suppress(asyncio.CancelledError):
        await measuring
    return lag


def test_a_loop_that_is_busy_elsewhere_is_late() -> None:
    lag = asyncio.run(lag_after(0.3))

    assert lag.seconds >= 0.3


def test_what_the_loop_adds_to_an_answer_does_not_count() -> None:
    lag = LoopLag()
    lag.seconds = 0.1

    assert lag.beyond(2.0) == pytest.approx(2.0 - WAITS * 0.1)
    assert lag.beyond(0.2) == 0
