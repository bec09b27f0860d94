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
    TooManyAtOnce,
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
    Split,
    Wait,
    alone,
    effect_of,
    outcome_name,
    told_to_lane,
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
    (TooManyAtOnce(), Split()),
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


def test_a_single_item_that_is_too_much_can_never_be_accepted() -> None:
    assert alone(Split()) == Bury("Invalid")


@pytest.mark.parametrize("effect", [effect for _, effect in EFFECTS if effect != Split()], ids=repr)
def test_every_other_effect_is_the_same_where_one_item_was_sent_alone(effect: Effect) -> None:
    assert alone(effect) == effect


TOLD: dict[str, tuple[list[Effect], list[Effect]]] = {
    "all delivered": ([Finish(), Finish()], [Finish()]),
    "all failed, and that is one failure": ([Retry(), Retry(MINUTE), Retry()], [Retry()]),
    "a failure beside a success is none of the partner's": ([Retry(), Finish(), Retry()], [Finish()]),
    "what is refused for its content was understood": ([Retry(), Bury("Invalid")], [Bury("Invalid")]),
    "the longest pause": ([Pause(), Pause(2 * MINUTE), Pause(MINUTE)], [Pause(2 * MINUTE)]),
    "the latest reset": ([PauseUntilReset(2 * MINUTE), PauseUntilReset(MINUTE)], [PauseUntilReset(2 * MINUTE)]),
    "a success before a pause": ([Pause(), Finish()], [Finish(), Pause()]),
    "a reason to stop comes last": (
        [Quarantine("Gone", probing=False), Quarantine("Misconfigured", probing=True), Pause(), Finish()],
        [Finish(), Pause(), Quarantine("Gone", probing=False)],
    ),
    "nothing of what concerns single jobs": ([Wait(MINUTE), Split()], []),
}


@pytest.mark.parametrize(("effects", "told"), TOLD.values(), ids=TOLD.keys())
def test_a_lane_is_told_of_a_request_once(effects: list[Effect], told: list[Effect]) -> None:
    numbered = [(effect, number) for number, effect in enumerate(effects)]

    assert [effect for effect, _ in told_to_lane(numbered)] == told
