"""A pod that tests an endpoint is a worker's in all that its network depends on; its last words become a status."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.endpoint_check import Step, StepName
from contracts.status import ConnectionStatus
from integration_operator.check_pods import check_pod, hindrance, pod_name, read_pod
from integration_operator.children import deployment
from integration_operator.names import ObjectKey
from integration_operator.observed import ConnectionObject, connection_of
from integration_operator.settings import OperatorSettings
from integrations.testing import REPORT_BYTES, brief

Json = dict[str, Any]
Make = Callable[..., Json]

POOL = ObjectKey("team", "integrations-tenant-acme")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def connection(make_body: Make) -> ConnectionObject:
    return connection_of(make_body())


def ended(message: str, phase: str = "Failed", **state: Any) -> Json:
    terminated = {"exitCode": 1, "reason": "Error", "message": message} | state
    return {"status": {"phase": phase, "containerStatuses": [{"state": {"terminated": terminated}}]}}


def test_image_rights_labels_and_environment_are_a_worker_s(
    connection: ConnectionObject, settings: OperatorSettings
) -> None:
    worker = deployment(POOL, [connection], settings, secrets="", replicas=None)["spec"]["template"]
    pod = check_pod(connection, "now", POOL, settings)
    (ours,), (theirs,) = pod["spec"]["containers"], worker["spec"]["containers"]

    assert worker["metadata"]["labels"].items() <= pod["metadata"]["labels"].items()
    assert {name: ours[name] for name in ("image", "env", "resources", "securityContext", "volumeMounts")} == {
        name: theirs[name] for name in ("image", "env", "resources", "securityContext", "volumeMounts")
    }
    assert pod["spec"]["securityContext"] == worker["spec"]["securityContext"]
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_it_runs_once_and_goes_with_its_connection(connection: ConnectionObject, settings: OperatorSettings) -> None:
    pod = check_pod(connection, "now", POOL, settings)
    (container,) = pod["spec"]["containers"]

    assert pod["spec"]["restartPolicy"] == "Never"
    assert container["args"] == ["test", "team/crm", "--report", "/dev/termination-log"]
    assert [owner["uid"] for owner in pod["metadata"]["ownerReferences"]] == [str(connection.uid)]


def test_of_secrets_it_has_those_of_its_connection_alone(
    make_body: Make, make_spec: Make, settings: OperatorSettings
) -> None:
    mine = connection_of(make_body(spec=make_spec(secrets=(("mine", "k"),))))
    volumes = check_pod(mine, "now", POOL, settings)["spec"]["volumes"]
    (secrets,) = (volume["projected"]["sources"] for volume in volumes if volume["name"] == "secrets")

    assert [source["secret"]["name"] for source in secrets] == ["mine"]


def test_each_request_has_a_name_of_its_own(make_body: Make) -> None:
    one, other = connection_of(make_body(uid=1)), connection_of(make_body(uid=2))
    names = {pod_name(each.uid, request) for each in (one, other) for request in ("a", "b")}

    assert len(names) == 4
    assert pod_name(one.uid, "a") == pod_name(one.uid, "a")


def test_a_pod_that_has_not_ended_says_nothing_yet() -> None:
    for pod in ({}, {"status": {"phase": "Pending"}}, {"status": {"phase": "Running"}}):
        assert read_pod(pod, NOW) is None


def test_last_words_become_steps_and_a_sentence() -> None:
    steps = [
        Step(StepName.CONNECT, True, 0.0213, "connected"),
        Step(StepName.STATUS, False, 0.1, "HTTP 401", "Compare the secret."),
    ]
    check = read_pod(ended(brief("team/crm", steps).decode()), NOW)

    assert check is not None
    assert (check.passed, check.message) == (False, "status: HTTP 401. Compare the secret.")
    assert [(step.name, step.milliseconds) for step in check.steps] == [("connect", 21), ("status", 100)]


def test_the_longest_report_fits_and_is_within_the_bounds_of_the_status() -> None:
    steps = [Step(name, False, 1.0, "ü€" * 2_000, "𝄞" * 2_000) for name in StepName]
    words = brief("n" * 63 + "/" + "c" * 253, steps)
    check = read_pod(ended(words.decode()), NOW)

    assert len(words) <= REPORT_BYTES
    assert check is not None
    assert len(check.steps) == len(StepName)
    assert ConnectionStatus.model_validate(ConnectionStatus(endpoint_check=check).model_dump()).endpoint_check == check


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        (ended("cannot reach the database"), "cannot reach the database"),
        (ended("", reason="OOMKilled"), "OOMKilled"),
        (ended("[1, 2]"), "[1, 2]"),
        (ended('{"steps": []}'), "steps"),
        (
            {"status": {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}},
            "low on memory",
        ),
        ({"status": {"phase": "Failed"}}, "no reason is given"),
    ],
)
def test_a_test_that_came_to_no_result_says_why(pod: Json, told: str) -> None:
    check = read_pod(pod, NOW)

    assert check is not None
    assert not check.passed
    assert told in check.message


def test_what_keeps_a_pod_waiting_is_told() -> None:
    waiting = {
        "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]
    }
    unscheduled = {"conditions": [{"status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}

    assert hindrance({"status": waiting}) == "ImagePullBackOff: no such image"
    assert hindrance({"status": unscheduled}) == "Unschedulable: 0/3 nodes"
    assert hindrance({}) == "it is Pending"


def test_the_words_of_a_report_are_json_that_people_can_read() -> None:
    words = json.loads(brief("team/crm", [Step(StepName.CREDENTIALS, False, 0.5, "not found", "Create it.")]))

    assert words["steps"] == [
        {"name": "credentials", "passed": False, "seconds": 0.5, "found": "not found", "advice": "Create it."}
    ]
