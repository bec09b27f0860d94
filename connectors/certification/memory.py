"""The memory of connectors under certification: what a worker keeps in its database, in a dictionary.

It is as strict as the database: `tests/integration/delivery/test_connector_memory.py` holds both to the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson

from connectors.context import Account, Claim, CredentialMissingError, Fact, Kind
from connectors.errors import LinkHeldError
from contracts.spec_values import SecretKeyRef


class GivenCredentials:
    """Credentials by Secret and key; `removed` ones are missing."""

    def __init__(self, namespace: str, secrets: Mapping[tuple[str, str], str]) -> None:
        self._namespace = namespace
        self._secrets = secrets
        self.removed = False

    def read(self, reference: SecretKeyRef) -> bytes:
        """Return a value; raise CredentialMissingError."""
        value = self._secrets.get((reference.name, reference.key))
        if value is None or self.removed:
            raise CredentialMissingError(f"Secret {self._namespace}/{reference.name} has no key {reference.key}")
        return value.encode()


class Clock:
    """Real time, and as much more as is wanted."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self._ahead = 0.0

    def now(self) -> float:
        """Return it, in seconds since 1970."""
        return self._real() + self._ahead

    def advance(self, duration: timedelta) -> None:
        """Let time pass."""
        self._ahead += duration.total_seconds()


class RememberedFacts:
    """Facts of one connection."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._facts: dict[str, tuple[bytes, float]] = {}

    async def read(self, name: str) -> Fact | None:
        """Return what is known under a name."""
        if name not in self._facts:
            return None
        value, learned_at = self._facts[name]
        return Fact(orjson.loads(value), learned_at)

    async def write(self, name: str, value: object) -> None:
        """Remember a JSON value, in place of what was known."""
        self._facts[name] = orjson.dumps(value), self._clock.now()

    async def forget(self, name: str) -> None:
        """Forget it."""
        self._facts.pop(name, None)


@dataclass(slots=True)
class _Row:
    remote: str | None = None
    token: int | None = None
    held_until: float = 0.0
    tried_since: float | None = None


class RememberedLinks:
    """Links and claims of one tenant."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[tuple[Account, Kind, str], _Row] = {}
        self._tokens = count(1)

    async def find(self, account: Account, kind: Kind, ours: Sequence[str]) -> Mapping[str, str]:
        """Return the partner's ids of those that are linked."""
        found = {each: self._rows[account, kind, each].remote for each in ours if (account, kind, each) in self._rows}
        return {ours: remote for ours, remote in found.items() if remote is not None}

    async def claim(self, account: Account, kind: Kind, ours: str, hold: timedelta) -> Claim | str:
        """Take the right to make a record; raise LinkHeldError."""
        now = self._clock.now()
        row = self._rows.get((account, kind, ours))
        tried_since = row.tried_since if row else None
        if row is not None and row.remote is not None:
            return row.remote
        if row is not None and row.held_until > now:
            raise LinkHeldError(row.held_until - now)
        token = next(self._tokens)
        self._rows[account, kind, ours] = _Row(None, token, now + hold.total_seconds(), tried_since or now)
        since = None if tried_since is None else datetime.fromtimestamp(tried_since, UTC)
        return Claim(account, kind, ours, token, since)

    async def settle(self, claim: Claim, remote: str, keep: timedelta | None = None) -> None:  # noqa: ARG002 -- never that long
        """Link what was made or found."""
        if self._is_held(claim):
            self._rows[claim.account, claim.kind, claim.ours] = _Row(remote)

    async def release(self, claim: Claim) -> None:
        """Give the right back."""
        if self._is_held(claim):
            del self._rows[claim.account, claim.kind, claim.ours]

    async def link(self, account: Account, kind: Kind, pairs: Mapping[str, str]) -> None:
        """Link records that are certain."""
        for ours, remote in pairs.items():
            self._rows[account, kind, ours] = _Row(remote)

    async def unlink(self, account: Account, kind: Kind, ours: str, remote: str) -> None:
        """Forget a link if it is still to that record."""
        row = self._rows.get((account, kind, ours))
        if row is not None and row.remote == remote:
            del self._rows[account, kind, ours]

    def _is_held(self, claim: Claim) -> bool:
        row = self._rows.get((claim.account, claim.kind, claim.ours))
        return row is not None and row.token == claim.token


def context_parts(clock: Clock) -> dict[str, Any]:
    """Return what a connector remembers by, for a ConnectorContext."""
    return {"clock": clock.now, "facts": RememberedFacts(clock), "links": RememberedLinks(clock)}
