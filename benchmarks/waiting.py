"""Waiting for something to be so, with an end to it."""

import time
from collections.abc import Callable

DEADLINE_SECONDS = 900.0


def until(what: Callable[[], bool], description: str, every_seconds: float = 0.1) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in {DEADLINE_SECONDS:.0f} s: {description}")
        time.sleep(every_seconds)
