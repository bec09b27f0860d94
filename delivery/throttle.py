"""A token bucket, exact because one process owns it at a time.

Tokens accrue by the monotonic clock; between processes the bucket travels as a number of tokens and an age.
"""


class TokenBucket:
    """`rate` tokens a second up to `burst`; each delivery takes one."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float, tokens: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = min(tokens, burst)
        self._at = now

    def available(self, now: float) -> float:
        """Return the tokens there are at `now`, in seconds of the monotonic clock."""
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        return self._tokens

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        if self.available(now) < 1:
            return False
        self._tokens -= 1
        return True

    def owe(self, now: float) -> None:
        """Take one token, there or not; what follows waits for it."""
        self._tokens = self.available(now) - 1

    def empty_until(self, until: float, now: float) -> None:
        """Lose what is there; nothing accrues before `until`."""
        self._tokens = min(self.available(now), 0.0)
        self._at = max(until, now)

    def give_back(self, now: float) -> None:
        """Return a token that was taken for nothing."""
        self._tokens = min(self.burst, self.available(now) + 1)

    def seconds_until_next(self, now: float) -> float:
        """Return how long until one token is there; zero if it is."""
        return max(0.0, (1 - self.available(now)) / self.rate)

    def resize(self, rate: float, burst: float, now: float) -> None:
        """Change the limits; tokens in hand stay, up to the new burst."""
        self._tokens = min(self.available(now), burst)
        self.rate = rate
        self.burst = burst
