"""How many requests at once a partner can take, judged by how long it takes to answer.

A partner that answers three times as slowly as it used to is given fewer requests at once: more would only wait there,
and occupy the worker. The limit falls by a quarter for each round of slow answers, down to an eighth of the ceiling,
and rises by one for each round of others. How long answers usually take is learned: quickly downwards, and upwards
within minutes, so that a partner that has become slower for good gets its requests back.
"""

SLOW_SECONDS = 0.25
"""Answers that are faster are never slow."""

SLOW_RATIO = 3.0
FALL = 0.75
FLOOR = 0.125
RECENT_WEIGHT = 0.2
USUAL_WEIGHT_DOWN = 0.1
USUAL_SECONDS_UP = 300.0
LONGEST_GAP_SECONDS = 30.0


class ConcurrencyLimit:
    """A number of requests at once, between a floor and a ceiling."""

    __slots__ = ("_answered_at", "_ceiling", "_next_fall", "_recent", "_usual", "is_slow", "limit")

    def __init__(self, ceiling: int) -> None:
        self._ceiling = float(ceiling)
        self.limit = float(ceiling)
        self.is_slow = False
        self._recent = 0.0
        self._usual: float | None = None
        self._answered_at = 0.0
        self._next_fall = 0.0

    def answered(self, seconds: float, now: float) -> bool:
        """Note how long an answer took, a time-out included; return whether the limit has changed."""
        if seconds < SLOW_SECONDS and not self.is_slow and self.limit == self._ceiling:
            self._usual = self._usual or SLOW_SECONDS / SLOW_RATIO
            return False
        former = self.limit
        self._learn(seconds, now)
        self.is_slow = self._recent > max(SLOW_RATIO * (self._usual or 0.0), SLOW_SECONDS)
        if not self.is_slow:
            self.limit = min(self._ceiling, self.limit + 1 / self.limit)
        elif now >= self._next_fall:
            self.limit = max(self.limit * FALL, self._ceiling * FLOOR, 1.0)
            self._next_fall = now + self._recent
        return int(self.limit) != int(former)

    def _learn(self, seconds: float, now: float) -> None:
        usual = self._usual or seconds  # a partner that was never faster is not slow
        if seconds < usual:
            weight = USUAL_WEIGHT_DOWN
        else:
            weight = min(now - self._answered_at, LONGEST_GAP_SECONDS) / USUAL_SECONDS_UP
        self._usual = usual + (seconds - usual) * weight
        self._recent += (seconds - self._recent) * RECENT_WEIGHT
        self._answered_at = now
