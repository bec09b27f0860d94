"""Processes that die at a chosen await of a coroutine."""

from asyncio import CancelledError
from collections.abc import Coroutine
from contextlib import suppress
from enum import Enum
from typing import Any


class Moment(Enum):
    """When the process dies: as it begins to wait, or with what it waited for there and not looked at."""

    BEFORE = "before"
    AFTER = "after"


class CrashError(BaseException):
    """The process is no more."""


async def crashes(coroutine: Coroutine[Any, Any, object], number: int, moment: Moment) -> bool:
    """Run a coroutine until its n-th wait and let it die there; false if it ended before.

    What it had asked for by then may take effect or not, as when a process is killed.
    """
    waits = 0
    while True:
        dies = waits >= number
        try:
            awaited = coroutine.throw(CrashError()) if dies else coroutine.send(None)
        except StopIteration:
            return dies
        except (CrashError, CancelledError):  # the HTTP library turns whatever is thrown into the latter
            return True
        waits += 1
        if waits < number or (waits == number and moment is Moment.AFTER):
            await _Relay(awaited)


class _Relay:
    """Waits for what a coroutine wanted to wait for, in its place; failures show when the coroutine looks."""

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def __await__(self) -> Any:
        with suppress(Exception, CancelledError):  # of the future, which the coroutine reads for itself
            yield self._awaited
