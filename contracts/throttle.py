"""How fast a partner is called: the part of a connection's spec that says so.

A connection states its own limits. Connections of one tenant that name the same scope share one set of limits, the
smallest that any of them states, and one daily budget.
"""

from typing import Annotated, Final

from pydantic import Field, Strict, StringConstraints

from contracts.wire import DNS_LABEL, WireModel

TIME_ZONE: Final = r"^(UTC|Etc/GMT[+-][0-9]{1,2}|[A-Z][A-Za-z_-]+(/[A-Z][A-Za-z_-]+){1,2})$"
"""Names of the IANA time zone database. Whether there is such a zone, the database says when it is published."""


class DailyBudgetSpec(WireModel):
    """How many calls a partner takes in a day, and when its day begins."""

    limit: Annotated[int, Strict(), Field(ge=1, le=1_000_000_000)]
    """Calls from one midnight to the next, retries and probes included."""
    reset_zone: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=TIME_ZONE)]
    """Time zone whose midnight begins the partner's day."""


class ThrottleSpec(WireModel):
    """How fast a partner is called: a token bucket and a number of requests at once, over all replicas. These are
    ceilings: refusals lower the rate, slow answers the number of requests at once, and both rise again."""

    requests_per_second: Annotated[float, Strict(), Field(ge=0.001, le=100_000, allow_inf_nan=False)] = 50
    """Tokens that the bucket gains each second."""
    burst: Annotated[int, Strict(), Field(ge=1, le=100_000)] = 100
    """Tokens that the bucket holds at most."""
    concurrency: Annotated[int, Strict(), Field(ge=1, le=1_000)] = 16
    """Requests in flight at once."""
    floor_percent: Annotated[int, Strict(), Field(ge=1, le=100)] = 10
    """How far refusals lower the rate at most, in percent of requestsPerSecond; 100 keeps it as it is."""
    scope: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)] | None = None
    """Name for what the partner counts as one, such as an account: all connections of the tenant that name it share one
    bucket and one number of requests at once, each the smallest that any of them states."""
    daily_budget: DailyBudgetSpec | None = None
    """How many calls may be made in a day; for the whole scope if one is named, the smallest that any of its
    connections states. When it is spent, deliveries rest until the next day, and jobs are kept."""
