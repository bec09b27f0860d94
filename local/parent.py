"""A program that does not outlive the one that started it.

The parent hands the reading end of a pipe to its child and keeps the only writing end, so the pipe ends when the
parent does, whatever ended it. Linux alone could tell a child of its parent's death by PR_SET_PDEATHSIG, and only
between fork and exec, where a program with threads may not run Python; a pipe works on every Unix and needs neither.
"""

import os
import signal
import threading
import time

PARENT_FD_VARIABLE = "INTEGRATIONS_PARENT_FD"
"""The environment variable that carries the pipe's number from the parent to its child."""


def exit_with_parent(grace_seconds: float = 10.0) -> None:
    """End this process when its parent ends: SIGTERM, so that it can finish its work, and SIGKILL after the grace.

    Called once, early, by every program; a program that a person started has no such pipe, and runs on.
    """
    number = os.environ.pop(PARENT_FD_VARIABLE, None)
    if number is None:
        return
    pipe = int(number)
    # Programs started by this one are its own concern.
    os.set_inheritable(pipe, False)
    threading.Thread(target=_wait_for_end, args=(pipe, grace_seconds), name="exit-with-parent", daemon=True).start()


def _wait_for_end(pipe: int, grace_seconds: float) -> None:
    # Nobody ever writes: read() returns when the last writing end is closed.
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
