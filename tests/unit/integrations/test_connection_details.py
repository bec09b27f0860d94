"""What a person and a program read of one connection: its state, the limits in force, and how it came to that."""

from datetime import UTC, datetime
from typing import Any

import pytest

from integrations.connection_details import details_document, print_details
from store.connections import ConnectionDetails
from store.scopes import ScopeDetails
from store.transitions import RecordedTransition

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "tenant": "acme",
    "provider": "Webhook",
    "webhook": {"url": "https://partner.example/", "signing": {"secretsFrom": [{"name": "s", "key": "k"}]}},
    "routes": [{"name": "all", "events": ["*"]}],
}
WELL = ConnectionDetails(
    tenant="acme",
    provider="Webhook",
    spec=SPEC,
    state="Open",
    suspended=False,
    owned=True,
    consecutive_failures=0,
    quarantined_at=None,
    quarantine_reason=None,
    probes=0,
    probe_at=None,
    probe_asked_by=None,
    ramp_percent=None,
    paused_until=None,
    effective_rps=None,
    effective_concurrency=None,
    ready=1,
    deferred=2,
    held=3,
    oldest_at=AT,
    dead_letters=0,
    blocked_subjects=0,
)
STOPPED = WELL._replace(
    state="Quarantined",
    quarantined_at=AT,
    quarantine_reason="ConsecutiveFailures: 10; the last: HTTP 503",
    probes=2,
    probe_at=AT,
    probe_asked_by="Person",
)
TRANSITION = RecordedTransition(1, AT, "Open", "Quarantined", "Worker", "HTTP 503", 7)


SHARED = ScopeDetails("account", 9.0, 20, 4, 3, 1000, 250, "Europe/Berlin", AT, None)


def printed(
    capsys: pytest.CaptureFixture[str],
    of: ConnectionDetails,
    *transitions: RecordedTransition,
    scope: ScopeDetails | None = None,
) -> str:
    print_details("acme/crm", of, scope, transitions)
    return " ".join(capsys.readouterr().out.split())


def test_a_connection_that_is_well_says_what_it_may_do_and_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, WELL)

    assert "50 requests a second, 16 at once" in text
    assert "1 ready, 2 for their next attempt, 3 behind an earlier event" in text
    assert "dead letters" not in text


def test_limits_in_force_stand_beside_those_of_the_spec(capsys: pytest.CaptureFixture[str]) -> None:
    slowed = WELL._replace(effective_rps=12.5, effective_concurrency=4, ramp_percent=25)
    document = details_document("acme/crm", slowed, None, ())

    assert "12.5 of 50 requests a second, 4 of 16 at once" in printed(capsys, slowed)
    assert document["state"] == "Recovering at 25 %"
    assert document["throttle"] == {
        "requests_per_second": 50,
        "effective_requests_per_second": 12.5,
        "concurrency": 16,
        "effective_concurrency": 4,
    }


def test_a_stopped_one_says_since_when_why_and_when_it_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, STOPPED, TRANSITION)

    assert "ConsecutiveFailures: 10; the last: HTTP 503" in text
    assert "after 2 failed, asked for by: Person" in text
    assert "Worker 7 HTTP 503" in text


def test_one_that_is_not_tried_by_itself_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "integrations connections release" in printed(capsys, STOPPED._replace(probe_at=None))


def test_dead_letters_are_told_with_the_command_that_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, WELL._replace(dead_letters=3, blocked_subjects=1))

    assert "3, which block 1 subject(s); see: integrations dead-letters list" in text


def test_what_a_connection_shares_is_told_and_what_is_left_of_its_day(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, WELL, scope=SHARED)
    document = details_document("acme/crm", WELL, SHARED, ())

    assert "account: 9 requests a second, 4 at once, for 3 connection(s) together" in text
    assert "250 of 1000 calls made, until midnight in Europe/Berlin" in text
    assert "rests" not in text
    assert document["scope"] == SHARED._asdict()


def test_a_scope_that_the_partner_has_silenced_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    future, past = (SHARED._replace(paused_until=AT.replace(year=year)) for year in (2126, 2020))

    assert "connection(s) together; paused until" in printed(capsys, WELL, scope=future)
    assert "paused" not in printed(capsys, WELL, scope=past)


def test_a_connection_whose_day_is_spent_says_that_it_rests(capsys: pytest.CaptureFixture[str]) -> None:
    alone = ScopeDetails(None, None, None, None, 1, 1000, 1000, "UTC", AT, None)
    text = printed(capsys, WELL, scope=alone)

    assert "1000 of 1000 calls made" in text
    assert "rests until then, and events wait" in text
    assert "connection(s) together" not in text
