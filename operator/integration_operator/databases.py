"""A few connections to the database, each used by one piece of work at a time.

Reconcilers run side by side, and their transactions must not mix on one connection.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from programs.reconnect import Reconnecting
from store.database import ConnectionString, Database

T = TypeVar("T")


class Databases:
    """Connections that come back, handed out in turn."""

    def __init__(self, dsn: ConnectionString, program: str, on_state: Callable[[bool], None], *, size: int) -> None:
        self._all = [Reconnecting(dsn, program, on_state) for _ in range(size)]
        self._free: asyncio.LifoQueue[Reconnecting] = asyncio.LifoQueue()
        for each in self._all:
            self._free.put_nowait(each)

    async def once(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do work on a connection of its own; raise DatabaseUnreachableError."""
        mine = await self._free.get()
        try:
            return await mine.once(work)
        finally:
            self._free.put_nowait(mine)

    async def keep_trying(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do work as soon as the database answers, however long that takes."""
        mine = await self._free.get()
        try:
            return await mine.keep_trying(work)
        finally:
            self._free.put_nowait(mine)

    async def close(self) -> None:
        """Close them all; nobody may be at work."""
        for each in self._all:
            await each.close()
