"""A replay's status says how far it is, why it does not go on, and how it ended; the same facts give the same words."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.replay_status import ReplayStatus
from integration_operator.conditions import status_patch
from integration_operator.replay_conclusion import ReplayFacts, conclude_replay, renewed
from integration_operator.replay_objects import replay_of
from store.replay_resources import Part, ResourceProgress, ResourceState
from store.replays import ReplayState

Json = dict[str, Any]
Make = Callable[..., Json]

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ASKED, STARTED, ENDED = (NOW - timedelta(minutes=minutes) for minutes in (3, 2, 1))


def part(connection: str = "crm", state: str = "Running", **more: Any) -> Part:
    given = {
        "connection": connection,
        "state": ReplayState(state),
        "detail": "",
        "started_at": STARTED,
        "ended_at": None if state == "Running" else ENDED,
        "queued": 10,
        "superseded": 0,
        "unfinished": 0,
        "gone": 0,
        "filter_failed": 0,
        "sample": [],
        "lane": "Open",
        "suspended": False,
        "in_queue": 0,
        "delivered": 10,
        "dead": 0,
    }
    return Part(**(given | more))


def started(*parts: Part) -> ResourceProgress:
    return ResourceProgress(ResourceState.STARTED, "", ASKED, STARTED, parts)


def not_started(state: str = "Asked", detail: str = "") -> ResourceProgress:
    return ResourceProgress(ResourceState(state), detail, ASKED, None if state == "Asked" else STARTED)


@pytest.fixture
def conclude(make_body: Make) -> Callable[..., Json]:
    def conclude(
        progress: ResourceProgress | None = None,
        *,
        former: Json | None = None,
        claimed: bool = True,
        failure: str | None = None,
        now: datetime = NOW,
        **spec: Any,
    ) -> Json:
        written = {"tenant": "acme", "reason": "they lost it", "selection": {"types": ["*"]}} | spec
        replay = replay_of(make_body("again", spec=written, status=former))
        return conclude_replay(ReplayFacts(replay, claimed, "ada@example.com", progress, failure), now)

    return conclude


def told(status: Json) -> tuple[str, str, set[str]]:
    """Return state, reason, and the conditions that are true."""
    (ready,) = (each for each in status["conditions"] if each["type"] == "Ready")
    return status["state"], ready["reason"], {each["type"] for each in status["conditions"] if each["status"] == "True"}


def message(status: Json) -> str:
    return str(status["conditions"][0]["message"])


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (not_started(), ("Waiting", "Asked", {"Reconciling"})),
        (not_started(detail="no connection"), ("Waiting", "ConnectionNotFound", {"Reconciling"})),
        (not_started("Refused", "no such event"), ("Failed", "Refused", {"Stalled", "Finished"})),
        (not_started("Cancelled", "spec.cancel is true"), ("Cancelled", "Cancelled", {"Stalled", "Finished"})),
        (started(part()), ("Running", "Running", {"Reconciling"})),
        (started(part(suspended=True)), ("Running", "Held", {"Reconciling"})),
        (started(part(lane="Quarantined"), part("b", suspended=True)), ("Running", "Held", {"Reconciling"})),
        (started(part(suspended=True), part("b")), ("Running", "Running", {"Reconciling"})),
        (started(part(state="Completed"), part("b")), ("Running", "Running", {"Reconciling"})),
        (started(part(state="Failed"), part("b")), ("Running", "Running", {"Reconciling"})),
        (started(part(state="Completed")), ("Completed", "Completed", {"Ready", "Finished"})),
        (started(part(state="Completed", dead=1)), ("Completed", "DeadLetters", {"Ready", "Finished"})),
        (started(part(state="Cancelled"), part("b", "Completed")), ("Cancelled", "Cancelled", {"Stalled", "Finished"})),
        (started(part(state="Failed"), part("b", "Cancelled")), ("Failed", "Failed", {"Stalled", "Finished"})),
        (started(), ("Failed", "Lost", {"Stalled", "Finished"})),
    ],
)
def test_states_and_conditions_follow_what_is_known(
    conclude: Callable[..., Json], progress: ResourceProgress, expected: tuple[str, str, set[str]]
) -> None:
    assert told(conclude(progress)) == expected


def test_numbers_are_those_of_all_connections_together(conclude: Callable[..., Json]) -> None:
    status = conclude(
        started(
            part(queued=10, delivered=7, in_queue=2, dead=1, superseded=1, sample=[]),
            part("b", queued=5, delivered=5, unfinished=2, gone=3, filter_failed=4),
        )
    )

    assert status["counts"] == {
        "selected": 25,
        "jobs": 15,
        "delivered": 12,
        "inQueue": 2,
        "dead": 1,
        "superseded": 1,
        "unfinished": 2,
        "gone": 3,
        "filterFailed": 4,
    }
    assert (status["progress"], status["connections"]) == ("12/15", 2)
    assert message(status) == "12 delivered again, 2 in the queue"


def test_a_dry_run_tells_what_would_be_done_with_a_sample(conclude: Callable[..., Json]) -> None:
    parts = [
        part(name, "Completed", delivered=0, superseded=2, sample=[f"evt_{name}_{n}" for n in range(5)])
        for name in "abc"
    ]
    status = conclude(started(*parts), dryRun=True)

    assert told(status) == ("Completed", "Counted", {"Ready", "Finished"})
    assert message(status) == "30 would be delivered again; passed over: 6 superseded; nothing was"
    assert status["progress"] == "30"
    assert status["sample"] == [f"evt_{name}_{n}" for name in "ab" for n in range(5)]


def test_a_dry_run_is_never_held_up(conclude: Callable[..., Json]) -> None:
    status = conclude(started(part(lane="Quarantined", queued=400)), dryRun=True)

    assert (told(status)[1], message(status)) == ("Running", "400 looked at so far")


def test_what_is_left_in_the_queue_of_a_cancelled_one_is_told(conclude: Callable[..., Json]) -> None:
    status = conclude(started(part(state="Cancelled", detail="spec.cancel is true", in_queue=4)))

    assert message(status) == "spec.cancel is true; 4 queued before are still delivered"


def test_the_first_connection_that_failed_is_named(conclude: Callable[..., Json]) -> None:
    status = conclude(started(part(state="Failed", detail="retired"), part("b", "Failed"), part("c", "Completed")))

    assert message(status) == "crm: retired; and 1 more connection(s); create another one for what is missing"


def test_times_are_those_of_the_database(conclude: Callable[..., Json]) -> None:
    status = conclude(started(part(state="Completed"), part("b", "Completed", ended_at=NOW)))

    assert (status["startedAt"], status["finishedAt"]) == ("2026-11-20T11:58:00Z", "2026-11-20T12:00:00Z")


def test_without_a_claim_it_is_not_even_asked_for(conclude: Callable[..., Json]) -> None:
    status = conclude(None, claimed=False)

    assert told(status) == ("Invalid", "ForbiddenTenant", {"Stalled"})
    assert "kubectl label namespace team tenant.integrations.queast.io/acme=" in message(status)


def test_a_spec_that_cannot_be_read_is_invalid_and_not_finished(conclude: Callable[..., Json]) -> None:
    status = conclude(None, surprise=True)

    assert told(status) == ("Invalid", "InvalidSpec", {"Stalled"})
    assert message(status).startswith("spec.surprise: this field is unknown")


def test_while_the_database_is_away_what_was_told_stays(conclude: Callable[..., Json]) -> None:
    former = conclude(started(part(delivered=7)))
    status = conclude(None, former=former, failure="cannot reach the database")

    assert told(status) == ("Waiting", "DatabaseUnavailable", {"Reconciling"})
    assert {name: status[name] for name in ("counts", "progress", "startedAt")} == {
        name: former[name] for name in ("counts", "progress", "startedAt")
    }


def test_what_the_database_has_forgotten_is_lost_and_not_asked_for_again(conclude: Callable[..., Json]) -> None:
    former = conclude(started(part(delivered=7)))
    status = conclude(None, former=former)

    assert told(status) == ("Failed", "Lost", {"Stalled", "Finished"})
    assert status["counts"] == former["counts"]


def test_the_same_facts_a_day_later_are_no_reason_to_write(conclude: Callable[..., Json]) -> None:
    for progress in (not_started(), started(part()), started(part(state="Completed"))):
        first = conclude(progress)
        again = conclude(progress, former=first, now=NOW + timedelta(days=1))

        assert status_patch(first, again) is None


def test_a_finished_status_follows_the_generation_of_its_spec(conclude: Callable[..., Json]) -> None:
    status = renewed(conclude(started(part(state="Completed"))), 2)

    assert status["observedGeneration"] == 2
    assert {each["observedGeneration"] for each in status["conditions"]} == {2}


def test_every_status_fits_its_bounds(conclude: Callable[..., Json]) -> None:
    long = "x" * 5_000
    for progress in (not_started("Refused", long), started(part(state="Failed", detail=long), part("b", "Failed"))):
        status = conclude(progress)

        assert ReplayStatus.model_validate(status).model_dump(mode="json", exclude_none=True) == status
        assert message(status).endswith(("asks for what there is", "for what is missing"))
