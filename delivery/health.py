"""The health of a lane: whether it delivers, when a failing one is quarantined, and when it is probed.

Pure: `now` is handed in, in seconds of the monotonic clock.
"""

from enum import StrEnum

from contracts.connection import QuarantineSpec
from store.lanes import LaneRow

LONGEST_PROBE_INTERVAL_SECONDS = 3600.0

REASON_LIMIT = 500
"""Characters of a reason that are kept."""


class LaneState(StrEnum):
    """What a lane's row says."""

    OPEN = "Open"
    QUARANTINED = "Quarantined"


class Health:
    """What is known of the partner behind one lane."""

    def __init__(self, row: LaneRow, now: float) -> None:
        self.state = LaneState(row.state)
        self.consecutive_failures = row.consecutive_failures
        self.quarantine_reason = row.quarantine_reason
        self.probes = row.probes
        self.probe_at = None if row.probe_in_seconds is None else now + row.probe_in_seconds

    def succeeded(self) -> bool:
        """Note a success; return whether that changed anything."""
        if not self.consecutive_failures:
            return False
        self.consecutive_failures = 0
        return True

    def failed(self, spec: QuarantineSpec, detail: str) -> str | None:
        """Note a failure; return the reason for a quarantine if it was one too many."""
        self.consecutive_failures += 1
        limit = spec.consecutive_failures
        if self.state is LaneState.OPEN and self.consecutive_failures >= limit:
            return f"ConsecutiveFailures: {limit}; the last: {detail}"
        return None

    def quarantine(self, spec: QuarantineSpec, now: float, reason: str, *, probing: bool) -> None:
        """Stop; `probing` says whether time alone may heal it."""
        self.state = LaneState.QUARANTINED
        self.quarantine_reason = reason[:REASON_LIMIT]
        self.probes = 0
        self.probe_at = now + spec.probe_interval.total_seconds() if probing else None

    def probe_failed(self, spec: QuarantineSpec, now: float, reason: str, *, probing: bool) -> None:
        """Note that the partner is not back; the next probe comes after an interval that grows to an hour."""
        self.probes += 1
        interval = spec.probe_interval.total_seconds()
        longest = max(interval, LONGEST_PROBE_INTERVAL_SECONDS)
        self.probe_at = now + min(interval * 2 ** min(self.probes, 30), longest) if probing else None
        self.quarantine_reason = reason[:REASON_LIMIT]

    def reopen(self) -> None:
        """Leave quarantine."""
        self.state = LaneState.OPEN
        self.consecutive_failures = 0
        self.quarantine_reason = None
        self.probes = 0
        self.probe_at = None
