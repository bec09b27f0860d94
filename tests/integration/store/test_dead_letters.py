"""Dead letters are found by cause, end once by resending or discarding, and who did it stays known."""

from typing import TYPE_CHECKING

import pytest

from contracts.ids import JobId
from delivery.replaying import pass_once
from delivery.surveying import survey
from store.dead_letters import LetterFilter, count_letters, discard, ended_letters, list_letters
from store.replay_requests import find_ended_jobs
from store.replay_selection import Source
from store.replaying import forget
from store.replays import read_replay
from store.retention import Retention

if TYPE_CHECKING:
    from tests.integration.conftest import Layer
    from tests.integration.store.conftest import Past

pytestmark = pytest.mark.anyio


async def died(layer: "Layer", past: "Past", number: int, **how: str) -> list[JobId]:
    """Have events of as many subjects given up; return their jobs."""
    for each in range(number):
        past.emit(f"c-{each}")
    await past.dispatch()
    jobs = layer.column("select id from integration.job order by id")
    past.bury(**how)
    return jobs


async def test_they_are_counted_by_cause_the_most_frequent_first(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await died(layer, past, 1, cause="NotFound", detail="HTTP 404")
    await died(layer, past, 3)
    async with await layer.connect("reader") as reader:
        causes = await count_letters(reader, LetterFilter(namespace="acme", name="hook"), limit=10)
        found = await list_letters(reader, LetterFilter(cause="NotFound"), limit=10)

    assert [(cause.cause, cause.detail, cause.number) for cause in causes] == [
        ("Invalid", "HTTP 400", 3),
        ("NotFound", "HTTP 404", 1),
    ]
    assert [(letter.cause, letter.subject) for letter in found] == [("NotFound", "c-0")]


async def test_a_discarded_one_is_gone_and_who_did_it_and_why_is_known(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    first, second = await died(layer, past, 2)
    async with await layer.connect("support") as support:
        gone = await discard(support, [first], by="ada@example.com", why="a test")
        again = await discard(support, [first], by="bob@example.com", why="a test")
        left = await list_letters(support, LetterFilter(), limit=10)
        event = layer.value("select event_id from integration.dead_letter_end")
        ended = await ended_letters(support, event)

    assert (gone, again) == ([first], [])
    assert [letter.job for letter in left] == [second]
    assert [(end.job, end.action, end.ended_by, end.reason) for end in ended] == [
        (first, "Discarded", "ada@example.com", "a test")
    ]


async def test_one_that_is_discarded_before_its_turn_is_not_resent(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    (letter,) = await died(layer, past, 1)
    event, route = layer.rows("select event_id, route_id from integration.dead_letter")[0]
    replay = await past.start(await past.select(Source.JOBS, events=(event,), routes=(route,), letters=(letter,)))
    async with await layer.connect("support") as support:
        await discard(support, [letter], by="ada@example.com", why="a test")
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == []
    assert (await past.read(replay.id)).progress.gone == 1


async def test_a_superseded_one_stays_a_dead_letter(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    (letter,) = await died(layer, past, 1)
    await past.happened(1)
    await past.start(await past.select(Source.DEAD_LETTERS))
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == []
    assert layer.column("select job_id from integration.dead_letter") == [letter]


async def test_ended_jobs_are_found_by_id_delivered_ones_and_dead_letters(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    delivered = await past.happened(1)
    (letter,) = await died(layer, past, 1)
    done = layer.value("select job_id from integration.attempt")
    dead = layer.value("select event_id from integration.dead_letter")
    async with await layer.connect("reader") as reader:
        found = await find_ended_jobs(reader, [(dead, letter), (delivered[0], done), (dead, done)])

    assert [(job.event, job.id, job.letter) for job in found] == [(delivered[0], done, None), (dead, letter, letter)]


async def test_a_delivered_job_is_sent_again_along_its_route(layer: "Layer", past: "Past") -> None:
    await layer.publish(layer.spec(routes=[{"name": "one", "events": ["*"]}, {"name": "two", "events": ["*"]}]))
    delivered = await past.happened(1)
    route = layer.value("select max(route_id) from integration.attempt")
    selection = await past.select(Source.JOBS, events=(delivered[0],), routes=(route,), letters=(None,))
    async with await layer.connect("reader") as reader:
        found = await survey(reader, selection)
    await past.start(selection)
    await pass_once(await layer.connect("dispatcher"))

    assert found.queued == 1
    assert layer.column("select route_id from integration.job") == [route]


async def test_records_outlive_their_retention_no_longer(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await died(layer, past, 1)
    runner = await layer.connect("dispatcher")
    old = await past.run(runner, await past.start(await past.select(Source.DEAD_LETTERS)))
    await past.happened(1)
    young = await past.run(runner, await past.start(await past.select()))
    layer.rows("update integration.replay set ended_at = now() - interval '100 days' where id = %s", (old.id,))
    layer.rows("update integration.dead_letter_end set ended_at = now() - interval '100 days'")
    await forget(runner, Retention(90))
    async with await layer.connect("reader") as reader:
        kept = [await read_replay(reader, replay.id) is not None for replay in (old, young)]

    assert kept == [False, True]
    assert layer.value("select count(*) from integration.dead_letter_end") == 0
