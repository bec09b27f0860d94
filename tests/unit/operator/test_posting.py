"""Events tell of transitions, once, and in a form that the API server takes."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.status import EndpointCheck
from integration_operator.conclusion import Credentials, EndedCheck, Facts, conclude
from integration_operator.errors import ForbiddenError
from integration_operator.names import ObjectKey
from integration_operator.observed import ConnectionObject, connection_of
from integration_operator.posting import post, post_transitions, transitions
from store.standing import Standing

Json = dict[str, Any]
Make = Callable[..., Json]

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class FakeKube:
    def __init__(self) -> None:
        self.created: list[tuple[str, Json]] = []

    async def create(self, path: str, body: Json) -> Json:
        self.created.append((path, body))
        return body


@pytest.fixture
def connection(make_body: Make) -> ConnectionObject:
    return connection_of(make_body())


def status(connection: ConnectionObject, **facts: Any) -> Json:
    known = {"credentials": Credentials("digest"), "pool": ObjectKey("team", "pool"), "epoch": 1} | facts
    return conclude(Facts(connection, claimed=True, problems=(), **known), NOW)


def told(former: Json, latter: Json) -> list[tuple[str, str]]:
    return [(type_, reason) for type_, reason, _ in transitions(former, latter)]


def test_of_first_statuses_only_the_bad_ones_are_told(connection: ConnectionObject) -> None:
    new = {"observedGeneration": -1}
    missing = status(connection, credentials=Credentials("", missing=("Secret s",)))

    assert told(new, status(connection)) == []
    assert told(new, missing) == [("Warning", "CredentialsMissing")]
    assert told(missing, status(connection)) == [("Normal", "Ready")]


@pytest.mark.parametrize(("passed", "type_"), [(True, "Normal"), (False, "Warning")])
def test_what_came_of_a_test_is_told_once(connection: ConnectionObject, passed: bool, type_: str) -> None:
    ended = EndedCheck("now", EndpointCheck(at=NOW, passed=passed, message="HTTP 204"))
    tested = status(connection, check=ended)
    later = status(replace(connection, status=tested))

    assert told(status(connection), tested) == [(type_, "EndpointChecked")]
    assert told(tested, later) == []


def test_a_restart_tells_nothing_again(connection: ConnectionObject) -> None:
    for facts in ({}, {"standing": Standing(NOW, "410 Gone")}, {"epoch": None}, {"drain_deadline": NOW}):
        same = status(connection, **facts)

        assert told(same, same) == []


def test_what_a_person_should_look_at_is_a_warning(connection: ConnectionObject) -> None:
    ready = status(connection)

    assert told(ready, status(connection, standing=Standing(NOW, "410 Gone"))) == [("Warning", "Quarantined")]
    assert told(ready, status(connection, workers_problem="no node")) == [("Warning", "WorkersUnavailable")]
    assert told(ready, status(connection, drain_deadline=NOW)) == [("Normal", "Draining")]


def test_another_message_for_the_same_reason_is_no_transition(connection: ConnectionObject) -> None:
    former, latter = (status(connection, standing=Standing(NOW, reason)) for reason in ("410 Gone", "410 Still gone"))

    assert former != latter
    assert told(former, latter) == []


def test_the_end_of_a_quarantine_is_told(connection: ConnectionObject) -> None:
    quarantined = status(connection, standing=Standing(NOW, "410 Gone"))

    assert told(quarantined, status(connection)) == [("Normal", "Ready"), ("Normal", "Released")]


def test_a_rotation_is_told_once_and_a_loss_is_no_rotation(connection: ConnectionObject) -> None:
    former = status(connection)
    rotated = status(connection, credentials=Credentials("another"))
    lost = status(connection, credentials=Credentials("less", missing=("Secret s",)))

    assert told(former, rotated) == [("Normal", "CredentialsRotated")]
    assert told(rotated, rotated) == []
    assert told(former, lost) == [("Warning", "CredentialsMissing")]
    assert told(lost, former) == [("Normal", "Ready")]


def test_each_transition_is_posted_about_the_very_object(connection: ConnectionObject) -> None:
    kube = FakeKube()
    quarantined = status(connection, standing=Standing(NOW, "410 Gone"))
    asyncio.run(post_transitions(kube, connection, quarantined, "operator-0"))  # type: ignore[arg-type]
    ((path, event),) = kube.created

    assert path == "/apis/events.k8s.io/v1/namespaces/team/events"
    assert event["regarding"]["uid"] == str(connection.uid)
    assert (event["type"], event["reason"]) == ("Warning", "Quarantined")


def test_an_event_that_cannot_be_posted_stops_nobody(connection: ConnectionObject) -> None:
    class Refusing(FakeKube):
        async def create(self, path: str, body: Json) -> Json:
            await super().create(path, body)
            raise ForbiddenError("the namespace is being terminated")

    kube = Refusing()
    asyncio.run(post(kube, connection, "Normal", "Ready", "note", "operator-0"))  # type: ignore[arg-type]

    assert len(kube.created) == 1


def test_long_names_and_notes_are_cut_to_what_the_api_server_takes(connection: ConnectionObject) -> None:
    kube = FakeKube()
    named = replace(connection, key=ObjectKey("team", "a" * 199 + "-" + "b" * 50))
    asyncio.run(post(kube, named, "Normal", "Ready", "ä" * 2_000, "i" * 500))  # type: ignore[arg-type]
    ((_, event),) = kube.created

    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", event["metadata"]["name"])
    assert len(event["metadata"]["name"]) <= 253
    assert event["note"] == "ä" * 512
    assert len(event["reportingInstance"]) <= 128
