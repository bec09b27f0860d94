"""The model of a replay's spec: one selection, in words that the server understands alike."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.errors import InvalidSpecError
from contracts.ids import parse_event_id, parse_job_id
from contracts.replay import parse_replay_spec

Document = dict[str, Any]


def spec(**selection: Any) -> Document:
    return {"tenant": "acme", "reason": "they lost it", "selection": selection or {"types": ["*"]}}


def problems(document: Document) -> list[str]:
    with pytest.raises(InvalidSpecError) as refused:
        parse_replay_spec(document)
    return [str(problem) for problem in refused.value.problems]


def test_a_spec_survives_its_wire_form() -> None:
    written = spec(types=["company.*"], since="2026-01-31T11:00:00+01:00", until="2026-01-31T10:00:00.5Z")
    written |= {"connection": "crm", "dryRun": True, "requestedBy": "ada@example.com", "ttlAfterFinished": "24h"}
    parsed = parse_replay_spec(written)

    assert parse_replay_spec(parsed.model_dump(mode="json", exclude_none=True)) == parsed
    assert parsed.selection.since == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert parsed.ttl_after_finished == timedelta(days=1)


def test_without_a_selection_nothing_is_replayed_by_accident() -> None:
    (told,) = problems(spec() | {"selection": {}})

    assert told.startswith("spec.selection: say what is to be delivered again")


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ({"deadLetters": False}, "say what is to be delivered again"),
        ({"jobs": ["job_1_2"], "types": ["*"]}, "leave the other conditions out"),
        ({"jobs": ["job_1_2"], "deadLetters": True}, "leave the other conditions out"),
        ({"events": ["evt_1_00000000"], "deadLetters": True}, "name single ones under jobs"),
        ({"types": ["*"], "cause": "Invalid"}, "it needs deadLetters: true"),
        ({"since": "2026-01-31T10:00:00Z", "until": "2026-01-31T10:00:00Z"}, "since must be before until"),
        ({"since": "2026-01-31T10:00:00Z", "until": "2026-01-31T10:30:00+01:00"}, "since must be before until"),
        ({"since": "2h"}, "a time with its zone"),
        ({"since": "2026-01-31T10:00:00"}, "a time with its zone"),
        ({"since": "2026-02-30T10:00:00Z"}, "a time with its zone"),
        ({"events": ["evt_8000000000000000_00000000"]}, "the id of an event"),
        ({"events": []}, "at least 1 item"),
        ({"types": ["company"]}, "an event type such as"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_explained(selection: Document, told: str) -> None:
    assert any(told in each for each in problems(spec(**selection)))


@pytest.mark.parametrize("reason", ["", " \n", "a\0b"])
def test_a_reason_says_something(reason: str) -> None:
    assert len(problems(spec() | {"reason": reason})) == 1


def test_every_id_that_is_accepted_can_be_read() -> None:
    largest = "7fffffffffffffff"
    selection = parse_replay_spec(spec(events=[f"evt_{largest}_ffffffff"])).selection
    jobs = parse_replay_spec(spec(jobs=[f"job_{largest}_{largest}"])).selection.jobs

    assert selection.events
    assert jobs
    assert parse_event_id(selection.events[0]) == 2**63 - 1
    assert parse_job_id(jobs[0]) == (2**63 - 1, 2**63 - 1)
