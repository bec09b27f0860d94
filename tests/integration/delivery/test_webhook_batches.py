"""Batches of CloudEvents reach a receiver that verifies them: nothing is lost, repeated unasked, or overtaken."""

from typing import TYPE_CHECKING

import pytest

from connectors.simulation_faults import Hang, Status
from contracts.ids import EventId
from store.replay_edits import start_edited
from store.replay_selection import Source
from store.replays import Request
from tests.integration.delivery.test_replayed_deliveries import select

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

ONE_REQUEST = {"concurrency": 1, "requestsPerSecond": 1000.0, "burst": 1000}
SOON = {"maxAttempts": 12, "initialDelay": "100ms", "maxDelay": "200ms"}


def batches(**fields: object) -> dict[str, object]:
    return {"format": "CloudEvents", "batch": {"maxItems": 10, "maxDelay": "100ms", **fields}}


def emit(house: "House", number: int, subjects: int) -> None:
    for index in range(number):
        house.layer.emit(f"subject-{index % subjects}", number=index)


async def backlog(house: "House", number: int, subjects: int = 1_000) -> None:
    """Have so many jobs wait before a worker is there."""
    house.start_dispatcher()
    emit(house, number, subjects)
    await house.until(lambda: house.jobs() == number)


async def test_events_arrive_in_batches_verified_and_in_their_subject_s_order(house: "House") -> None:
    await house.publish(webhook=batches(), throttle=ONE_REQUEST)
    await backlog(house, 200, subjects=20)
    house.start_worker()
    await house.until_settled()

    stats = house.simulator.stats("/hook")
    assert (stats.accepted, stats.repeats, stats.refused, stats.largest_batch) == (200, 0, 0, 10)
    assert stats.received < 60
    house.assert_in_order()


async def test_a_failing_receiver_gets_every_event_in_the_end_and_in_order(house: "House") -> None:
    await house.publish(webhook=batches(), throttle=ONE_REQUEST, retry=SOON, quarantine={"consecutiveFailures": 1000})
    house.simulator.change("/hook", script=[Status(status=500, times=6)])
    await backlog(house, 60, subjects=20)
    house.start_worker()
    await house.until_settled()

    stats = house.simulator.stats("/hook")
    assert (stats.accepted, stats.repeats, stats.changed) == (60, 0, 0)
    house.assert_in_order()


async def test_a_batch_of_unknown_fate_is_repeated_under_the_ids_of_its_events(house: "House") -> None:
    await house.publish(webhook=batches(), throttle=ONE_REQUEST, retry=SOON, timeout="300ms")
    house.simulator.change("/hook", script=[Hang()])
    await backlog(house, 10)
    house.start_worker()
    await house.until_settled()

    arrivals = house.arrivals()
    assert [(arrival.statuses[0], arrival.accepted, arrival.same_body) for arrival in arrivals] == [
        (None, 1, True)
    ] * 10


async def test_a_receiver_that_takes_only_small_requests_gets_them(house: "House") -> None:
    await house.publish(webhook=batches(maxItems=50), throttle=ONE_REQUEST, retry={"maxAttempts": 1})
    house.simulator.change("/hook", body_limit=2_000)
    await backlog(house, 50)
    house.start_worker()
    await house.until_settled()
    await house.stop("worker")  # a refused attempt may be written after the accepted one of the same job

    stats = house.simulator.stats("/hook")
    assert (stats.accepted, stats.repeats) == (50, 0)
    assert house.layer.value("select count(*) from integration.dead_letter") == 0
    refusals = house.layer.value("select count(distinct at) from integration.attempt where status_code = 413")
    assert 1 <= refusals <= 6


async def test_every_event_of_a_batch_has_its_own_attempt_with_the_digest_of_the_request(house: "House") -> None:
    await house.publish(webhook=batches(), throttle=ONE_REQUEST)
    await backlog(house, 3)
    house.start_worker()
    await house.until_settled()

    rows = house.layer.rows(
        "select outcome, status_code, count(*), count(distinct body_digest) from integration.attempt group by 1, 2"
    )
    assert rows == [("Delivered", 200, 3, 1)]


async def test_an_edited_event_travels_as_edited_beside_others(house: "House") -> None:
    await house.publish(webhook=batches(maxItems=2, maxDelay="10s"), throttle=ONE_REQUEST)
    house.simulator.change("/hook", script=[Status(status=414)])
    house.start()
    emit(house, 2, subjects=2)
    await house.until(lambda: house.layer.value("select count(*) from integration.dead_letter") == 2)
    event, route, letter = house.layer.rows("select event_id, route_id, job_id from integration.dead_letter")[0]
    selection = await select(house, Source.JOBS, events=(EventId(event),), routes=(route,), letters=(letter,))
    async with await house.layer.connect("support") as database:
        request = Request(selection, "ada@example.com", "too large", new_message_ids=True)
        started = await start_edited(database, request, {"number": 7}, [{"path": "/number", "from": 0, "to": 7}])
    house.layer.emit("another", number=3)
    await house.until_accepted(2)

    edited, other = [arrival for arrival in house.arrivals() if arrival.accepted]
    assert edited.request_id == other.request_id
    assert {arrival.message_id.endswith(f"_r{started:x}") for arrival in (edited, other)} == {True, False}


async def test_a_worker_that_is_killed_has_its_batch_sent_again_under_the_same_ids(house: "House") -> None:
    await house.publish(webhook=batches(), throttle=ONE_REQUEST)
    house.simulator.change("/hook", script=[Hang()])
    await backlog(house, 10)
    house.start_worker()
    await house.until(lambda: house.simulator.stats("/hook").received == 1)
    await house.kill("worker")
    house.start_worker()
    await house.until_settled()

    stats = house.simulator.stats("/hook")
    assert (stats.received, stats.unique, stats.accepted, stats.changed) == (2, 10, 10, 0)
