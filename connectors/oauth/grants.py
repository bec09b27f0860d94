"""Grants and how they are kept: what the vault asks of whoever keeps them.

A grant has a version. Every token that is got for it makes the next version, and is written only over the version that
it was got for. Who wants to get one has to take the right first, which is one process's at a time.

Texts of these classes show no token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TokenPair:
    """The two tokens of a grant, and the seed: the refresh token of the Secret that the grant began with, if any."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    seed: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What is kept of a grant; times in seconds since 1970 by the database's clock.

    `tokens` is None, and the version 0, where somebody has tried to begin one and not come to an end. `refusal` says
    why the partner wants no more of it; a newer version has none. `tried_since` is when somebody took the right to
    renew this version and left no result. Nobody has that right before `rests_until`.
    """

    version: int
    tokens: TokenPair | None
    obtained_at: float
    expires_at: float
    details: Mapping[str, object]
    refusal: str | None = None
    tried_since: float | None = None
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True)
class NewTokens:
    """Tokens just got, good for `lifetime`."""

    tokens: TokenPair
    lifetime: timedelta
    details: Mapping[str, object]


class GrantStore(Protocol):
    """Keeps the grant of one connection, sealed. Every method may raise StateUnavailableError but `save`."""

    async def read(self) -> Grant | None:
        """Return the grant; raise UnusableGrantError if it was sealed with a key that is not there any more."""

    async def claim(self, version: int, hold: timedelta) -> bool:
        """Take the right to renew this version (0: to begin one) for so long; False if it is not to be had now."""

    async def release(self, version: int, rest: timedelta) -> None:
        """Give the right back without a result, and let nobody have it before `rest` is over."""

    async def save(self, version: int, new: NewTokens) -> Grant | None:
        """Write tokens over a version, however long the database is away; None if it is another version by now."""

    async def refuse(self, version: int, reason: str) -> None:
        """Note that the partner wants no more of this version; the tokens stay."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What proves to a partner who we are, for a while; `details` are what the partner said of the grant."""

    value: str = field(repr=False)
    version: int
    details: Mapping[str, object]


class Tokens(Protocol):
    """Access tokens of one connection's grant."""

    async def current(self) -> AccessToken:
        """Return one that is good for a while.

        Raise ReconnectNeededError where a person has to act, TokensUnavailableError where time has to pass,
        CredentialMissingError or UnusableCredentialError where a Secret is not as it should be.
        """

    async def renew(self, refused: AccessToken) -> AccessToken:
        """Return another one than that which the partner has refused; raises the same."""
