"""What an outcome does: to the job, to its lane, and to the attempt count. The one place that decides it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from contracts import outcomes
from contracts.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is done."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try this job again later; costs an attempt and counts against the lane."""

    at_least: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Try this job again, no sooner than `at_least`; costs no attempt and says nothing about the lane."""

    at_least: timedelta


@dataclass(frozen=True, slots=True)
class Pause:
    """The whole lane rests, as long as asked or as guessed; the job stays first. Costs no attempt."""

    at_least: timedelta | None = None


@dataclass(frozen=True, slots=True)
class PauseUntilReset:
    """The whole lane rests for `duration`, whatever retryAfterMax says: a used-up budget returns no sooner."""

    duration: timedelta


@dataclass(frozen=True, slots=True)
class Bury:
    """Move this job to the dead letters; the lane is fine."""

    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Stop the lane with its backlog; the job stays. `probing` says whether time alone may heal it."""

    reason: str
    probing: bool


Effect = Finish | Retry | Wait | Pause | PauseUntilReset | Bury | Quarantine


def effect_of(outcome: Outcome, now: Callable[[], datetime]) -> Effect:  # noqa: C901 -- one arm an outcome is the point
    """Return what follows from an outcome; `now` tells the time, aware."""
    match outcome:
        case outcomes.Delivered():
            return Finish()
        case outcomes.Transient(retry_after):
            return Retry(retry_after)
        case outcomes.Ambiguous() | outcomes.AuthExpired():
            return Retry()
        case outcomes.RateLimited(retry_after):
            return Pause(retry_after)
        case outcomes.Migrating(retry_after):
            return Pause(retry_after)
        case outcomes.QuotaExhausted(reset_at):
            return PauseUntilReset(max(reset_at - now(), timedelta()))
        case outcomes.Locked(minimum_wait):
            return Wait(minimum_wait)
        case outcomes.Invalid():
            return Bury("Invalid")
        case outcomes.NotFound():
            return Bury("NotFound")
        case outcomes.AuthRevoked():
            return Quarantine("CredentialsRevoked", probing=False)
        case outcomes.ForbiddenScope(scope):
            return Quarantine(f"ScopeMissing: {scope}", probing=False)
        case outcomes.Gone():
            return Quarantine("Gone", probing=False)
        case outcomes.Misconfigured():
            return Quarantine("Misconfigured", probing=True)
        case _:
            assert_never(outcome)


def outcome_name(outcome: Outcome) -> str:
    """Return the outcome's name as attempts and metrics show it."""
    return type(outcome).__name__
