"""Replays carried out by real dispatchers and workers, against a receiver that verifies signatures."""

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from connectors.simulation_faults import Status
from contracts.ids import EventId, ReplayId
from store.replay_edits import start_edited
from store.replay_requests import read_targets
from store.replay_selection import Selection, Source
from store.replays import UNFINISHED_AT_MOST, Request, outcomes, read_moment, start

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = {"concurrency": 1, "requestsPerSecond": 1000.0, "burst": 1000}


async def delivered(house: "House", number: int) -> None:
    """Run the programs and have events of as many subjects delivered."""
    await house.publish(throttle=ONE_AT_A_TIME)
    house.start()
    for index in range(number):
        house.layer.emit(f"subject-{index}", number=index)
    await house.until_settled()


async def select(house: "House", source: Source = Source.EVENTS, **conditions: object) -> Selection:
    async with await house.layer.connect("support") as database:
        moment = await read_moment(database)
        (target,) = await read_targets(database, name="hook")
    return Selection(source, target.tenant, target.id, moment, moment.at, **conditions)  # type: ignore[arg-type]


async def replay(house: "House", selection: Selection, *, new_message_ids: bool = False) -> ReplayId:
    async with await house.layer.connect("support") as database:
        (started,) = await start(
            database, [Request(selection, "ada@example.com", "the partner lost it", new_message_ids)]
        )
    return started


def state(house: "House", of: ReplayId) -> str:
    return str(house.layer.value("select state from integration.replay where id = %s", (of,)))


async def test_a_replay_repeats_the_messages_under_their_ids_and_in_order(house: "House") -> None:
    await delivered(house, 50)
    started = await replay(house, await select(house))
    await house.until(lambda: state(house, started) == "Completed")
    async with await house.layer.connect("reader") as reader:
        counted = (await outcomes(reader, [started]))[started]

    assert [arrival.accepted for arrival in house.arrivals()] == [2] * 50
    assert all(arrival.same_body for arrival in house.arrivals())
    again = [arrival.received_at[1] for arrival in house.arrivals()]
    assert again == sorted(again)
    assert counted.delivered == 50


async def test_new_message_ids_on_request_are_equal_in_every_attempt_of_a_job(house: "House") -> None:
    await delivered(house, 1)
    house.simulator.change("/hook", script=[Status(kind="status", status=500, times=1)])
    await house.publish(retry={"initialDelay": "100ms", "maxDelay": "100ms"})
    started = await replay(house, await select(house), new_message_ids=True)
    await house.until(lambda: state(house, started) == "Completed")
    first, second = house.arrivals()

    assert second.message_id == f"{first.message_id}_r{started:x}"
    assert second.statuses == [500, 200]
    assert house.layer.rows("select replay_id, outcome from integration.attempt order by at") == [
        (None, "Delivered"),
        (started, "Transient"),
        (started, "Delivered"),
    ]


async def test_a_replay_survives_every_kill_of_every_program_and_repeats_no_job(house: "House") -> None:
    await delivered(house, 60)
    started = await replay(house, await select(house))
    kills = 0
    while state(house, started) == "Running":
        await house.kill("dispatcher")
        house.start_dispatcher()
        house.cut_connections()
        kills += 1
        jobs = house.layer.value("select queued from integration.replay")
        await house.until(
            lambda jobs=jobs: (
                state(house, started) != "Running"
                or house.layer.value("select queued from integration.replay") > jobs
                or house.layer.value("select read_to_end from integration.replay")
            )
        )
        if house.layer.value("select read_to_end from integration.replay"):
            break
    await house.until(lambda: state(house, started) == "Completed")

    assert kills >= 3
    assert house.layer.value("select queued from integration.replay") == 60
    assert house.layer.rows(
        "select count(*), count(distinct event_id), count(distinct job_id) from integration.attempt"
        " where replay_id is not null and outcome = 'Delivered'"
    ) == [(60, 60, 60)]


async def test_a_replay_survives_dispatchers_that_are_killed_as_processes(house: "House") -> None:
    await delivered(house, 120)
    await house.stop("dispatcher")
    await house.publish(throttle={"concurrency": 1, "requestsPerSecond": 50.0, "burst": 1})
    started = await replay(house, await select(house))
    command = [sys.executable, "-m", "integrations", "dispatcher"]
    environment = {**os.environ, "INTEGRATIONS_DATABASE_URL": house.layer.dsn("dispatcher")}
    queued = [0]
    while queued[-1] < 100:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
        try:
            await house.until(
                lambda: house.layer.value("select queued from integration.replay") > queued[-1] + UNFINISHED_AT_MOST
            )
        finally:
            process.kill()
            await process.wait()
        queued.append(house.layer.value("select queued from integration.replay"))
    house.start_dispatcher()
    await house.until(lambda: state(house, started) == "Completed")

    assert len(queued) > 2
    assert house.layer.rows(
        "select count(*), count(distinct event_id), count(distinct job_id) from integration.attempt"
        " where replay_id is not null and outcome = 'Delivered'"
    ) == [(120, 120, 120)]


async def test_a_live_event_waits_behind_no_more_than_a_few_replayed_ones(house: "House") -> None:
    await delivered(house, 3 * UNFINISHED_AT_MOST)
    await house.stop("worker")
    started = await replay(house, await select(house))
    await house.until(lambda: house.layer.value("select queued from integration.replay") == UNFINISHED_AT_MOST)
    house.layer.emit("live")
    await house.until(lambda: house.undispatched() == 0 and house.jobs() == UNFINISHED_AT_MOST + 1)
    house.start_worker()
    await house.until(lambda: state(house, started) == "Completed")
    ids = house.layer.rows("select replay_id is null, job_id from integration.attempt order by at")
    *_, live = [position for position, (is_live, _) in enumerate(ids) if is_live]

    assert 3 * UNFINISHED_AT_MOST <= live <= 3 * UNFINISHED_AT_MOST + UNFINISHED_AT_MOST


async def test_an_edited_event_is_sent_as_edited_under_an_id_of_its_own_and_stays_as_it_was(house: "House") -> None:
    await house.publish()
    house.simulator.change("/hook", script=[Status(kind="status", status=413, times=1)])
    house.start()
    house.layer.emit("subject", number=1)
    await house.until(lambda: house.layer.value("select count(*) from integration.dead_letter") == 1)
    event, route, letter = house.layer.rows("select event_id, route_id, job_id from integration.dead_letter")[0]
    selection = await select(house, Source.JOBS, events=(EventId(event),), routes=(route,), letters=(letter,))
    async with await house.layer.connect("support") as database:
        request = Request(selection, "ada@example.com", "too large", new_message_ids=True)
        started = await start_edited(database, request, {"number": 2}, [{"path": "/number", "from": 1, "to": 2}])
    await house.until(lambda: state(house, started) == "Completed")
    first, second = house.arrivals()

    assert (first.accepted, second.accepted) == (0, 1)
    assert first.digest != second.digest
    assert second.message_id == f"{first.message_id}_r{started:x}"
    assert house.layer.column("select data from integration.event") == [{"number": 1}]
    assert house.layer.value("select count(*) from integration.dead_letter") == 0
