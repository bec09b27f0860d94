"""Every outcome has its effect, and the right one."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from contracts.outcomes import (
    Ambiguous,
    AuthExpired,
    AuthRevoked,
    Delivered,
    ForbiddenScope,
    Gone,
    Invalid,
    Locked,
    Migrating,
    Misconfigured,
    NotFound,
    Outcome,
    QuotaExhausted,
    RateLimited,
    Transient,
)
from delivery.effects import (
    Bury,
    Effect,
    Finish,
    Pause,
    PauseUntilReset,
    Quarantine,
    Retry,
    Wait,
    effect_of,
    outcome_name,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

EFFECTS: list[tuple[Outcome, Effect]] = [
    (Delivered(), Finish()),
    (Transient(), Retry()),
    (Transient(MINUTE), Retry(MINUTE)),
    (Ambiguous(), Retry()),
    (AuthExpired(), Retry()),
    (RateLimited(), Pause()),
    (RateLimited(MINUTE), Pause(MINUTE)),
    (Migrating(MINUTE), Pause(MINUTE)),
    (QuotaExhausted(NOW + MINUTE), PauseUntilReset(MINUTE)),
    (Locked(MINUTE), Wait(MINUTE)),
    (Invalid(), Bury("Invalid")),
    (NotFound(), Bury("NotFound")),
    (AuthRevoked(), Quarantine("CredentialsRevoked", probing=False)),
    (ForbiddenScope("crm.write"), Quarantine("ScopeMissing: crm.write", probing=False)),
    (Gone(), Quarantine("Gone", probing=False)),
    (Misconfigured(), Quarantine("Misconfigured", probing=True)),
]


def now() -> datetime:
    return NOW


@pytest.mark.parametrize("kind", get_args(Outcome), ids=lambda kind: kind.__name__)
def test_every_outcome_has_an_effect(kind: type[Outcome]) -> None:
    samples = [outcome for outcome, _ in EFFECTS if type(outcome) is kind]

    assert samples
    assert all(isinstance(effect_of(outcome, now), get_args(Effect)) for outcome in samples)


@pytest.mark.parametrize("kind", get_args(Effect), ids=lambda kind: kind.__name__)
def test_every_effect_follows_from_some_outcome(kind: type[Effect]) -> None:
    assert any(type(effect_of(outcome, now)) is kind for outcome, _ in EFFECTS)


@pytest.mark.parametrize(("outcome", "effect"), EFFECTS, ids=repr)
def test_an_outcome_does_what_its_words_say(outcome: Outcome, effect: Effect) -> None:
    assert effect_of(outcome, now) == effect


def test_a_budget_whose_reset_has_passed_is_no_reason_to_wait() -> None:
    assert effect_of(QuotaExhausted(NOW - MINUTE), now) == PauseUntilReset(timedelta(0))


@pytest.mark.parametrize("kind", get_args(Outcome), ids=lambda kind: kind.__name__)
def test_an_outcome_is_shown_by_the_name_of_its_class(kind: type[Outcome]) -> None:
    outcome = next(outcome for outcome, _ in EFFECTS if type(outcome) is kind)

    assert outcome_name(outcome) == kind.__name__
