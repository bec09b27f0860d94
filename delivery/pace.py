"""How fast a lane may go: its token bucket, the requests it may have under way at once, and the partner's pauses.

The spec sets the limits; a lane that recovers from quarantine has a part of them.
"""

from contracts.connection import ThrottleSpec
from delivery.throttle import TokenBucket
from store.lanes import LaneRow


class Pace:
    """The limits of one lane that are in force."""

    def __init__(self, spec: ThrottleSpec, row: LaneRow, part: float, now: float) -> None:
        self._spec = spec
        self._part = part
        self.throttled_in_a_row = 0
        # No tokens in the row: its last owner died with them in hand and may have spent them all.
        tokens = 0.0
        if row.tokens is not None:
            tokens = row.tokens + (row.tokens_age_seconds or 0.0) * spec.requests_per_second
        self.bucket = TokenBucket(spec.requests_per_second, float(spec.burst), now, tokens)
        self.load(row, now)
        self._apply(now)

    def load(self, row: LaneRow, now: float) -> None:
        """Take over until when the partner wants silence."""
        self.paused_until = now + (row.paused_for_seconds or 0.0)

    def reconfigure(self, spec: ThrottleSpec, now: float) -> None:
        """Take over changed limits."""
        self._spec = spec
        self._apply(now)

    def allow(self, part: float, now: float) -> None:
        """Give the lane a part of its limits."""
        if part != self._part:
            self._part = part
            self._apply(now)

    @property
    def effective_rps(self) -> float | None:
        """Requests per second that are in force, None if they are the spec's."""
        return self.bucket.rate if self.bucket.rate < self._spec.requests_per_second else None

    @property
    def effective_concurrency(self) -> int | None:
        """Requests at once that are in force, None if they are the spec's."""
        return self.concurrency if self.concurrency < self._spec.concurrency else None

    def may_start(self, under_way: int, now: float) -> bool:
        """Whether one more request may start."""
        return under_way < self.concurrency and now >= self.paused_until and self.bucket.available(now) >= 1

    def seconds_until_start(self, under_way: int, now: float) -> float | None:
        """Return how long until time alone lets a request start; None if another has to end first."""
        if under_way >= self.concurrency:
            return None
        return max(self.paused_until - now, self.bucket.seconds_until_next(now), 0.0)

    def refused(self, until: float) -> None:
        """Note that the partner refused for its limits and asked for silence."""
        self.throttled_in_a_row += 1
        self.rest(until)

    def rest(self, until: float) -> bool:
        """Let nothing start until then; return whether that is later than before."""
        later = until > self.paused_until
        self.paused_until = max(self.paused_until, until)
        return later

    def _apply(self, now: float) -> None:
        spec = self._spec
        self.concurrency = max(1, int(spec.concurrency * self._part))
        self.bucket.resize(spec.requests_per_second * self._part, max(1.0, spec.burst * self._part), now)
