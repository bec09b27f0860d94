"""A status is written as Kubernetes writes its own, and read even if a newer operator wrote it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from contracts.status import Condition, ConditionStatus, ConnectionStatus, Quarantine

NOON = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)


def ready(moment: datetime = NOON) -> Condition:
    return Condition(
        type="Ready",
        status=ConditionStatus.FALSE,
        observed_generation=3,
        last_transition_time=moment,
        reason="SecretMissing",
        message="create the Secret crm",
    )


def test_a_fresh_status_says_that_nothing_was_observed() -> None:
    assert ConnectionStatus().model_dump(mode="json", exclude_none=True) == {"observedGeneration": -1, "conditions": []}


def test_a_condition_has_the_form_of_all_conditions() -> None:
    assert ready().model_dump(mode="json") == {
        "type": "Ready",
        "status": "False",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-11-23T12:00:00Z",
        "reason": "SecretMissing",
        "message": "create the Secret crm",
    }


def test_times_are_written_in_utc() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=5)))

    assert ready(local).model_dump(mode="json") == ready().model_dump(mode="json")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        ready(NOON.replace(tzinfo=None))


def test_a_status_survives_its_wire_form() -> None:
    status = ConnectionStatus(
        observed_generation=3,
        conditions=(ready(NOON.replace(microsecond=0)),),
        quarantine=Quarantine(since=NOON.replace(microsecond=0), reason="401"),
    )

    assert ConnectionStatus.model_validate(status.model_dump(mode="json", exclude_none=True)) == status


def test_fields_of_a_newer_operator_are_passed_over() -> None:
    assert ConnectionStatus.model_validate({"observedGeneration": 1, "future": {"a": 1}}).observed_generation == 1


def test_words_of_a_partner_are_bounded() -> None:
    with pytest.raises(ValidationError, match="at most 1024 characters"):
        Quarantine(since=NOON, reason="x" * 1025)
