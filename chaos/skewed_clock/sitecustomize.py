"""Gives a program a wrong wall clock, as a machine without NTP has; its monotonic clock stays right."""

import os
import time
from collections.abc import Callable

SKEW_SECONDS = float(os.environ["CHAOS_SKEW_SECONDS"])


def _shift(right: Callable[[], float]) -> Callable[[], float]:
    return lambda: right() + SKEW_SECONDS


def _shift_ns(right: Callable[[], int]) -> Callable[[], int]:
    return lambda: right() + int(SKEW_SECONDS * 1e9)


time.time = _shift(time.time)
time.time_ns = _shift_ns(time.time_ns)
