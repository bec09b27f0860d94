"""How many of the recent attempts failed: counts in a window of time that moves on in tenths.

The counts are the owner's; a lane that changes hands is judged anew.
"""

from collections import deque

from contracts.delivery_spec import FailureRateSpec
from contracts.durations import format_duration

SLOTS = 10


class RecentFailures:
    """Attempts and failures within the window of a failure rate."""

    def __init__(self, spec: FailureRateSpec) -> None:
        self._spec = spec
        self._slot_seconds = spec.window.total_seconds() / SLOTS
        self._slots: deque[list[int]] = deque()  # number of the slot, attempts, failures

    def note(self, now: float, *, failed: bool) -> None:
        """Count an attempt."""
        slot = int(now / self._slot_seconds)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append([slot, 0, 0])
            self._drop_old(now)
        self._slots[-1][1] += 1
        self._slots[-1][2] += failed

    def too_many(self, now: float) -> bool:
        """Whether enough attempts were made to judge, and too many of them failed."""
        attempts, failures = self._counts(now)
        return attempts >= self._spec.minimum_attempts and failures * 100 >= attempts * self._spec.percent

    def describe(self, now: float) -> str:
        """Say how many failed."""
        attempts, failures = self._counts(now)
        return f"{failures} of {attempts} attempts within {format_duration(self._spec.window)}"

    def forget(self) -> None:
        """Begin anew."""
        self._slots.clear()

    def _counts(self, now: float) -> tuple[int, int]:
        self._drop_old(now)
        return sum(slot[1] for slot in self._slots), sum(slot[2] for slot in self._slots)

    def _drop_old(self, now: float) -> None:
        oldest = int(now / self._slot_seconds) - SLOTS
        while self._slots and self._slots[0][0] <= oldest:
            self._slots.popleft()
