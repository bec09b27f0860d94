"""The API server refuses replays that the models refuse, keeps what was asked for as it is, and shows how far it is."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidSpecError
from contracts.replay import parse_replay_spec

Document = dict[str, Any]
Kubectl = Callable[..., str]

pytestmark = pytest.mark.usefixtures("crds")

REPLAYS = "/apis/integrations.queast.io/v1alpha1/namespaces/{}/integrationreplays"
REFUSED = (400, 422)
MERGE = {"Content-Type": "application/merge-patch+json"}


def spec(selection: Document | None = None, **more: Any) -> Document:
    return {
        "tenant": "acme",
        "reason": "their import failed",
        "selection": {"types": ["*"]} if selection is None else selection,
    } | more


def resource(wanted: Document) -> Document:
    return {
        "apiVersion": "integrations.queast.io/v1alpha1",
        "kind": "IntegrationReplay",
        "metadata": {"name": "again"},
        "spec": wanted,
    }


def try_create(api: httpx.Client, wanted: Document) -> httpx.Response:
    """Ask the server whether it would take a replay, unknown fields included."""
    parameters = {"dryRun": "All", "fieldValidation": "Strict"}
    return api.post(REPLAYS.format("default"), params=parameters, json=resource(wanted))


def models_accept(wanted: Document) -> bool:
    try:
        parse_replay_spec(wanted)
    except InvalidSpecError:
        return False
    return True


def server_accepts(api: httpx.Client, wanted: Document) -> bool:
    answer = try_create(api, wanted)
    assert answer.status_code in (201, *REFUSED), answer.text
    return answer.status_code == 201


LARGEST = "7fffffffffffffff"
ACCEPTED: dict[str, Document] = {
    "all types": spec(),
    "a connection": spec(connection="crm.eu"),
    "a range": spec({"since": "2026-01-31T10:00:00Z", "until": "2026-01-31T12:00:00.25+01:00"}),
    "an open range": spec({"since": "2028-02-29T10:00:00Z"}),
    "events of a type": spec({"events": ["evt_1f_0a1b2c3d"], "types": ["company.*"]}),
    "jobs": spec({"jobs": ["job_1f_2c"]}),
    "dead letters": spec({"deadLetters": True}),
    "dead letters of a cause": spec({"deadLetters": True, "cause": "Invalid", "types": ["company.updated"]}),
    "every option": spec(
        dryRun=True, includeSuperseded=True, newMessageIds=True, requestedBy="ada", cancel=True, ttlAfterFinished="0s"
    ),
    "as many events as are allowed": spec({"events": [f"evt_{LARGEST}_ffffffff"] * 1000, "types": ["*"]}),
    "as many jobs as are allowed": spec({"jobs": [f"job_{LARGEST}_{LARGEST}"] * 1000}, reason="r" * 1000),
    "a reason of several lines": spec(reason="their import failed\nat ten\n"),
}

# What is refused, and a part of what the person is told.
REFUSALS: dict[str, tuple[Document, str]] = {
    "no selection": ({"tenant": "acme", "reason": "x"}, "spec.selection: Required"),
    "an empty selection": (spec({}), "say what is to be delivered again"),
    "no dead letters": (spec({"deadLetters": False}), "say what is to be delivered again"),
    "no reason": ({"tenant": "acme", "selection": {"types": ["*"]}}, "spec.reason: Required"),
    "a blank reason": (spec(reason=" \n"), "allowed: text that is not blank"),
    "a reason with U+0000": (spec(reason="a\0b"), "without the character U+0000"),
    "no tenant": ({"reason": "x", "selection": {"types": ["*"]}}, "spec.tenant: Required"),
    "an unknown field": (spec(retries=3), 'unknown field \\"spec.retries\\"'),
    "a malformed connection": (spec(connection="acme/crm"), "allowed: lower-case letters"),
    "jobs with types": (spec({"jobs": ["job_1_2"], "types": ["*"]}), "leave the other conditions out"),
    "jobs with dead letters": (spec({"jobs": ["job_1_2"], "deadLetters": True}), "leave the other conditions out"),
    "events that are dead letters": (spec({"events": ["evt_1_00000000"], "deadLetters": True}), "under jobs"),
    "a cause of events": (spec({"types": ["*"], "cause": "Invalid"}), "it needs deadLetters: true"),
    "a range backwards": (
        spec({"since": "2026-01-31T10:00:00Z", "until": "2026-01-31T10:59:59+01:00"}),
        "since must be before until",
    ),
    "an empty range": (
        spec({"since": "2026-01-31T10:00:00Z", "until": "2026-01-31T10:00:00.000Z"}),
        "since must be before until",
    ),
    "how long ago": (spec({"since": "2h"}), "a time with its zone, such as"),
    "a time without a zone": (spec({"until": "2026-01-31T10:00:00"}), "a time with its zone, such as"),
    "a day that does not exist": (spec({"since": "2026-02-29T10:00:00Z"}), "a time with its zone, such as"),
    "a malformed event": (spec({"events": ["evt_1"]}), "the id of an event, such as"),
    "an event beyond all": (spec({"events": ["evt_8000000000000000_00000000"]}), "the id of an event, such as"),
    "1001 events": (spec({"events": ["evt_1_00000000"] * 1001}), "Too many"),
    "a malformed job": (spec({"jobs": ["evt_1_00000000"]}), "the id of a job, such as"),
    "a malformed type": (spec({"types": ["company"]}), "allowed: an event type such as"),
    "a malformed cause": (spec({"deadLetters": True, "cause": "gone!"}), "a word such as Invalid"),
    "a long time to live": (spec(ttlAfterFinished="8761h"), "a duration from 0s to 8760h"),
    "a malformed time to live": (spec(ttlAfterFinished="1d"), "a duration from 0s to 8760h"),
}


@pytest.mark.parametrize("wanted", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_models_accept_is_accepted(api: httpx.Client, wanted: Document) -> None:
    answer = try_create(api, wanted)

    assert models_accept(wanted)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(("wanted", "told"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_the_models_refuse_is_refused_and_explained(api: httpx.Client, wanted: Document, told: str) -> None:
    answer = try_create(api, wanted)

    assert not models_accept(wanted)
    assert answer.status_code in REFUSED
    assert told in answer.text


DIGITS = st.sampled_from(
    ["20", "19", "26", "02", "29", "30", "12", "00", "24", "59", "60", "-", ":", "T", "t", "Z", "+", "."]
)
DAY = r"20[0-9]{2}-[01][0-9]-[0-3][0-9]"
HOUR = r"[0-2][0-9]:[0-6][0-9]"
TIMES = st.from_regex(rf"\A{DAY}[Tt ]{HOUR}:[0-6][0-9](\.[0-9]{{1,7}})?(Z|z|[+-]{HOUR})?\Z")


@settings(max_examples=300, deadline=None)
@given(st.one_of(TIMES, st.lists(DIGITS, max_size=12).map("".join)))
def test_both_judge_any_time_alike(api: httpx.Client, text: str) -> None:
    wanted = spec({"since": text})

    assert server_accepts(api, wanted) == models_accept(wanted)


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "types": st.just(["*"]),
            "since": st.just("2026-01-31T10:00:00Z"),
            "until": st.sampled_from(["2026-01-31T09:00:00Z", "2026-01-31T11:00:00Z"]),
            "events": st.just(["evt_1_00000000"]),
            "jobs": st.just(["job_1_2"]),
            "deadLetters": st.booleans(),
            "cause": st.just("Invalid"),
        },
    )
)
def test_both_judge_any_selection_alike(api: httpx.Client, selection: Document) -> None:
    wanted = spec(selection)

    assert server_accepts(api, wanted) == models_accept(wanted)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
def test_both_judge_any_reason_alike(api: httpx.Client, reason: str) -> None:
    wanted = spec(reason=reason)

    assert server_accepts(api, wanted) == models_accept(wanted)


def create(api: httpx.Client, namespace: str, wanted: Document) -> Document:
    answer = api.post(REPLAYS.format(namespace), json=resource(wanted))
    assert answer.status_code == 201, answer.text
    created: Document = answer.json()
    return created


def patch(api: httpx.Client, namespace: str, change: Document, subresource: str = "") -> httpx.Response:
    place = f"{REPLAYS.format(namespace)}/again{subresource}"
    return api.patch(place, content=json.dumps(change), headers=MERGE)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "globex"},
        {"connection": "other"},
        {"connection": None},
        {"selection": {"types": ["company.*"]}},
        {"selection": {"since": "2026-01-31T10:00:00Z"}},
        {"dryRun": False},
        {"dryRun": None},
        {"includeSuperseded": True},
        {"newMessageIds": True},
        {"reason": "another"},
        {"requestedBy": "grace"},
    ],
    ids=str,
)
def test_what_was_asked_for_cannot_be_changed(api: httpx.Client, namespace: str, change: Document) -> None:
    create(api, namespace, spec(connection="crm", dryRun=True))
    answer = patch(api, namespace, {"spec": change})

    assert answer.status_code == 422
    assert f"{next(iter(change))} cannot be changed: a replay is asked for once" in answer.text


def test_how_it_ends_can_be_changed_and_a_cancellation_is_for_good(api: httpx.Client, namespace: str) -> None:
    create(api, namespace, spec())
    changed = [
        patch(api, namespace, {"spec": change}).status_code
        for change in ({"ttlAfterFinished": "1h"}, {"ttlAfterFinished": None}, {"cancel": False}, {"cancel": True})
    ]
    refused = [patch(api, namespace, {"spec": {"cancel": value}}) for value in (False, None)]

    assert changed == [200] * 4
    assert [answer.status_code for answer in refused] == [422, 422]
    assert all("a cancelled replay stays cancelled" in answer.text for answer in refused)


STATUS: Document = {
    "observedGeneration": 1,
    "state": "Running",
    "progress": "380/412",
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Running",
            "message": "380 of 412 jobs are delivered",
            "lastTransitionTime": "2026-01-31T10:00:00Z",
        }
    ],
}


def test_columns_say_in_one_line_how_far_it_is(api: httpx.Client, kubectl: Kubectl, namespace: str) -> None:
    created = create(api, namespace, spec(connection="crm", dryRun=True))
    patch(api, namespace, {"status": STATUS}, "/status").raise_for_status()
    head, line = kubectl("get", "ireplay", "--namespace", namespace).splitlines()
    wide = kubectl("get", "integrations", "--namespace", namespace, "--output=wide")
    selected = kubectl("get", "ireplay", "--namespace", namespace, "--field-selector=status.state=Running", "-o=name")

    assert created["status"] == {"observedGeneration": -1}
    assert head.split() == ["NAME", "STATE", "CONNECTION", "TENANT", "PROGRESS", "DRY", "RUN", "AGE"]
    assert line.split()[:6] == ["again", "Running", "crm", "acme", "380/412", "true"]
    assert "380 of 412 jobs are delivered" in wide
    assert "their import failed" in wide
    assert selected.split() == ["integrationreplay.integrations.queast.io/again"]


def test_applying_again_changes_nothing(kubectl: Kubectl, api: httpx.Client, namespace: str) -> None:
    manifest = json.dumps(resource(ACCEPTED["every option"]))
    apply = ("apply", "--server-side", "--namespace", namespace, "--filename=-")
    kubectl(*apply, stdin=manifest)
    # The server stores the default of the status with the first write after creation.
    written = patch(api, namespace, {"status": STATUS}, "/status").json()["metadata"]["resourceVersion"]
    kubectl(*apply, stdin=manifest)

    assert api.get(f"{REPLAYS.format(namespace)}/again").json()["metadata"]["resourceVersion"] == written
