"""Replays and dead letters on the command line, against a running local layer and a simulated partner."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

SIGNING = "whsec_YSBrZXkgZm9yIHRlc3RzIG9ubHksIG5vdCBhIHNlY3JldA=="
MANIFESTS = """
apiVersion: v1
kind: Secret
metadata: {name: hook, namespace: acme}
stringData: {signing: SIGNING}
---
apiVersion: integrations.queast.io/v1alpha1
kind: IntegrationConnection
metadata: {name: crm, namespace: acme}
spec:
  tenant: acme
  provider: Webhook
  webhook: {url: "http://127.0.0.1:PORT/acme", signing: {secretsFrom: [{name: hook, key: signing}]}}
  routes: [{name: all, events: ["*"]}]
""".replace("SIGNING", SIGNING)

BY = ("--requested-by", "ada@example.com", "--reason", "the partner lost it")


@pytest.fixture
def partner() -> Iterator[httpx.Client]:
    command = [sys.executable, "-m", "connectors.webhook.simulator", "--port", "0", "--secret", SIGNING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            url = program.stdout.readline().split()[-1]
            with httpx.Client(base_url=url, trust_env=False) as client:
                client.put("/_control/endpoints", params={"path": "/acme"}, json={}).raise_for_status()
                yield client
        finally:
            program.kill()


@pytest.fixture
def local(command: Path, folder: Path, partner: httpx.Client) -> Iterator[None]:
    (folder / "acme.yaml").write_text(MANIFESTS.replace("PORT", str(partner.base_url.port)))
    told = folder / "told.log"
    with told.open("wb") as log:
        process = subprocess.Popen([command, "local", "."], cwd=folder, stdout=log, stderr=log)
        try:
            eventually(lambda: "connection acme/crm is ready" in told.read_text(), told.read_text)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def eventually(condition: Callable[[], object], told: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def emit(run: Run, subject: str) -> str:
    emitted = run("emit", "--tenant", "acme", "--type", "ext.test.happened", "--subject", subject, "--data", '{"a": 1}')
    return emitted.stdout.strip()


def document(result: "subprocess.CompletedProcess[str]") -> Any:
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def answer(partner: httpx.Client, *statuses: int) -> None:
    script = [{"kind": "status", "status": status, "times": None} for status in statuses]
    partner.put("/_control/endpoints", params={"path": "/acme"}, json={"script": script}).raise_for_status()


def bodies(partner: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = partner.get("/_control/deliveries", params={"path": "/acme"}).json()
    return found


def test_a_replay_is_tried_dry_then_started_watched_and_seen_in_the_event_s_life(
    run: Run, local: None, partner: httpx.Client
) -> None:
    event = emit(run, "c-1")
    eventually(lambda: run("events", "show", event).returncode == 0)

    selection = ("--connection", "acme/crm", "--type", "ext.*", "--since", "1h")
    dry = document(run("replays", "start", *selection, "--dry-run", "--json"))
    nothing = document(run("replays", "list", "--json"))
    started = document(run("replays", "start", *selection, *BY, "--json"))
    number = str(started["replays"][0]["id"])
    eventually(lambda: run("replays", "show", number).returncode == 0)
    shown = document(run("replays", "show", number, "--json"))
    life = document(run("events", "show", event, "--json"))

    assert (dry["replays"][0]["jobs"], dry["replays"][0]["sample"][0]["event"]) == (1, event)
    assert nothing == {"replays": []}
    assert (shown["state"], shown["delivered"], shown["requested_by"]) == ("Completed", 1, "ada@example.com")
    assert [attempt["replay"] for attempt in life["attempts"]] == [None, int(number)]
    assert f"replay {number}" in run("events", "show", event).stdout
    assert [delivery["accepted"] for delivery in bodies(partner)] == [2]


def test_dead_letters_are_grouped_resent_edited_and_discarded_and_all_of_it_is_on_record(
    run: Run, local: None, partner: httpx.Client
) -> None:
    answer(partner, 413)
    for subject in ("c-1", "c-2", "c-3"):
        emit(run, subject)
    eventually(lambda: len(document(run("dead-letters", "list", "--json"))["dead_letters"]) == 3)
    answer(partner)

    causes = document(run("dead-letters", "list", "--by-cause", "--json"))["causes"]
    first, second, third = (each["job"] for each in document(run("dead-letters", "list", "--json"))["dead_letters"])
    resent = document(run("dead-letters", "resend", first, *BY, "--json"))["replays"][0]["id"]
    edited = document(run("dead-letters", "edit-and-resend", second, "--data", '{"a": 2}', *BY, "--json"))["id"]
    discarded = run("dead-letters", "discard", third, *BY)
    for number in (resent, edited):
        eventually(lambda number=number: run("replays", "show", str(number)).returncode == 0)
    ends = [document(run("dead-letters", "show", job, "--json")) for job in (first, second, third)]
    left = document(run("dead-letters", "list", "--json"))["dead_letters"]

    assert [cause["number"] for cause in causes] == [3]
    assert discarded.returncode == 0
    assert left == []
    assert [(end["action"], end["resent_by_replay"], end["ended_by"]) for end in ends] == [
        ("Resent", resent, "ada@example.com"),
        ("Resent", edited, "ada@example.com"),
        ("Discarded", None, "ada@example.com"),
    ]
    changes = document(run("replays", "show", str(edited), "--json"))["changes"]
    assert changes == [{"path": "/a", "from": 1, "to": 2}]


def test_a_replay_can_be_cancelled_once(run: Run, local: None, partner: httpx.Client) -> None:
    event = emit(run, "c-1")
    eventually(lambda: run("events", "show", event).returncode == 0)
    answer(partner, 503)
    started = document(run("replays", "start", "--event", event, *BY, "--json"))
    number = str(started["replays"][0]["id"])

    cancelled = run("replays", "cancel", number, *BY)
    again = run("replays", "cancel", number, *BY)
    shown = document(run("replays", "show", number, "--json"))

    assert (cancelled.returncode, again.returncode) == (0, 1)
    assert f"there is no running replay {number}" in again.stderr
    assert (shown["state"], shown["cancelled_by"]) == ("Cancelled", "ada@example.com")


REFUSALS = (
    (("replays", "start", *BY), 2, "say what is meant"),
    (("replays", "start", "--tenant", "acme"), 2, "--requested-by and --reason are required"),
    (("replays", "start", "--tenant", "acme", "--since", "yesterday", "--dry-run"), 2, "such as 2h or 30m"),
    (("replays", "start", "--connection", "acme/none", "--dry-run"), 1, "there is no such connection"),
    (("replays", "show", "7"), 1, "there is no replay 7"),
    (("dead-letters", "resend", "job_1_1", *BY), 1, "there is no dead letter job_1_1"),
    (("dead-letters", "discard", "job_1_1", *BY), 1, "there is no dead letter job_1_1"),
)


def test_what_cannot_be_done_is_told_with_what_to_do(run: Run, local: None) -> None:
    answers = [run(*arguments) for arguments, _, _ in REFUSALS]

    assert [answer.returncode for answer in answers] == [code for _, code, _ in REFUSALS]
    assert [
        answer.stderr for answer, (_, _, told) in zip(answers, REFUSALS, strict=True) if told not in answer.stderr
    ] == []
