"""The layer on one machine, from outside: it follows its folder, survives kills, and can be asked about everything."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from local.access import find_access
from store.roles import Group
from tests.acceptance.running import Running, eventually, running

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
  delivery:
    throttle: {requestsPerSecond: 100, burst: 5, concurrency: 50}
    retry: {initialDelay: 100ms, maxDelay: 500ms}
""".replace("SIGNING", SIGNING)


@pytest.fixture
def partner() -> Iterator[httpx.Client]:
    """Run a simulated partner in a process of its own; give its control API."""
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
def local(command: Path, folder: Path, partner: httpx.Client) -> Iterator[Running]:
    (folder / "acme.yaml").write_text(MANIFESTS.replace("PORT", str(partner.base_url.port)))
    with running(command, folder) as local:
        local.wait_until_told("connection acme/crm is ready")
        yield local


def emit_many(folder: Path, count: int) -> list[str]:
    access = find_access(folder)
    assert access is not None
    with psycopg.connect(access.dsn(Group.PRODUCER), autocommit=True) as producer:
        query = "select integration.emit_event('acme', 'ext.test.happened', %s, '{}')"
        rows = [producer.execute(query, (f"subject-{number % 20}",)).fetchone() for number in range(count)]
    return [row[0] for row in rows if row]


def accepted(partner: httpx.Client) -> dict[str, int]:
    arrivals = partner.get("/_control/deliveries", params={"path": "/acme"}).json()
    return {arrival["event"]["event_id"]: arrival["accepted"] for arrival in arrivals if arrival["accepted"]}


def test_a_connection_s_partner_can_be_tested_step_by_step(run: Run, local: Running, partner: httpx.Client) -> None:
    well = run("test", "acme/crm")
    partner.put("/_control/endpoints", params={"path": "/acme"}, json={"script": [{"kind": "status", "status": 404}]})
    ill = run("test", "acme/crm")

    assert (well.returncode, ill.returncode) == (0, 1), well.stdout + well.stderr
    assert well.stdout.endswith("acme/crm takes what we send\n")
    assert "correct the path of the connection's address" in ill.stdout


def test_an_event_can_be_followed_from_its_emission_to_its_delivery(run: Run, local: Running) -> None:
    data = '{"id": "c1", "name": "Acme"}'
    emitted = run("emit", "--tenant", "acme", "--type", "company.updated", "--subject", "c1", "--data", data, "--json")
    event = json.loads(emitted.stdout)["id"]
    eventually(lambda: run("events", "show", event).returncode == 0)

    life: dict[str, Any] = json.loads(run("events", "show", event, "--json").stdout)
    job = run("jobs", "show", life["attempts"][0]["job"])
    shown = run("events", "show", event).stdout
    unfinished = json.loads(run("jobs", "list", "--json").stdout)
    connections = json.loads(run("connections", "list", "--json").stdout)

    assert [attempt["outcome"] for attempt in life["attempts"]] == ["Delivered"]
    assert life["unfinished"] == []
    assert [shown.index(word) for word in ("emitted", "dispatched", "Delivered")] == sorted(
        shown.index(word) for word in ("emitted", "dispatched", "Delivered")
    )
    assert job.returncode == 0
    assert unfinished == {"jobs": [], "more": False}
    assert [found["connection"] for found in connections["connections"]] == ["acme/crm"]


def test_what_is_unfinished_is_told_with_its_reason_and_can_be_released(
    run: Run, local: Running, partner: httpx.Client, folder: Path
) -> None:
    failing = {"script": [{"kind": "status", "status": 410, "times": None}]}
    partner.put("/_control/endpoints", params={"path": "/acme"}, json=failing).raise_for_status()
    (event,) = emit_many(folder, 1)
    local.wait_until_told("connection acme/crm is quarantined")

    shown = run("events", "show", event)
    jobs = json.loads(run("jobs", "list", "--json").stdout)["jobs"]
    partner.put("/_control/endpoints", params={"path": "/acme"}, json={"script": []}).raise_for_status()
    released = run("connections", "release", "acme/crm")
    eventually(lambda: run("events", "show", event).returncode == 0)
    again = run("connections", "release", "acme/crm")

    assert shown.returncode == 1
    assert "the connection is quarantined: Gone" in shown.stdout
    assert [job["state"] for job in jobs] == ["Quarantined"]
    assert released.returncode == 0
    assert again.returncode == 1


def test_a_killed_worker_is_started_again_and_nothing_is_lost(
    local: Running, partner: httpx.Client, folder: Path
) -> None:
    emitted = emit_many(folder, 300)
    eventually(lambda: len(accepted(partner)) >= 30)
    first = local.worker()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    local.wait_until_told("worker-1 ended unexpectedly (ended by SIGKILL)")
    eventually(lambda: len(accepted(partner)) == 300, lambda: len(accepted(partner)))

    order = partner.get("/_control/order", params={"path": "/acme"}).json()
    assert set(accepted(partner)) == set(emitted)
    assert all(events == [event for event in emitted if event in set(events)] for events in order.values())
    assert local.worker() not in (first, None)


def test_a_mistake_in_a_manifest_is_told_and_the_running_connection_goes_on(
    local: Running, partner: httpx.Client, folder: Path
) -> None:
    manifest = folder / "acme.yaml"
    right = manifest.read_text()
    manifest.write_text(right.replace("concurrency: 50", "concurency: 50"))
    place = "acme.yaml, document 2 (IntegrationConnection crm): spec.delivery.throttle.concurency: "
    local.wait_until_told(place + "this field is unknown; allowed here are")
    emitted = emit_many(folder, 5)
    eventually(lambda: set(accepted(partner)) == set(emitted))
    manifest.write_text(right)
    local.wait_until_told("all manifests are right again")

    assert local.told().count("spec.delivery.throttle.concurency") == 1


def test_it_stops_cleanly_and_the_next_run_goes_on_where_it_ended(
    command: Path, local: Running, partner: httpx.Client, folder: Path
) -> None:
    local.process.send_signal(signal.SIGINT)
    code = local.process.wait(timeout=60)
    first = find_access(folder)
    with running(command, folder) as again:
        again.wait_until_told("connection acme/crm is ready")
        emitted = emit_many(folder, 1)
        eventually(lambda: set(accepted(partner)) == set(emitted))

    assert code == 0
    assert again.process.returncode == 0
    assert first is not None
    assert "published" not in again.told()
    assert find_access(folder) == first


def test_nothing_secret_is_on_a_command_line_or_in_what_is_told(local: Running, folder: Path) -> None:
    access = find_access(folder)
    assert access is not None
    secrets = {*access.passwords.values(), SIGNING}
    lines = " ".join(
        argument for child in psutil.Process(local.process.pid).children(recursive=True) for argument in child.cmdline()
    )
    logs = "".join(log.read_text() for log in (folder / ".integrations" / "logs").iterdir())

    assert not any(secret in lines + local.told() + logs for secret in secrets)
    assert (folder / ".integrations" / "access.json").stat().st_mode & 0o777 == 0o600


def test_a_second_layer_in_one_folder_is_refused(run: Run, local: Running) -> None:
    result = run("local", ".")

    assert result.returncode == 1
    assert "is in use by process" in result.stderr
    assert local.process.poll() is None


def test_a_demo_whose_port_is_taken_says_so(run: Run, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (folder / "acme.yaml").write_text(MANIFESTS.replace("PORT", str(taken.getsockname()[1])))

        result = run("local", "--demo", "--once")

    assert result.returncode == 1
    assert "cannot listen on port" in result.stderr
