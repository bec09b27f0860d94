"""The same facts always give the same words, and the words tell a person what to do."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.status import ConnectionStatus, EndpointCheck
from integration_operator.conclusion import Credentials, EndedCheck, Facts, conclude
from integration_operator.conditions import status_patch
from integration_operator.names import ObjectKey
from integration_operator.observed import ConnectionObject, connection_of
from store.standing import Standing

Json = dict[str, Any]
Make = Callable[..., Json]

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
POOL = ObjectKey("team", "integrations-tenant-acme")
GOOD = Credentials("0123456789abcdef")
DELETED = "2026-11-20T11:59:00Z"

TEXT = st.one_of(st.text(min_size=1, max_size=20), st.just("long ä " * 1_000))
TEXTS = st.lists(TEXT, min_size=1, max_size=3).map(tuple)

CHOICES = st.fixed_dictionaries(
    {
        "readable": st.booleans(),
        "suspend": st.booleans(),
        "claimed": st.booleans(),
        "problems": st.one_of(st.just(()), TEXTS),
        "credentials": st.one_of(
            st.none(),
            st.builds(
                Credentials,
                st.just("0123456789abcdef"),
                st.one_of(st.just(()), TEXTS),
                st.one_of(st.just(()), TEXTS),
                st.one_of(st.just(()), TEXTS),
            ),
        ),
        "pool": st.one_of(st.none(), st.just(POOL)),
        "epoch": st.one_of(st.none(), st.integers(0, 2**62)),
        "refusal": st.one_of(st.none(), TEXT),
        "database_error": st.one_of(st.none(), TEXT),
        "workers_problem": st.one_of(st.none(), TEXT),
        "standing": st.builds(
            lambda quarantine, rate, concurrency, letters, day: Standing(*quarantine, rate, concurrency, letters, *day),
            st.one_of(st.just((None, None)), st.tuples(st.just(NOW + timedelta(microseconds=7)), TEXT)),
            st.one_of(st.none(), st.floats(0.001, 50, exclude_max=True)),
            st.one_of(st.none(), st.integers(1, 15)),
            st.booleans(),
            st.sampled_from([(None, None), (1000, LATER)]),
        ),
        "draining": st.booleans(),
        "request": st.one_of(st.none(), st.text(max_size=400)),
    }
)


def facts_of(make_body: Make, make_spec: Make, chosen: Json) -> Facts:
    chosen = dict(chosen)
    readable, suspend, request = chosen.pop("readable"), chosen.pop("suspend"), chosen.pop("request")
    draining = chosen.pop("draining") and readable
    metadata: Json = {"deletionTimestamp": DELETED} if draining else {}
    if request is not None:
        names = ("reconcileAt", "releaseAt")
        metadata["annotations"] = {f"integrations.queast.io/{name}": request for name in names}
    body = make_body(spec=make_spec(suspend=suspend) if readable else {"provider": "Fax"}, generation=3, **metadata)
    connection = connection_of(body)
    problems = connection.problems or (() if draining else chosen["problems"])
    return Facts(
        **chosen
        | {
            "connection": connection,
            "claimed": chosen["claimed"] or draining or not readable,
            "problems": problems,
            "drain_deadline": NOW + timedelta(minutes=5) if draining else None,
        }
    )


def stored(status: Json) -> Json:
    """Return a status as it comes back from the API server."""
    read: Json = json.loads(json.dumps(status))
    return read


def conditions(status: Json) -> dict[str, Json]:
    return {condition["type"]: condition for condition in status["conditions"]}


def healthy(make_body: Make, **more: Any) -> Facts:
    return Facts(connection_of(make_body()), claimed=True, problems=(), credentials=GOOD, pool=POOL, epoch=1, **more)


@given(CHOICES)
def test_a_second_run_writes_nothing(make_body: Make, make_spec: Make, chosen: Json) -> None:
    facts = facts_of(make_body, make_spec, chosen)
    first = stored(conclude(facts, NOW))
    again = replace(facts, connection=replace(facts.connection, status=first))

    assert status_patch(first, conclude(again, LATER)) is None


@given(CHOICES)
def test_every_status_fits_the_resource_definition(make_body: Make, make_spec: Make, chosen: Json) -> None:
    status = stored(conclude(facts_of(make_body, make_spec, chosen), NOW))

    assert ConnectionStatus.model_validate(status).model_dump(mode="json", exclude_none=True) == status
    assert len(conditions(status)) == len(status["conditions"])
    assert all(len(condition["message"]) <= 1024 for condition in status["conditions"])


@given(CHOICES)
def test_conditions_follow_kstatus(make_body: Make, make_spec: Make, chosen: Json) -> None:
    found = conditions(conclude(facts_of(make_body, make_spec, chosen), NOW))

    assert {found[name]["status"] for name in ("Stalled", "Reconciling", "Quarantined") if name in found} <= {"True"}
    assert not ("Stalled" in found and "Reconciling" in found)
    assert found["Ready"]["status"] == "False" or not {"Stalled", "Reconciling", "Quarantined"} & found.keys()
    assert all(condition["observedGeneration"] == 3 for condition in found.values())


@given(CHOICES, CHOICES)
def test_a_condition_keeps_its_time_exactly_as_long_as_its_status(
    make_body: Make, make_spec: Make, before: Json, after: Json
) -> None:
    first = stored(conclude(facts_of(make_body, make_spec, before), NOW))
    changed = facts_of(make_body, make_spec, after)
    second = conclude(replace(changed, connection=replace(changed.connection, status=first)), LATER)

    was = conditions(first)
    for name, condition in conditions(second).items():
        same = name in was and was[name]["status"] == condition["status"]
        assert condition["lastTransitionTime"] == ("2026-11-20T12:00:00Z" if same else "2026-11-20T13:00:00Z")


@given(CHOICES, CHOICES)
def test_the_patch_leads_from_one_status_to_the_other(
    make_body: Make, make_spec: Make, before: Json, after: Json
) -> None:
    former = conclude(facts_of(make_body, make_spec, before), NOW)
    status = conclude(facts_of(make_body, make_spec, after), NOW)
    patch = status_patch(former, status)

    assert {name: value for name, value in (former | (patch or {})).items() if value is not None} == status


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize(
    ("changes", "reason", "next_step"),
    [
        ({"claimed": False}, "ForbiddenTenant", "kubectl label namespace team tenant.integrations.queast.io/acme="),
        ({"credentials": Credentials("", missing=("Secret {}",))}, "CredentialsMissing", "create it"),
        ({"credentials": Credentials("", problems=("{} is wrong",))}, "CredentialsInvalid", "correct the Secret"),
        ({"database_error": "{} is away", "epoch": None}, "DatabaseUnavailable", "tried again until"),
        ({"standing": Standing(NOW, "the partner said {}")}, "Quarantined", "by the annotation releaseAt"),
        ({"standing": Standing(NOW, "500")}, "Quarantined", "from time to time, when a credential changes"),
        (
            {"standing": Standing(NOW, "410", is_probed=False)},
            "Quarantined",
            "only when a credential changes",
        ),
    ],
)
def test_the_message_names_the_next_step(
    make_body: Make, changes: Json, reason: str, next_step: str, long: bool
) -> None:
    quoted = "x" * 5_000 if long else "x"

    def fill(value: Any) -> Any:
        match value:
            case str():
                return value.replace("{}", quoted)
            case Standing():
                return value._replace(quarantine_reason=fill(value.quarantine_reason))
            case tuple():
                return tuple(map(fill, value))
            case Credentials():
                return replace(value, missing=fill(value.missing), problems=fill(value.problems))
        return value

    facts = replace(healthy(make_body), **{name: fill(value) for name, value in changes.items()})
    ready = conditions(conclude(facts, NOW))["Ready"]

    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert next_step in ready["message"]


def test_unwatched_secrets_are_no_failure_but_the_message_says_how_to_label_them(make_body: Make) -> None:
    names = tuple(f"secret-{number}" for number in range(200))
    found = conditions(conclude(replace(healthy(make_body), credentials=Credentials("0", unwatched=names)), NOW))

    assert found["Ready"]["status"] == "True"
    assert "integrations.queast.io/credentials=true" in found["CredentialsValid"]["message"]


@pytest.mark.parametrize(
    ("changes", "state", "summary"),
    [
        ({}, "Delivering", {"Ready"}),
        ({"epoch": None}, "Waiting", {"Reconciling"}),
        ({"epoch": None, "database_error": "away"}, "Waiting", {"Reconciling"}),
        ({"problems": ("spec.routes: wrong",)}, "Invalid", {"Stalled"}),
        ({"claimed": False}, "Invalid", {"Stalled"}),
        ({"epoch": None, "refusal": "belongs to tenant globex"}, "Invalid", {"Stalled"}),
        ({"standing": Standing(NOW, "410 Gone")}, "Quarantined", {"Quarantined"}),
        ({"credentials": Credentials("", missing=("Secret s",))}, "Waiting", set()),
        ({"workers_problem": "no worker"}, "Waiting", set()),
        ({"drain_deadline": LATER}, "Draining", {"Reconciling"}),
    ],
)
def test_one_word_sums_it_up(make_body: Make, changes: Json, state: str, summary: set[str]) -> None:
    status = conclude(replace(healthy(make_body), **changes), NOW)
    summing_up = ("Ready", "Stalled", "Reconciling", "Quarantined")

    assert status["state"] == state
    assert {each["type"] for each in status["conditions"] if each["status"] == "True"} & {*summing_up} == summary


def test_a_connection_whose_day_is_spent_is_ready_and_says_when_it_goes_on(make_body: Make) -> None:
    status = conclude(healthy(make_body, standing=Standing(daily_limit=1000, rests_until=LATER)), NOW)
    found = conditions(status)

    assert status["state"] == "Resting"
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("True", "DailyBudgetSpent")
    assert found["Ready"]["message"].startswith(
        "the 1000 calls of this day are made; deliveries go on at 2026-11-20T13:00:00Z"
    )
    assert found["BudgetSpent"]["status"] == "True"


def test_a_suspended_connection_is_ready_and_says_so(make_body: Make, make_spec: Make) -> None:
    connection = connection_of(make_body(spec=make_spec(suspend=True)))
    status = conclude(replace(healthy(make_body), connection=connection), NOW)
    found = conditions(status)

    assert status["state"] == "Suspended"
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("True", "Suspended")
    assert found["Suspended"]["status"] == "True"


def test_a_draining_connection_does_not_promise_routing(make_body: Make) -> None:
    connection = connection_of(make_body(deletionTimestamp=DELETED))
    facts = Facts(connection, claimed=True, problems=(), pool=POOL, drain_deadline=LATER)
    status = conclude(facts, NOW)

    assert status["drain"] == {"since": DELETED, "deadline": "2026-11-20T13:00:00Z"}
    assert conditions(status)["RoutingPublished"]["message"] == "deleted; takes in no new events"


def test_missing_credentials_are_not_called_observed(make_body: Make) -> None:
    missing = Credentials("0123456789abcdef", missing=("Secret s",))

    assert conclude(healthy(make_body), NOW)["observedSecretHash"] == "0123456789abcdef"
    assert "observedSecretHash" not in conclude(replace(healthy(make_body), credentials=missing), NOW)


def test_requests_are_answered_with_their_own_value(make_body: Make) -> None:
    names = {f"integrations.queast.io/{name}": name * 100 for name in ("reconcileAt", "releaseAt")}
    connection = connection_of(make_body(annotations=names))
    status = conclude(replace(healthy(make_body), connection=connection), NOW)

    assert status["lastHandledReconcileAt"] == connection.reconcile_at
    assert status["lastHandledReleaseAt"] == connection.release_at


def throttle_told(connection: ConnectionObject, rate: float | None) -> float:
    """Say what a status tells of the rate when this one is in force, and let the object have that status."""
    facts = Facts(connection, claimed=True, problems=(), standing=Standing(rate=rate))
    status = conclude(facts, NOW)
    connection.status.clear()
    connection.status.update(status)
    return float(status["effectiveThrottle"]["requestsPerSecond"])


def test_a_limit_that_moves_as_limits_do_is_told_once(make_body: Make) -> None:
    connection = connection_of(make_body())
    told = [throttle_told(connection, rate) for rate in (None, 25.0, 40.0, None, 17.5, 20.0, 35.0, 17.5, 34.0, None)]

    assert told == [50.0, 50.0, 50.0, 50.0, 25.0, 25.0, 25.0, 25.0, 25.0, 50.0]


def test_what_was_given_up_is_told_and_leaves_the_connection_ready(make_body: Make) -> None:
    facts = Facts(
        connection_of(make_body()),
        claimed=True,
        problems=(),
        credentials=Credentials("digest"),
        pool=POOL,
        epoch=1,
        standing=Standing(dead_letters=True),
    )
    found = {condition["type"]: condition for condition in conclude(facts, NOW)["conditions"]}

    assert found["Ready"]["status"] == "True"
    assert "integrations dead-letters list" in found["DeadLetters"]["message"]


@pytest.mark.parametrize("request_", ["2026-11-20T12:00:00Z", ""])
def test_what_came_of_a_test_stays_in_the_status_until_the_next_one(make_body: Make, request_: str) -> None:
    connection = connection_of(make_body())
    ended = EndedCheck(request_, EndpointCheck(at=NOW, passed=True, message="HTTP 204"))
    tested = conclude(Facts(connection, claimed=True, problems=(), check=ended), NOW)
    later = conclude(Facts(replace(connection, status=tested), claimed=False, problems=("x",)), LATER)

    assert (tested["lastHandledTestAt"], tested["endpointCheck"]["passed"]) == (request_, True)
    assert (later["lastHandledTestAt"], later["endpointCheck"]) == (request_, tested["endpointCheck"])
