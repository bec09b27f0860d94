"""Replays as resources, on real parts: asked for once, told of as they go on, cancelled, and gone in their time."""

from typing import Any

import pytest

from tests.cluster.audit import AuditLog
from tests.cluster.house import REPLAYS, House
from tests.cluster.kubelet.process_kubelet import ProcessKubelet
from tests.cluster.operators import eventually
from tests.cluster.partner import Partner

MERGE = {"Content-Type": "application/merge-patch+json"}


def change(house: House, spec: dict[str, Any], name: str = "again") -> None:
    """Change a replay's spec."""
    place = f"{REPLAYS.format(house.namespace)}/{name}"
    house.api.patch(place, json={"spec": spec}, headers=MERGE).raise_for_status()


def delete(house: House, name: str = "again") -> None:
    house.api.delete(f"{REPLAYS.format(house.namespace)}/{name}").raise_for_status()


def is_gone(house: House, name: str = "again") -> bool:
    return not house.exists(f"{REPLAYS.format(house.namespace)}/{name}")


def ready(house: House, name: str = "again") -> tuple[str, str, str]:
    """Return a replay's state, and whether and why it is ready."""
    status = house.replayed(name)
    (found,) = (each for each in status["conditions"] if each["type"] == "Ready")
    return status["state"], found["status"], found["reason"]


def conditions(house: House, name: str = "again") -> set[str]:
    """Name the conditions of a replay that are true."""
    return {each["type"] for each in house.replayed(name)["conditions"] if each["status"] == "True"}


def replays(house: House) -> list[tuple[str, bool, str]]:
    """Return state, dry run and connection of every replay in the database."""
    return house.layer.rows(
        "select p.state, p.dry_run, c.name from integration.replay p join integration.connection c"
        " on c.id = p.connection_id order by p.id"
    )


@pytest.fixture
def suspended(house: House, dispatcher: None) -> House:
    """Have a connection whose replays cannot go on, and an event that was dispatched for it."""
    house.start()
    house.apply(house.secret(), house.connection(suspend=True))
    eventually(house.is_ready)
    house.layer.emit("first")
    eventually(lambda: house.layer.value("select count(*) from integration.job") == 1)
    house.layer.rows("delete from integration.job")
    return house


def test_a_replay_s_life_from_its_dry_run_to_its_deletion(
    house: House, kubelet: ProcessKubelet, partner: Partner, dispatcher: None
) -> None:
    house.start()
    house.apply(house.secret(), house.connection(url=partner.url))
    eventually(house.is_ready)
    emitted = [house.layer.emit(f"subject-{number}") for number in range(7)]
    eventually(lambda: partner.accepted(7))

    # A dry run counts and sends nothing.
    house.apply(house.replay("dry", connection="hook", dryRun=True))
    house.cluster.kubectl(
        "wait", "--for=condition=Ready", "--timeout=60s", "ireplay/dry", f"--namespace={house.namespace}"
    )
    dry = house.replayed("dry")
    assert (dry["state"], dry["progress"], dry["counts"]["jobs"]) == ("Completed", "7", 7)
    assert dry["sample"] == emitted[:5]
    assert partner.stats()["repeats"] == 0

    # The real one repeats each message under its id.
    house.apply(house.replay("again", connection="hook", requestedBy="ada@example.com"))
    house.cluster.kubectl(
        "wait", "--for=condition=Ready", "--timeout=60s", "ireplay/again", f"--namespace={house.namespace}"
    )
    done = house.replayed()
    assert (partner.stats()["unique"], partner.stats()["repeats"]) == (7, 7)
    assert (done["state"], done["progress"]) == ("Completed", "7/7")
    assert (done["counts"]["delivered"], done["counts"]["inQueue"], done["counts"]["dead"]) == (7, 0, 0)
    assert (done["connections"], done["requestedBy"]) == (1, "ada@example.com")
    assert done["startedAt"] <= done["finishedAt"]
    assert conditions(house) == {"Ready", "Finished"}
    line = house.cluster.kubectl("get", "ireplay", "again", f"--namespace={house.namespace}").splitlines()[1]
    assert line.split()[:5] == ["again", "Completed", "hook", "acme", "7/7"]
    events = house.cluster.kubectl("events", "--for=ireplay/again", f"--namespace={house.namespace}")
    assert "Completed" in events

    # Its time is over, the other's is not.
    change(house, {"ttlAfterFinished": "0s"})
    eventually(lambda: is_gone(house))
    assert not is_gone(house, "dry")
    assert [state for state, _, _ in replays(house)] == ["Completed", "Completed"]


def test_a_time_to_live_ends_a_replay_by_itself(suspended: House) -> None:
    suspended.apply(suspended.replay(dryRun=True, ttlAfterFinished="1s"))
    eventually(lambda: replays(suspended) == [("Completed", True, "hook")])
    eventually(lambda: is_gone(suspended))


def test_a_replay_that_is_held_up_says_why_and_can_be_cancelled(suspended: House) -> None:
    suspended.apply(suspended.replay())
    eventually(lambda: ready(suspended) == ("Running", "False", "Held"))
    held = (suspended.replayed()["conditions"][0]["message"], conditions(suspended))
    change(suspended, {"cancel": True})
    eventually(lambda: ready(suspended) == ("Cancelled", "False", "Cancelled"))

    assert held == (
        "hook: the connection is suspended; the replay goes on by itself when that is over",
        {"Reconciling"},
    )
    assert conditions(suspended) == {"Stalled", "Finished"}
    assert suspended.replayed()["observedGeneration"] == 2
    assert replays(suspended) == [("Cancelled", False, "hook")]


def test_a_replay_goes_on_when_what_held_it_up_is_over(suspended: House) -> None:
    suspended.apply(suspended.replay())
    eventually(lambda: ready(suspended) == ("Running", "False", "Held"))
    suspended.apply(suspended.connection(suspend=False))
    eventually(lambda: suspended.replayed()["counts"]["inQueue"] == 1)

    assert ready(suspended) == ("Running", "False", "Running")


def test_deleting_a_replay_ends_it(suspended: House) -> None:
    suspended.apply(suspended.replay())
    eventually(lambda: replays(suspended) == [("Running", False, "hook")])
    delete(suspended)
    eventually(lambda: replays(suspended) == [("Cancelled", False, "hook")])

    assert is_gone(suspended)


def test_a_replay_that_is_deleted_while_the_operator_is_away_ends_when_it_is_back(suspended: House) -> None:
    suspended.apply(suspended.replay())
    eventually(lambda: replays(suspended) == [("Running", False, "hook")])
    suspended.operators[0].kill()
    delete(suspended)
    away = replays(suspended)
    suspended.start("operator-1")
    eventually(lambda: replays(suspended) == [("Cancelled", False, "hook")])

    assert away == [("Running", False, "hook")]
    assert is_gone(suspended)


def test_an_operator_that_is_killed_asks_for_nothing_twice_and_tells_of_what_happened_meanwhile(
    suspended: House,
) -> None:
    suspended.apply(suspended.replay())
    eventually(lambda: ready(suspended) == ("Running", "False", "Held"))
    suspended.operators[0].kill()
    suspended.layer.rows(
        "update integration.replay set state = 'Completed', read_to_end = true, queued = 3, ended_at = now()"
    )
    suspended.start("operator-1")
    eventually(lambda: ready(suspended) == ("Completed", "True", "Completed"))

    assert suspended.replayed()["counts"]["jobs"] == 3
    assert len(replays(suspended)) == 1


def test_what_has_ended_is_never_asked_for_again_and_costs_nothing(suspended: House, audit: AuditLog) -> None:
    suspended.apply(suspended.replay(dryRun=True))
    eventually(lambda: ready(suspended)[0] == "Completed")
    before = suspended.replayed()
    suspended.layer.rows("delete from integration.replay; delete from integration.replay_resource")
    mark = audit.mark()
    suspended.operators[0].kill()
    operator = suspended.start("operator-1")
    eventually(lambda: operator.says("everything seen"))
    suspended.apply(suspended.replay("other", dryRun=True))
    eventually(lambda: ready(suspended, "other")[0] == "Completed")
    user = f"system:serviceaccount:{suspended.namespace}:.*"
    written = [
        record.name
        for record in audit.requests(user=user, since=mark)
        if record.resource == "integrationreplays" and record.verb == "patch"
    ]

    assert suspended.replayed() == before
    assert len(replays(suspended)) == 1
    assert set(written) == {"other"}


def test_a_replay_waits_for_its_connection(suspended: House) -> None:
    suspended.apply(suspended.replay(connection="later", dryRun=True))
    eventually(lambda: ready(suspended) == ("Waiting", "False", "ConnectionNotFound"))
    message = suspended.replayed()["conditions"][0]["message"]
    suspended.apply(suspended.secret("later"), suspended.connection("later"))
    eventually(lambda: ready(suspended) == ("Completed", "True", "Counted"))

    assert f"tenant acme has no connection later in namespace {suspended.namespace} that takes events" in message
    assert suspended.replayed()["progress"] == "1"


def test_what_is_named_and_not_there_is_refused(suspended: House) -> None:
    suspended.apply(suspended.replay(selection={"events": ["evt_7f_00000000"]}))
    eventually(lambda: ready(suspended) == ("Failed", "False", "Refused"))

    assert "there is no event evt_7f_00000000" in suspended.replayed()["conditions"][0]["message"]
    assert replays(suspended) == []


def test_a_namespace_without_the_tenant_s_label_replays_nothing(house: House, dispatcher: None) -> None:
    house.look_after_all_namespaces()
    house.start()
    house.apply(house.replay(tenant="globex"))
    eventually(lambda: ready(house) == ("Invalid", "False", "ForbiddenTenant"))
    message = house.replayed()["conditions"][0]["message"]
    asked = house.layer.value("select count(*) from integration.replay_resource")
    house.cluster.kubectl("label", "namespace", house.namespace, "tenant.integrations.queast.io/globex=")
    eventually(lambda: ready(house) == ("Waiting", "False", "ConnectionNotFound"))
    house.cluster.kubectl("label", "namespace", house.namespace, "tenant.integrations.queast.io/globex-")
    eventually(lambda: ready(house) == ("Cancelled", "False", "Cancelled"))

    assert f"kubectl label namespace {house.namespace} tenant.integrations.queast.io/globex=" in message
    assert asked == 0
