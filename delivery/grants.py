"""A worker's OAuth grants, kept in the database: the protocol of `connectors.oauth.grants` over `store`.

Tokens are sealed here, on the way to the database, and opened on the way back. What is sealed is bound to its
connection and version: moved to another connection's row, or to another version, it does not open.
"""

import json
import secrets
from collections.abc import Callable
from datetime import timedelta

from connectors.connector import Connection
from connectors.errors import UnusableCredentialError, UnusableGrantError
from connectors.oauth.grants import Grant, NewTokens, TokenPair
from contracts.ids import ConnectionUid
from delivery.memory import Memory
from programs.key_ring import KeyRing, KeyRingError
from store import grants as store

Keys = Callable[[], KeyRing]
"""Reads the pool's keys, as they are now; raises KeyRingError."""


class StoredGrants:
    """The grant of one connection."""

    def __init__(self, memory: Memory, connection: Connection, keys: Keys) -> None:
        self._memory = memory
        self._uid = connection.uid
        self._keys = keys
        self._holder = secrets.randbits(62)

    async def read(self) -> Grant | None:
        """Return the grant; raise UnusableGrantError."""
        row = await self._memory.ask(lambda database: store.read_grant(database, self._uid))
        if row is None:
            return None
        return Grant(
            row.version,
            self._opened(row),
            row.obtained_at or 0.0,
            row.expires_at or 0.0,
            row.details,
            row.refusal,
            row.tried_since,
            row.rests_until or 0.0,
        )

    async def claim(self, version: int, hold: timedelta) -> bool:
        """Take the right to renew a version; raise UnusableCredentialError if the result could not be sealed."""
        try:
            self._keys()
        except KeyRingError as error:
            raise UnusableCredentialError(str(error)) from None
        return await self._memory.ask(
            lambda database: store.claim_grant(database, self._uid, version, self._holder, hold)
        )

    async def release(self, version: int, rest: timedelta) -> None:
        """Give the right back."""
        await self._memory.ask(lambda database: store.release_grant(database, self._uid, version, self._holder, rest))

    async def save(self, version: int, new: NewTokens) -> Grant | None:
        """Write tokens over a version, however long the database is away."""
        content = json.dumps({"access": new.tokens.access, "refresh": new.tokens.refresh, "seed": new.tokens.seed})
        sealed = self._keys().seal(content.encode(), _bound_to(self._uid, version + 1))
        saved = await self._memory.insist(
            lambda database: store.save_grant(database, self._uid, version, sealed, new.lifetime, new.details)
        )
        return saved and Grant(saved.version, new.tokens, saved.obtained_at, saved.expires_at, new.details)

    async def refuse(self, version: int, reason: str) -> None:
        """Note that the partner wants no more of this version."""
        await self._memory.ask(lambda database: store.refuse_grant(database, self._uid, version, reason))

    def _opened(self, row: store.GrantRow) -> TokenPair | None:
        if row.sealed is None or row.key_name is None:
            return None
        try:
            content = self._keys().open(row.key_name, row.sealed, _bound_to(self._uid, row.version))
        except KeyRingError as error:
            raise UnusableGrantError(f"its tokens cannot be opened: {error}", row.version) from None
        return TokenPair(**json.loads(content))


def _bound_to(connection: ConnectionUid, version: int) -> bytes:
    return f"oauth_token|{connection}|{version}".encode()
