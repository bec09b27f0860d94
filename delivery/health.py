"""The health of a lane: whether it delivers, when a failing one is quarantined, and how it comes back.

    Open ──failures──▶ Quarantined ──a probe is understood──▶ Recovering at 10 %, 25 %, 50 % ──▶ Open
                            ▲─────────────any failure──────────────┘

Quarantine stops the lane and keeps its backlog. One job at a time probes whether the partner is back, ever more rarely
up to an hour, or at once when a person asks, the spec changes or a credential does. A partner that is back gets a part
of the lane's limits first; should it fail again, the lane stops at once, and probes go on as rarely as they had become.

Pure: `now` is handed in, in seconds of the monotonic clock.
"""

from enum import StrEnum
from typing import Final

from contracts.delivery_spec import QuarantineSpec
from delivery.failures import RecentFailures
from store.lanes import LaneRow
from store.transitions import Transition

LONGEST_PROBE_INTERVAL_SECONDS = 3600.0

REASON_LIMIT = 500
"""Characters of a reason that are kept."""

RAMP_PERCENT: Final = (10, 25, 50)
"""Parts of its limits that a lane gets, one after the other, before it has all of them again."""


class LaneState(StrEnum):
    """What a lane's row says."""

    OPEN = "Open"
    QUARANTINED = "Quarantined"


class Actor(StrEnum):
    """Who brought a change of state about."""

    WORKER = "Worker"
    """By the rules: failures, successes, and time."""
    PERSON = "Person"
    """Somebody asked for a probe."""
    SPEC = "Spec"
    """The connection's spec was published anew."""
    CREDENTIAL = "Credential"
    """A Secret of the connection changed."""


class Health:
    """What is known of the partner behind one lane."""

    def __init__(self, spec: QuarantineSpec, row: LaneRow, now: float) -> None:
        self.reconfigure(spec)
        self.load(row, now)

    def reconfigure(self, spec: QuarantineSpec) -> None:
        """Take over changed rules; recent failures are counted anew."""
        self._spec = spec
        self._recent = RecentFailures(spec.failure_rate) if spec.failure_rate else None

    def load(self, row: LaneRow, now: float) -> None:
        """Take over what the database says."""
        self.state = LaneState(row.state)
        self.consecutive_failures = row.consecutive_failures
        self.quarantine_reason = row.quarantine_reason
        self.probes = row.probes
        self.probe_at = None if row.probe_in_seconds is None else now + row.probe_in_seconds
        self.asked_by = Actor(row.probe_asked_by) if row.probe_asked_by else Actor.WORKER
        self.ramp_percent = row.ramp_percent
        self.transitions: list[Transition] = []
        self._begin_step(now)

    @property
    def part(self) -> float:
        """The part of its limits that the lane may use."""
        return 1.0 if self.ramp_percent is None else self.ramp_percent / 100

    # Attempts --------------------------------------------------------------------------------------------------------

    def succeeded(self, now: float) -> bool:
        """Note a success; return whether that changed anything that is written down."""
        if self._recent is not None:
            self._recent.note(now, failed=False)
        if self.ramp_percent is not None:
            self._step_successes += 1
            return self._step_successes >= self._spec.ramp.successes and self._advance(now)
        if not self.consecutive_failures:
            return False
        self.consecutive_failures = 0
        return True

    def failed(self, now: float, detail: str) -> str | None:
        """Note a failure; return the reason for a quarantine if it was one too many."""
        self.consecutive_failures += 1
        if self._recent is not None:
            self._recent.note(now, failed=True)
        if self.state is LaneState.QUARANTINED:
            return None
        if self.ramp_percent is not None:
            return f"FailedAgain: while recovering at {self.ramp_percent} %; the last: {detail}"
        if self.consecutive_failures >= self._spec.consecutive_failures:
            return f"ConsecutiveFailures: {self._spec.consecutive_failures}; the last: {detail}"
        if self._recent is not None and self._recent.too_many(now):
            return f"FailureRate: {self._recent.describe(now)}; the last: {detail}"
        return None

    def pass_time(self, now: float) -> bool:
        """Take the next step of a ramp if its time has come; return whether it had."""
        return self.ramp_percent is not None and now >= self._step_until and self._advance(now)

    # Quarantine ------------------------------------------------------------------------------------------------------

    def quarantine(self, now: float, reason: str, *, probing: bool) -> None:
        """Stop; `probing` says whether time alone may heal it. Probes go on where an unfinished ramp had left them."""
        if self.state is LaneState.OPEN:
            self.probes = 0 if self.ramp_percent is None else self.probes + 1
            self._change(LaneState.QUARANTINED, None, Actor.WORKER, reason)
        self.quarantine_reason = reason[:REASON_LIMIT]
        self._plan_probe(now, probing=probing)

    def probe_failed(self, now: float, reason: str, *, probing: bool) -> None:
        """Note that the partner is not back; the next probe comes after an interval that grows to an hour."""
        self.probes += 1
        self.quarantine_reason = reason[:REASON_LIMIT]
        self._plan_probe(now, probing=probing)

    def ask_probe(self, now: float, actor: Actor) -> None:
        """Have the partner tried at once."""
        self.probe_at = now
        self.asked_by = actor

    def reopen(self, now: float, reason: str) -> None:
        """Leave quarantine for the first step of the ramp."""
        self._change(LaneState.OPEN, RAMP_PERCENT[0], self.asked_by, reason)
        self.consecutive_failures = 0
        self.quarantine_reason = None
        self.probe_at = None
        self.asked_by = Actor.WORKER
        if self._recent is not None:
            self._recent.forget()
        self._begin_step(now)

    def _plan_probe(self, now: float, *, probing: bool) -> None:
        interval = self._spec.probe_interval.total_seconds()
        longest = max(interval, LONGEST_PROBE_INTERVAL_SECONDS)
        self.probe_at = now + min(interval * 2 ** min(self.probes, 30), longest) if probing else None
        self.asked_by = Actor.WORKER

    # The ramp --------------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> bool:
        following = [percent for percent in RAMP_PERCENT if percent > (self.ramp_percent or 0)]
        reason = f"{self._step_successes} deliveries without a failure at {self.ramp_percent} %"
        self._change(LaneState.OPEN, following[0] if following else None, Actor.WORKER, reason)
        if not following:
            self.probes = 0
        self._begin_step(now)
        return True

    def _begin_step(self, now: float) -> None:
        self._step_successes = 0
        self._step_until = now + self._spec.ramp.duration.total_seconds()

    def _change(self, state: LaneState, ramp_percent: int | None, actor: Actor, reason: str) -> None:
        former = self._name
        self.state, self.ramp_percent = state, ramp_percent
        self.transitions.append(Transition(former, self._name, actor.value, reason[:REASON_LIMIT]))

    @property
    def _name(self) -> str:
        return self.state.value if self.ramp_percent is None else f"Recovering at {self.ramp_percent} %"
