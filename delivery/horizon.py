"""How long the oldest open transaction has been open, told from transaction numbers alone.

The times at which others began are shown only to monitoring roles, their numbers to everybody. Whoever holds number
*n* has held it since the last moment at which *n* was still to come, and that moment is known from earlier looks.
"""

from bisect import bisect_right

LOOKS = 4_096
"""Looks that are remembered: seventeen hours of them."""


class Horizon:
    """Remembers at which time which transaction number was next."""

    def __init__(self) -> None:
        self._began = 0.0
        self._numbers: list[int] = []
        self._times: list[float] = []

    def age(self, now: float, following: int, oldest: int) -> float:
        """Return for how many seconds `oldest` has been held, by a look now at which `following` was next.

        What is older than the looks that are remembered is as old as the first of them, at least.
        """
        if not self._numbers or following < self._numbers[-1]:  # another server has taken over, a little behind
            self._began = now
            self._numbers, self._times = [following], [now]
        elif following == self._numbers[-1]:
            self._times[-1] = now
        else:
            self._numbers.append(following)
            self._times.append(now)
        if len(self._numbers) > LOOKS:
            del self._numbers[0]
            self._began = self._times.pop(0)
        known = bisect_right(self._numbers, oldest)
        return now - (self._times[known - 1] if known else self._began)
