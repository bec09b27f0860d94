"""A connection that comes back: what a program's loops hold instead of a bare one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from store.database import ConnectionString, Database, connect
from store.errors import DatabaseUnreachableError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Reconnecting:
    """One database connection, opened when first needed and again after it broke."""

    def __init__(
        self,
        dsn: ConnectionString,
        program: str,
        on_state: Callable[[bool], None] = lambda _: None,
        *,
        queue: bool = False,
    ) -> None:
        self._queue = queue
        self._dsn = dsn
        self._program = program
        self._on_state = on_state
        self._database: Database | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Database:
        """Return the open connection; raise DatabaseUnreachableError."""
        async with self._lock:
            if self._database is None or self._database.closed or self._database.broken:
                self._database = await connect(self._dsn(), self._program, queue=self._queue)
                self._on_state(True)
            return self._database

    async def once(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do work on the connection; raise DatabaseUnreachableError, after which the next call connects anew."""
        try:
            return await work(await self.get())
        except DatabaseUnreachableError:
            await self.close()
            self._on_state(False)
            raise

    async def keep_trying(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do work as soon as the database answers, however long that takes."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(DatabaseUnreachableError),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            before_sleep=lambda state: log.warning(
                "waiting for the database", extra={"reason": str(state.outcome and state.outcome.exception())}
            ),
        )
        return await retrying(self.once, work)

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
        database, self._database = self._database, None
        if database is not None:
            await database.close()
