"""What a connector may reach beside its partner: small protocols and the guarded way out.

A worker gives a connector all of it. A program that only looks at credentials or sends a test gives less; what is not
there answers with NoStateError, so that a connector never works on half of its memory unnoticed. Facts and
links may raise StateUnavailableError at any time, which a connector lets pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import time
from typing import NamedTuple, NewType, Protocol

from connectors.errors import NoStateError
from connectors.http import GuardedHttp
from connectors.oauth.grants import GrantStore
from contracts.spec_values import SecretKeyRef

Account = NewType("Account", str)
"""A partner's account, as `hubspot:4711`: what its records are unique in, whichever connection reaches it."""

Kind = NewType("Kind", str)
"""A kind of record, as `company` or `note`."""


class CredentialMissingError(LookupError):
    """A referenced Secret, or a key in it, is not there; the message names both and never a value."""


class Credentials(Protocol):
    """Secrets of one connection's namespace, always the newest mounted values."""

    def read(self, reference: SecretKeyRef) -> bytes:
        """Return the value; raise CredentialMissingError if Secret or key is missing."""


class Fact(NamedTuple):
    """Something that was found out about a partner's account: JSON, and when, in seconds since 1970."""

    value: object
    learned_at: float


class Facts(Protocol):
    """What a connection remembers of its partner's account: its id, its properties, what was set up there.

    It outlives the process and is shared by all workers of the connection; it is never a credential. Whatever is in
    it can be found out again, and a connector that finds it wrong forgets it.
    """

    async def read(self, name: str) -> Fact | None:
        """Return what is known under a name."""

    async def write(self, name: str, value: object) -> None:
        """Remember a JSON value, in place of what was known."""

    async def forget(self, name: str) -> None:
        """Forget it."""


class Claim(NamedTuple):
    """The right to make a record at the partner, given to one process at a time.

    `tried_since` is when an earlier holder may have begun to make it, None if there was none: the record may be there,
    and has to be looked for before it is made.
    """

    account: Account
    kind: Kind
    ours: str
    token: int
    tried_since: datetime | None


class Links(Protocol):
    """Which of our records is which at the partner, and who may make the missing ones.

    For partners that keep no unique key of ours. A claim is written down before the record is made; a process killed
    in between leaves it, and the next to claim knows that it has to look first. All are of the connection's tenant.
    """

    async def find(self, account: Account, kind: Kind, ours: Sequence[str]) -> Mapping[str, str]:
        """Return the partner's ids of those of our records that are linked."""

    async def claim(self, account: Account, kind: Kind, ours: str, hold: timedelta) -> Claim | str:
        """Take the right to make a record, or return the partner's id if it is linked; raise LinkHeldError.

        The holder must have no request under way `hold` from now: then somebody else may have the right.
        """

    async def settle(self, claim: Claim, remote: str, keep: timedelta | None = None) -> None:
        """Link what was made or found; forget it after `keep`, if given."""

    async def release(self, claim: Claim) -> None:
        """Give the right back: the record was surely not made, now or before."""

    async def link(self, account: Account, kind: Kind, pairs: Mapping[str, str]) -> None:
        """Link records of ours to partner's ids that are certain, in place of former ones."""

    async def unlink(self, account: Account, kind: Kind, ours: str, remote: str) -> None:
        """Forget a link, if it is still to that record: the partner has deleted it or merged it into another."""


class _NoState:
    """Stands where a program keeps nothing for connectors."""

    def __getattr__(self, name: str) -> object:
        raise NoStateError(f"this program keeps nothing for connectors, so that `{name}` cannot be answered")


_NO_STATE: object = _NoState()


def _facts() -> Facts:
    return _NO_STATE  # type: ignore[return-value]  # every use of it raises


def _links() -> Links:
    return _NO_STATE  # type: ignore[return-value]  # every use of it raises


def _grants() -> GrantStore:
    return _NO_STATE  # type: ignore[return-value]  # every use of it raises


@dataclass(frozen=True, slots=True)
class ConnectorContext:
    """Everything a connector is given; `clock` tells the database's time, in seconds since 1970."""

    credentials: Credentials
    http: GuardedHttp
    clock: Callable[[], float] = time
    facts: Facts = field(default_factory=_facts)
    links: Links = field(default_factory=_links)
    grants: GrantStore = field(default_factory=_grants)
