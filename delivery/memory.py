"""What a worker's connectors remember, kept in the database: the protocols of `connectors.context` over `store`.

Everything raises StateUnavailableError while the database is away.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from connectors.connector import Connection
from connectors.context import Account, Claim, Fact, Kind
from connectors.errors import LinkHeldError, StateUnavailableError
from contracts.ids import TenantId
from programs.reconnect import Reconnecting
from store import facts, links
from store.database import Database
from store.errors import DatabaseUnreachableError
from store.links import LinkKey

T = TypeVar("T")


class Memory:
    """A connection to the database for what connectors remember, and nothing else."""

    def __init__(self, database: Reconnecting) -> None:
        self._database = database

    async def ask(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do work on the connection."""
        try:
            return await self._database.once(work)
        except DatabaseUnreachableError as error:
            raise StateUnavailableError("the database is away, and with it what is known of this partner") from error

    async def insist(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Do work on the connection, however long the database is away."""
        return await self._database.keep_trying(work)


class StoredFacts:
    """What one connection found out about its partner's account."""

    def __init__(self, memory: Memory, connection: Connection) -> None:
        self._memory = memory
        self._uid = connection.uid

    async def read(self, name: str) -> Fact | None:
        """Return what is known under a name."""
        found = await self._memory.ask(lambda database: facts.read_fact(database, self._uid, name))
        return found and Fact(found.value, found.learned_at.timestamp())

    async def write(self, name: str, value: object) -> None:
        """Remember a JSON value, in place of what was known."""
        await self._memory.ask(lambda database: facts.write_fact(database, self._uid, name, value))

    async def forget(self, name: str) -> None:
        """Forget it."""
        await self._memory.ask(lambda database: facts.forget_fact(database, self._uid, name))


class StoredLinks:
    """Which records of a tenant are which at its partners, and claims on missing ones."""

    def __init__(self, memory: Memory, tenant: TenantId) -> None:
        self._memory = memory
        self._tenant = tenant

    async def find(self, account: Account, kind: Kind, ours: Sequence[str]) -> Mapping[str, str]:
        """Return the partner's ids of those that are linked."""
        return await self._memory.ask(lambda database: links.find_links(database, self._tenant, account, kind, ours))

    async def claim(self, account: Account, kind: Kind, ours: str, hold: timedelta) -> Claim | str:
        """Take the right to make a record; raise LinkHeldError."""
        key = LinkKey(self._tenant, account, kind, ours)
        found = await self._memory.ask(lambda database: links.claim_link(database, key, hold))
        if found.remote is not None:
            return found.remote
        if not found.granted or found.token is None:
            raise LinkHeldError(max(0.0, found.held_seconds or 0.0))
        return Claim(account, kind, ours, found.token, found.tried_since)

    async def settle(self, claim: Claim, remote: str, keep: timedelta | None = None) -> None:
        """Link what was made or found."""
        key = self._key(claim)
        await self._memory.ask(lambda database: links.settle_link(database, key, claim.token, remote, keep))

    async def release(self, claim: Claim) -> None:
        """Give the right back."""
        key = self._key(claim)
        await self._memory.ask(lambda database: links.release_link(database, key, claim.token))

    async def link(self, account: Account, kind: Kind, pairs: Mapping[str, str]) -> None:
        """Link records that are certain."""
        await self._memory.ask(lambda database: links.put_links(database, self._tenant, account, kind, pairs))

    async def unlink(self, account: Account, kind: Kind, ours: str, remote: str) -> None:
        """Forget a link if it is still to that record."""
        key = LinkKey(self._tenant, account, kind, ours)
        await self._memory.ask(lambda database: links.unlink(database, key, remote))

    def _key(self, claim: Claim) -> LinkKey:
        return LinkKey(self._tenant, claim.account, claim.kind, claim.ours)
