"""What came of one attempt: the closed set of answers a connector can give.

Partner-specific words end here. What each outcome does to job, lane and attempt count is decided in one place,
`delivery.effects`, by `match` over this union.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.exchange import Exchange

DETAIL_LIMIT = 2_000
"""Characters of `Report.detail` that are kept; the rest of a partner's answer is cut."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The partner has it (2xx), or already had it (a conflict that proves so)."""


@dataclass(frozen=True, slots=True)
class Transient:
    """A failure that a later attempt may not see: 5xx, connection refused, reset, name not resolved."""

    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Sent, and no answer came (time-out, reset while waiting): the partner may or may not have it."""


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The partner asks us to slow down (429, 503 with Retry-After); costs no attempt."""

    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class QuotaExhausted:
    """A budget of the whole connection is used up until `reset_at` (aware); costs no attempt."""

    reset_at: datetime


@dataclass(frozen=True, slots=True)
class Locked:
    """The partner's record is locked (423); not before `minimum_wait`."""

    minimum_wait: timedelta


@dataclass(frozen=True, slots=True)
class Migrating:
    """The partner moves this account (HubSpot 477); costs no attempt."""

    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class AuthExpired:
    """The credential ran out and can be refreshed once."""


@dataclass(frozen=True, slots=True)
class AuthRevoked:
    """The credential no longer works: quarantine at once."""


@dataclass(frozen=True, slots=True)
class ForbiddenScope:
    """The credential works but lacks `scope`: quarantine at once, naming it."""

    scope: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """This item can never be accepted; dead-letter it alone."""


@dataclass(frozen=True, slots=True)
class TooManyAtOnce:
    """The partner took no item of this request because there were too many in it; costs no attempt."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """The partner's record is gone (deleted or merged): relink before another attempt."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The partner wants nothing more from this connection (410): quarantine at once."""


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """Our side cannot even try: a Secret or key is missing, or the address is refused by the egress rules."""


Outcome = (
    Delivered
    | Transient
    | Ambiguous
    | RateLimited
    | QuotaExhausted
    | Locked
    | Migrating
    | AuthExpired
    | AuthRevoked
    | ForbiddenScope
    | Invalid
    | TooManyAtOnce
    | NotFound
    | Gone
    | Misconfigured
)


@dataclass(frozen=True, slots=True)
class Report:
    """One attempt's outcome with what a person needs to understand it.

    `detail` is safe to store and show: redacted, at most DETAIL_LIMIT characters. `exchange` is the request that
    decided, None if none was made. `rest` says how long the partner would refuse more, whatever it answered to this.
    """

    outcome: Outcome
    status_code: int | None = None
    detail: str = ""
    exchange: Exchange | None = None
    rest: timedelta | None = None
