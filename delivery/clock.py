"""The database's clock, told without asking: durations across processes must not depend on a worker's wrong clock."""

import time
from datetime import UTC, datetime


class DatabaseClock:
    """Tells the database's time from the monotonic clock and the last reading of both."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def set(self, database_seconds: float, asked_at: float, answered_at: float) -> None:
        """Take a reading (seconds since 1970) that was asked for and answered at these monotonic times."""
        self._offset = database_seconds - (asked_at + answered_at) / 2

    def now(self) -> float:
        """Return the database's time in seconds since 1970."""
        return time.monotonic() + self._offset

    def datetime(self) -> datetime:
        """Return the database's time, aware."""
        return datetime.fromtimestamp(self.now(), UTC)
