"""What an outcome does: to the job, to its lane, and to the attempt count. The one place that decides it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar, assert_never

from contracts import outcomes
from contracts.outcomes import Outcome

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Split:
    """Send the items of this request again in smaller ones; costs no attempt. Alone, an item is buried: see `alone`."""


EffectOnOne = Finish | Retry | Wait | Pause | PauseUntilReset | Bury | Quarantine
"""What may follow where one item was sent alone."""

Effect = EffectOnOne | Split


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
        case outcomes.TooManyAtOnce():
            return Split()
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


def alone(effect: Effect) -> EffectOnOne:
    """Return what an effect comes to where one item was sent alone: what cannot be smaller can never be accepted."""
    return Bury("Invalid") if isinstance(effect, Split) else effect


def told_to_lane(effects: Sequence[tuple[Effect, T]]) -> list[tuple[Effect, T]]:
    """Return which effects of one request, each with what it came with, its lane is told of, and in which order.

    It was one request, so each kind counts once, of pauses the longest. A partner that understood one item is well:
    failures count only where nothing was understood.
    """

    def of(*kinds: type[Effect]) -> list[tuple[Effect, T]]:
        return [each for each in effects if isinstance(each[0], kinds)]

    health = of(Finish, Bury) or of(Retry)
    pauses = sorted(of(Pause), key=lambda each: _length(each[0]))
    resets = sorted(of(PauseUntilReset), key=lambda each: _length(each[0]))
    return [*health[:1], *pauses[-1:], *resets[-1:], *of(Quarantine)[:1]]


def _length(effect: Effect) -> timedelta:
    match effect:
        case Pause(at_least):
            return at_least or timedelta()
        case PauseUntilReset(duration):
            return duration
        case _:
            return timedelta()


def outcome_name(outcome: Outcome) -> str:
    """Return the outcome's name as attempts and metrics show it."""
    return type(outcome).__name__
