"""The simulated receiver judges as a real one would, and can be driven by another process."""

import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks import Webhook

from connectors.simulation import BODY_LIMIT
from connectors.simulation_faults import Status
from connectors.webhook.simulator import WebhookSimulator

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + b64encode(b"the key that signs everything").decode()
OTHER_SECRET = "whsec_" + b64encode(b"the key that signs elsewhere").decode()


BATCH = {"content-type": "application/cloudevents-batch+json"}


def signed(message_id: str, body: str, *, secret: str = SECRET, age: timedelta = timedelta(0)) -> dict[str, str]:
    moment = datetime.now(UTC) - age
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, moment, body),
    }


def event(number: int, subject: str = "company-1") -> str:
    return f'{{"type":"company.updated","id":"evt_{number}","subject":"{subject}","data":{{}}}}'


@pytest.fixture
async def simulator() -> AsyncIterator[WebhookSimulator]:
    async with WebhookSimulator([SECRET]) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: WebhookSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=simulator.url("")) as client:
        yield client


async def deliver(client: httpx.AsyncClient, number: int, path: str = "/", **signing: object) -> int:
    body = event(number)
    answer = await client.post(path, content=body, headers=signed(f"msg_{number}", body, **signing))
    return answer.status_code


@pytest.mark.parametrize(
    "signing", [{"secret": OTHER_SECRET}, {"age": timedelta(minutes=6)}, {"age": timedelta(minutes=-6)}]
)
async def test_a_wrong_signature_or_time_is_refused_and_not_remembered(
    simulator: WebhookSimulator, client: httpx.AsyncClient, signing: dict[str, object]
) -> None:
    status = await deliver(client, 1, **signing)

    assert status == 401
    assert (simulator.stats().refused, simulator.stats().unique) == (1, 0)


@pytest.mark.parametrize("headers", [{}, {"webhook-id": "a", "webhook-timestamp": "x", "webhook-signature": "v1"}])
async def test_missing_or_malformed_headers_are_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post("/", content=b"{}", headers=headers)).status_code == 401


async def test_repeats_are_counted_and_the_first_acceptance_makes_the_order(
    simulator: WebhookSimulator, client: httpx.AsyncClient
) -> None:
    simulator.change("/", script=[Status(status=500)])
    for number in (1, 2, 1, 2, 3):
        await deliver(client, number)

    stats = simulator.stats()
    assert (stats.received, stats.unique, stats.accepted, stats.repeats) == (5, 3, 3, 1)
    assert simulator.records().order == {"company-1": ["evt_2", "evt_1", "evt_3"]}


async def test_one_id_with_two_bodies_is_noticed(simulator: WebhookSimulator, client: httpx.AsyncClient) -> None:
    for body in (event(1), event(2)):
        await client.post("/", content=body, headers=signed("msg_1", body))

    assert simulator.stats().changed == 1


async def test_paths_have_secrets_and_records_of_their_own(
    simulator: WebhookSimulator, client: httpx.AsyncClient
) -> None:
    simulator.change("/other", secrets=[OTHER_SECRET])

    statuses = [await deliver(client, 1, "/other"), await deliver(client, 2, "/other", secret=OTHER_SECRET)]

    assert statuses == [401, 200]
    assert simulator.stats("/other").unique == 1
    assert simulator.opened_connections == 1


async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/", content="hello", headers=signed("msg_1", "hello"))

    assert answer.status_code == 400


async def test_a_body_that_is_too_long_ends_the_connection(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.TransportError):
        await client.post("/", content=b"x" * (BODY_LIMIT + 1))


async def test_each_message_of_a_batch_is_accounted_for(simulator: WebhookSimulator, client: httpx.AsyncClient) -> None:
    await deliver(client, 1)
    batch = ",".join(event(number, f"company-{number}")[:-1] + f',"webhookid":"msg_{number}"}}' for number in (1, 2))
    body = f"[{batch}]"
    answer = await client.post("/", content=body, headers=signed("msgs_1", body) | BATCH)

    stats = simulator.stats()
    assert answer.status_code == 200
    assert (stats.received, stats.unique, stats.accepted, stats.repeats) == (2, 2, 2, 1)
    assert (stats.batches, stats.largest_batch) == (1, 2)
    assert [arrival.request_id for arrival in simulator.records().arrivals.values()] == ["msgs_1", "msgs_1"]


@pytest.mark.parametrize("body", ["{}", "[]", "[1]", "["])
async def test_a_batch_that_is_no_array_of_events_is_refused(client: httpx.AsyncClient, body: str) -> None:
    answer = await client.post("/", content=body, headers=signed("msgs_1", body) | BATCH)

    assert answer.status_code == 400


async def test_a_request_beyond_the_limit_is_too_large(simulator: WebhookSimulator, client: httpx.AsyncClient) -> None:
    simulator.change("/", body_limit=len(event(10)))

    assert [await deliver(client, 10), await deliver(client, 100)] == [200, 413]


async def test_another_process_can_script_faults_and_read_what_came(client: httpx.AsyncClient) -> None:
    script = [{"kind": "status", "status": 503, "times": 2}, {"kind": "redirect"}]
    made = await client.put("/_control/endpoints?path=/acme", json={"secrets": [SECRET], "script": script})
    statuses = [await deliver(client, 1, "/acme") for _ in range(4)]
    stats = (await client.get("/_control/stats?path=/acme")).json()
    order = (await client.get("/_control/order?path=/acme")).json()
    (arrival,) = (await client.get("/_control/deliveries?path=/acme")).json()
    endpoints = (await client.get("/_control/endpoints")).json()

    assert made.status_code == 200
    assert statuses == [503, 503, 307, 200]
    counts = {"received": 4, "refused": 0, "unique": 1, "accepted": 1, "repeats": 0, "changed": 0}
    assert stats == counts | {"batches": 0, "largest_batch": 0}
    assert order == {"company-1": ["evt_1"]}
    assert arrival["message_id"] == "msg_1"
    assert arrival["statuses"] == statuses
    assert endpoints == {"/acme": stats}


async def test_records_can_be_forgotten(client: httpx.AsyncClient) -> None:
    await deliver(client, 1)

    forgotten = await client.delete("/_control/deliveries?path=/")
    stats = (await client.get("/_control/stats?path=/")).json()

    assert forgotten.status_code == 204
    assert stats["received"] == 0


@pytest.mark.parametrize(
    "document", ["{", '{"script":[{"kind":"earthquake"}]}', '{"secrets":["whsec_!"]}', '{"unknown":1}']
)
async def test_a_wrong_control_request_is_answered_with_what_is_wrong(client: httpx.AsyncClient, document: str) -> None:
    answer = await client.put("/_control/endpoints?path=/acme", content=document)

    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/_control/stats?path=/none", "/_control/nothing?path=/"])
async def test_an_unknown_control_request_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    await deliver(client, 1)

    assert (await client.get(path)).status_code == 404


async def test_without_default_secrets_a_path_has_to_be_made_first() -> None:
    async with WebhookSimulator() as simulator, httpx.AsyncClient(base_url=simulator.url("")) as client:
        assert await deliver(client, 1) == 404


def test_the_simulator_is_a_program() -> None:
    command = [sys.executable, "-m", "connectors.webhook.simulator", "--port", "0", "--secret", SECRET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            url = program.stdout.readline().split()[-1]
            body = event(1)
            status = httpx.post(url, content=body, headers=signed("msg_1", body)).status_code
        finally:
            program.terminate()

    assert status == 200
