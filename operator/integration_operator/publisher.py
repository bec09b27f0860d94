"""Publishing in groups: many connections that become ready at once share one transaction.

Each caller waits for its own answer. A transaction that fails, fails for all who were in it; they come again.
"""

import asyncio
from typing import Final

from programs.reconnect import Reconnecting
from store.leadership import Term
from store.publication import Publication, PublishedConnection, Refusal, publish

_AT_ONCE: Final = 500

_Waiting = tuple[PublishedConnection, "asyncio.Future[Publication | Refusal]"]


class Publisher:
    """Publishes for one leader's term."""

    def __init__(self, database: Reconnecting, term: Term) -> None:
        self._database = database
        self._term = term
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()

    async def publish(self, connection: PublishedConnection) -> Publication | Refusal:
        """Publish one connection; raise StoreError, with nothing of it written."""
        answer: asyncio.Future[Publication | Refusal] = asyncio.get_running_loop().create_future()
        self._waiting.append((connection, answer))
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Publish what waits, until cancelled; those still waiting are cancelled too."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._publish(self._next_group())
        finally:
            for _, answer in self._waiting:
                answer.cancel()

    def _next_group(self) -> list[_Waiting]:
        """Take who waits, but no name twice: of two objects of one name, one makes way for the other."""
        group: list[_Waiting] = []
        names: set[tuple[str, str]] = set()
        rest: list[_Waiting] = []
        for waiting in self._waiting:
            name = (waiting[0].namespace, waiting[0].name)
            if len(group) < _AT_ONCE and name not in names:
                names.add(name)
                group.append(waiting)
            else:
                rest.append(waiting)
        self._waiting = rest
        return group

    async def _publish(self, group: list[_Waiting]) -> None:
        wanted = [connection for connection, _ in group]
        try:
            answers = await self._database.once(lambda database: publish(database, wanted, term=self._term))
        except Exception as error:  # noqa: BLE001 -- told to everyone who waits for it
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
        except BaseException:
            for _, answer in group:
                answer.cancel()
            raise
        else:
            for (_, answer), result in zip(group, answers, strict=True):
                if not answer.done():
                    answer.set_result(result)
