"""How fast a lane may go: requests a second, requests at once, and the partner's pauses.

The spec sets the ceilings; three things lower them. A lane that recovers from quarantine has a part of them. A partner
that refuses for its rate limits halves the rate, down to a floor, and time without a refusal raises it again evenly
(AIMD: Chiu and Jain, 1989). A partner that answers more slowly than it used to has fewer requests at once. After a
refusal the bucket is empty: what it held was meant for a partner that keeps up.
"""

from contracts.throttle import ThrottleSpec
from delivery.concurrency import ConcurrencyLimit
from delivery.throttle import TokenBucket
from store.lanes import LaneRow

DECREASE = 0.5
CUT_SPACING_SECONDS = 1.0
"""Refusals that come together are one: requests that were under way say nothing of the lower rate."""

RISE_PER_SECOND = 0.01
"""Part of the ceiling by which the rate rises each second."""

NEWS = 0.05
"""Part of the ceiling by which a limit must have moved to be written down before it is back."""

SILENCE_SECONDS = 1.0
"""A partner with requests under way that has answered none of them for so long is silent."""


class Pace:
    """The limits of one lane that are in force."""

    def __init__(self, spec: ThrottleSpec, row: LaneRow, part: float, now: float) -> None:
        self._spec = spec
        self._part = part
        self._learned = spec.requests_per_second
        if row.effective_rps is not None:
            self._learned = min(self._learned, max(row.effective_rps / part, self._floor))
        self._rises_from = now
        self._next_cut = now
        self.throttled_in_a_row = 0
        self.silent_since = now
        # No tokens in the row: its last owner died with them in hand and may have spent them all.
        tokens = 0.0
        if row.tokens is not None:
            tokens = row.tokens + (row.tokens_age_seconds or 0.0) * self._learned * part
        self._slowness = ConcurrencyLimit(spec.concurrency)
        self.bucket = TokenBucket(spec.requests_per_second, float(spec.burst), now, tokens)
        self.load(row, now)
        self._apply(now)
        self._told = (row.effective_rps, row.effective_concurrency)

    def load(self, row: LaneRow, now: float) -> None:
        """Take over until when the partner wants silence."""
        self.paused_until = now + (row.paused_for_seconds or 0.0)

    def reconfigure(self, spec: ThrottleSpec, now: float) -> None:
        """Take over changed ceilings; what was learned stays, below them."""
        if spec.concurrency != self._spec.concurrency:
            self._slowness = ConcurrencyLimit(spec.concurrency)
        if self._learned == self._spec.requests_per_second:
            self._learned = spec.requests_per_second
        self._spec = spec
        self._learned = min(max(self._learned, self._floor), spec.requests_per_second)
        self._apply(now)

    def allow(self, part: float, now: float) -> None:
        """Give the lane a part of its limits."""
        if part != self._part:
            self._part = part
            self._apply(now)

    # What is in force ------------------------------------------------------------------------------------------------

    @property
    def effective_rps(self) -> float | None:
        """Requests per second that are in force, None if they are the spec's."""
        return self.bucket.rate if self.bucket.rate < self._spec.requests_per_second else None

    @property
    def effective_concurrency(self) -> int | None:
        """Requests at once that are in force, None if they are the spec's."""
        return self.concurrency if self.concurrency < self._spec.concurrency else None

    @property
    def is_lowered(self) -> bool:
        """Whether some limit is below the spec's."""
        return self.effective_rps is not None or self.effective_concurrency is not None

    def tell(self) -> tuple[float | None, int | None]:
        """Return the limits in force, to be written down."""
        self._told = (self.effective_rps, self.effective_concurrency)
        return self._told

    @property
    def is_news(self) -> bool:
        """Whether the limits in force differ enough from what was written down."""
        told_rate, told_concurrency = self._told
        rate, concurrency = self.effective_rps, self.effective_concurrency
        if (rate is None) != (told_rate is None) or (concurrency is None) != (told_concurrency is None):
            return True
        spec = self._spec
        return (
            abs((rate or 0) - (told_rate or 0)) >= NEWS * spec.requests_per_second
            or abs((concurrency or 0) - (told_concurrency or 0)) > NEWS * spec.concurrency
        )

    # Starting --------------------------------------------------------------------------------------------------------

    def may_start(self, under_way: int, now: float) -> bool:
        """Whether one more request may start."""
        return under_way < self.concurrency and now >= self.paused_until and self.bucket.available(now) >= 1

    def room(self, under_way: int, now: float) -> int:
        """Return how many more requests may start."""
        if now < self.paused_until:
            return 0
        return max(0, min(self.concurrency - under_way, int(self.bucket.available(now))))

    def seconds_until_start(self, under_way: int, now: float) -> float | None:
        """Return how long until time alone lets a request start; None if another has to end first."""
        if under_way >= self.concurrency:
            return None
        return max(self.paused_until - now, self.bucket.seconds_until_next(now), 0.0)

    def is_slow(self, under_way: int, now: float) -> bool:
        """Whether the partner answers slowly, or not at all."""
        return self._slowness.is_slow or (under_way > 0 and now - self.silent_since > SILENCE_SECONDS)

    # What the partner does -------------------------------------------------------------------------------------------

    def answered(self, seconds: float, now: float) -> bool:
        """Note how long an answer, or its absence, took; return whether that changed a limit."""
        self.silent_since = now
        if not self._slowness.answered(seconds, now):
            return False
        self._apply(now)
        return True

    def refused(self, until: float, now: float) -> None:
        """Note that the partner refused for its limits and asked for silence."""
        self.throttled_in_a_row += 1
        self.rest(until)
        self.bucket.empty_until(self.paused_until, now)
        if now >= self._next_cut:
            self._learned = max(self._learned * DECREASE, self._floor)
            self._next_cut = self.paused_until + CUT_SPACING_SECONDS
            self._apply(now)
        self._rises_from = self.paused_until

    def rest(self, until: float) -> bool:
        """Let nothing start until then; return whether that is later than before."""
        later = until > self.paused_until
        self.paused_until = max(self.paused_until, until)
        return later

    def rise(self, now: float) -> None:
        """Raise the rate by what time has earned."""
        ceiling = self._spec.requests_per_second
        if self._learned < ceiling and now > self._rises_from:
            self._learned = min(ceiling, self._learned + RISE_PER_SECOND * ceiling * (now - self._rises_from))
            self._rises_from = now
            self._apply(now)

    @property
    def _floor(self) -> float:
        return self._spec.requests_per_second * self._spec.floor_percent / 100

    def _apply(self, now: float) -> None:
        spec = self._spec
        self.concurrency = max(1, int(min(self._slowness.limit, spec.concurrency * self._part)))
        self.bucket.resize(self._learned * self._part, max(1.0, spec.burst * self._part), now)
