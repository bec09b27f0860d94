"""Waiting for what other processes do, and ports for them to listen on."""

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"

# A port that the system also gives to outgoing connections could be taken while its server is down.
LOWEST_PORT, HIGHEST_PORT = 20_000, 30_000

POLL_SECONDS = 0.02


class NeverHappenedError(Exception):
    """Something that was waited for did not come to pass in time."""


def until(condition: Callable[[], T], what: str, *, seconds: float = 60.0) -> T:
    """Return what the condition answers once it holds; raise NeverHappenedError if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise NeverHappenedError(f"this did not come to pass within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)
    return answer


def free_port() -> int:
    """Return a port that nobody listens on and that the system gives to nobody by itself."""
    while True:
        port = random.randint(LOWEST_PORT, HIGHEST_PORT)
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port
