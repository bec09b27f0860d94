"""How a lane gathers jobs for one request, where its connector sends many at once.

Jobs gather before they start: while a lane waits for more it occupies no sender, spends no token, can be given back,
paused or suspended at any moment, and has nothing to bring to an end. What has gathered goes as soon as waiting would
gain nothing: it fills a request, the first of it has waited as long as the connector lets it, other jobs of its
subjects stand behind it, or no more fits into memory.

No I/O; `now` is in seconds of the monotonic clock.
"""

from connectors.connector import BatchLimits
from delivery.window import Entry, Window

ENVELOPE_BYTES = 512
"""What is allowed for everything in a request that surrounds one event's data."""

REMEMBERED_SECONDS = 600.0
"""How long a partner's limit is obeyed before it is tried again with larger requests: it may have been raised."""


class Gathering:
    """What one lane sends in one request, and whether it waits for more of it."""

    def __init__(self, limits: BatchLimits) -> None:
        self.items = limits.items
        self._size = self._largest = limits.size
        self._remembered_until = 0.0
        self._enough = limits.items
        self._delay = limits.delay.total_seconds()
        self._until: float | None = None

    def seconds_left(self, jobs: Window, now: float) -> float:
        """Return how long to wait for more jobs; call whenever some are ready, as it begins with the first of them."""
        if self._until is None:
            self._until = now + self._delay
        if jobs.ready >= self._enough or jobs.waiting > jobs.ready or not jobs.has_room:
            return 0.0
        return max(0.0, self._until - now)

    def requests(self, jobs: Window, now: float) -> int:
        """Return how many requests what is ready makes, none while it waits for more."""
        return 0 if self.seconds_left(jobs, now) else -(-jobs.ready // self._enough)

    def taken(self, items: int, jobs: Window, *, by_size: bool) -> None:
        """Note that a request was filled with so many; what is left over has waited already.

        One that its size ended tells how many are enough for the next: until that one is filled, sizes are not known.
        """
        self._enough = items if by_size else self.items
        if not jobs.has_ready:
            self._until = None

    def restart(self) -> None:
        """Forget since when there is something, for the lane is loaded anew."""
        self._until = None

    def companions(self, entry: Entry) -> int:
        """Return with how many a job may share its request: half as many after each failed attempt, none in its last.

        So a job at which a partner chokes does not drag others along until they are dead letters.
        """
        attempts = entry.job.attempts
        if attempts and attempts + 1 >= entry.lane.delivery.retry.max_attempts:
            return 0
        return max(0, (self.items >> attempts) - 1)

    # Sizes -----------------------------------------------------------------------------------------------------------

    def size(self, now: float) -> int:
        """Return how many bytes a request may hold."""
        if now >= self._remembered_until:
            self._size = self._largest
        return self._size

    def refused(self, size: int, now: float) -> None:
        """Note that a request of that size was too much for the partner."""
        self._size = min(self._size, size // 2)
        self._remembered_until = now + REMEMBERED_SECONDS
