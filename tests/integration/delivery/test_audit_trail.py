"""Of every attempt it can be told what was sent, by whom, how long it took and what was answered."""

from typing import TYPE_CHECKING

import pytest

from connectors.redaction import MASK
from connectors.simulation_faults import Status
from contracts.ids import parse_event_id
from store.history import Attempt, event_life
from tests.integration.delivery.conftest import SECRET

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

SOON = {"maxAttempts": 8, "initialDelay": "100ms", "maxDelay": "200ms"}
REFUSAL = Status(status=500, body="no", headers={"X-Request-Id": "r-17"})


async def delivered_at_the_second_attempt(house: "House") -> list[Attempt]:
    await house.publish(retry=SOON)
    house.simulator.change("/hook", script=[REFUSAL])
    house.start()
    event = house.layer.emit(number=1)
    await house.until_settled()
    async with await house.layer.connect("reader") as reader:
        life = await event_life(reader, parse_event_id(event))
    assert life is not None
    return list(life.attempts)


async def test_attempts_tell_what_was_sent_and_by_whom(house: "House") -> None:
    refused, delivered = await delivered_at_the_second_attempt(house)

    (arrival,) = house.arrivals()
    assert (refused.body_digest, delivered.body_digest) == (arrival.digest, arrival.digest)
    assert (refused.worker_name, delivered.worker_name) == ("worker", "worker")
    assert all(attempt.answering_ms is not None for attempt in (refused, delivered))
    assert all((attempt.answering_ms or 0) <= attempt.duration_ms for attempt in (refused, delivered))


async def test_only_what_failed_keeps_particulars(house: "House") -> None:
    refused, delivered = await delivered_at_the_second_attempt(house)

    assert delivered.particulars is None
    assert refused.particulars is not None
    assert refused.particulars["address"] == f"{house.simulator.url('/')}{MASK}"
    assert refused.particulars["request_headers"]["Webhook-Signature"] == MASK
    assert refused.particulars["response_headers"]["x-request-id"] == "r-17"


async def test_a_worker_that_is_gone_is_still_named(house: "House") -> None:
    refused, _ = await delivered_at_the_second_attempt(house)
    await house.stop("worker")
    async with await house.layer.connect("reader") as reader:
        life = await event_life(reader, parse_event_id(house.arrivals()[0].event.event_id))

    assert house.layer.value("select count(*) from integration.worker_session") == 0
    assert life is not None
    assert [attempt.worker_name for attempt in life.attempts] == [refused.worker_name] * 2


async def test_no_attempt_holds_a_secret(house: "House") -> None:
    await delivered_at_the_second_attempt(house)

    rows = str(house.layer.rows("select a::text, a.particulars from integration.attempt a"))
    assert "Webhook-Signature" in rows
    assert SECRET.removeprefix("whsec_") not in rows
    assert "v1," not in rows
