"""Replays in words: a dry run is never taken for one that sent something."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from contracts.ids import ConnectionId, EventId, ReplayId, ReplayUid, TenantId
from integrations.replay_words import replay_document, replay_row, status
from store.replay_selection import Moment, Selection, Source
from store.replays import Lane, Outcome, Progress, Replay, ReplayState, Request

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SELECTION = Selection(Source.EVENTS, TenantId("acme"), ConnectionId(1), Moment(NOW, "1:1:", None, EventId(0)), NOW)
REPLAY = Replay(
    id=ReplayId(7),
    namespace="acme",
    name="crm",
    request=Request(SELECTION, "ada@example.com", "they lost it"),
    requested_at=NOW,
    state=ReplayState.COMPLETED,
    detail="",
    cancelled_by=None,
    revision=3,
    progress=Progress(9, True, 12, 0, 0, 0, 0, NOW, NOW),
    lane=Lane("Open", False, 0, 0),
    in_queue=0,
    sample=(),
)
DRY = replace(
    REPLAY, request=replace(REPLAY.request, dry_run=True, resource=ReplayUid(UUID(int=1))), sample=("evt_1_00000000",)
)


def test_a_dry_run_says_so() -> None:
    assert status(DRY) == "dry run: nothing is sent"
    assert str(replay_row(DRY, Outcome(0, 0))[-1]) == "they lost it · dry run: nothing is sent"
    assert status(REPLAY) == ""


def test_why_a_dry_run_was_stopped_is_told_as_of_any_replay() -> None:
    cancelled = replace(DRY, state=ReplayState.CANCELLED, cancelled_by="ada", detail="wrong range")

    assert status(cancelled) == "by ada: wrong range"


def test_programs_are_told_of_the_resource() -> None:
    documents = [replay_document(each, Outcome(0, 0)) for each in (REPLAY, DRY)]

    assert [(each["dry_run"], each["resource_uid"]) for each in documents] == [
        (False, None),
        (True, "00000000-0000-0000-0000-000000000001"),
    ]
