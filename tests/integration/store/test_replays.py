"""A replay makes one job for each event and route it selects, whatever happens to who carries it out."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from psycopg import OperationalError

from contracts.ids import EventId
from contracts.patterns import compile_patterns
from delivery.replay_steps import next_step
from delivery.replaying import pass_once
from delivery.surveying import survey
from store.dispatch import read_batch, read_cursor
from store.errors import DatabaseUnreachableError
from store.removal import remove
from store.replay_selection import Source, Verdict, read_connection_routes
from store.replaying import elect, queue
from store.replays import UNFINISHED_AT_MOST, ReplayState, cancel, outcomes

if TYPE_CHECKING:
    from tests.integration.conftest import Layer
    from tests.integration.store.conftest import Past

pytestmark = pytest.mark.anyio

UNORDERED = {"name": "all", "events": ["*"], "ordering": "Unordered"}


def everything(layer: "Layer") -> dict[str, int]:
    """Count how often rows were written, table by table."""
    tables = ("job", "dead_letter", "dead_letter_end", "replay", "replay_edit", "dispatch_cursor", "lane")
    return {table: hash(str(layer.rows(f"select xmin, t.* from integration.{table} t"))) for table in tables}


# What is selected -----------------------------------------------------------------------------------------------------


async def test_a_replay_sends_what_was_delivered_once_more_and_in_order(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = await past.happened(50)
    replay = await past.start(await past.select())
    runner = await layer.connect("dispatcher")
    sent: list[int] = []
    while (replay := await past.read(replay.id)).state == ReplayState.RUNNING:
        await pass_once(runner)
        sent += past.queued()
        past.deliver()

    assert sent == emitted
    assert replay.state == ReplayState.COMPLETED
    assert (replay.progress.queued, replay.progress.superseded, replay.progress.gone) == (50, 0, 0)


async def test_a_dry_run_counts_what_the_replay_then_does_and_writes_nothing(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(30)
    past.emit("c-7", event_type="ext.test.other")
    await past.dispatch()
    past.deliver()
    before = everything(layer)
    selection = await past.select(types=("ext.test.happened",))
    async with await layer.connect("reader") as reader:
        found = await survey(reader, selection)
    after = everything(layer)
    replay = await past.run(await layer.connect("dispatcher"), await past.start(selection))

    assert after == before
    assert (found.counts[Verdict.QUEUED], found.counts[Verdict.SUPERSEDED]) == (29, 1)
    assert len(found.sample) == 5
    assert (replay.progress.queued, replay.progress.superseded) == (29, 1)


async def test_type_time_and_ids_select_together(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    first = await past.happened(3, event_type="ext.test.happened")
    second = await past.happened(3, event_type="ext.other.happened")
    middle = layer.value("select at from integration.event where id = %s", (second[1],))
    selection = await past.select(
        types=("ext.other.*",), since=middle, events=(*first, *second), include_superseded=True
    )
    async with await layer.connect("reader") as reader:
        found = await survey(reader, selection)

    assert [candidate.event for candidate in found.sample] == second[1:]


def test_patterns_select_the_same_types_in_sql_as_elsewhere(layer: "Layer") -> None:
    patterns = ["*", "company.*", "company.updated", "company.up.*"]
    types = ["company.updated", "company.up.dated", "company.up", "companyx.updated", "signal.published"]
    query = "select integration.selects(array[%s], %s)"
    in_sql = {(pattern, name): layer.value(query, (pattern, name)) for pattern in patterns for name in types}

    assert in_sql == {(pattern, name): compile_patterns([pattern])(name) for pattern in patterns for name in types}


async def test_another_tenant_s_events_are_never_selected(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await layer.publish(layer.spec(tenant="globex"), namespace="globex", name="theirs", pool="pool_b")
    mine = await past.happened(2)
    theirs = await past.happened(2, tenant="globex")
    async with await layer.connect("reader") as reader:
        found = await survey(reader, await past.select(events=(*mine, *theirs)))

    assert [candidate.event for candidate in found.sample] == mine


async def test_an_event_that_was_not_dispatched_when_it_was_asked_for_is_left_to_the_dispatcher(
    layer: "Layer", past: "Past"
) -> None:
    await layer.publish()
    delivered = await past.happened(2)
    past.emit("late")
    replay = await past.start(await past.select())
    await past.dispatch()
    past.deliver()
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == delivered
    assert (await past.read(replay.id)).progress.read_to_end


async def test_an_event_whose_job_is_still_queued_gets_no_second_one(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(1)
    waiting = past.emit("waiting")
    await past.dispatch()
    replay = await past.start(await past.select())
    await pass_once(await layer.connect("dispatcher"))

    assert list(past.queued()).count(waiting) == 1
    assert (await past.read(replay.id)).progress.unfinished == 1


async def test_filters_decide_as_they_do_for_new_events(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(3)
    route = {"name": "all", "events": ["*"], "filter": "event.subject == 'c-1'"}
    await layer.publish(layer.spec(routes=[route]))
    async with await layer.connect("reader") as reader:
        found = await survey(reader, await past.select())

    assert found.queued == 1


# Order and what is stale ----------------------------------------------------------------------------------------------


async def test_a_replayed_event_goes_behind_all_that_is_queued_of_its_subject(layer: "Layer", past: "Past") -> None:
    await layer.publish(layer.spec(routes=[UNORDERED]))
    (old,) = await past.happened(1)
    newer = past.emit("c-0")
    await past.dispatch()
    await past.start(await past.select(events=(old,)))
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == [newer, old]


async def test_an_event_that_a_newer_one_of_its_subject_has_overtaken_is_passed_over(
    layer: "Layer", past: "Past"
) -> None:
    await layer.publish()
    old = await past.happened(2)
    newer = past.emit("c-1")
    await past.dispatch()
    past.deliver()
    selection = await past.select(events=tuple(old))
    replay = await past.start(selection)
    await pass_once(await layer.connect("dispatcher"))

    assert newer not in past.queued()
    assert past.queued() == old[:1]
    assert (await past.read(replay.id)).progress.superseded == 1


async def test_what_is_superseded_is_sent_where_somebody_says_so(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    old = await past.happened(1)
    await past.happened(1)
    await past.start(await past.select(events=tuple(old), include_superseded=True))
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == old


async def test_newer_events_of_the_same_selection_follow_in_order_and_supersede_nothing(
    layer: "Layer", past: "Past"
) -> None:
    await layer.publish()
    emitted = [*await past.happened(2), *await past.happened(2)]
    await past.start(await past.select())
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == emitted


async def test_a_newer_event_that_the_route_does_not_select_or_that_died_supersedes_nothing(
    layer: "Layer", past: "Past"
) -> None:
    await layer.publish(layer.spec(routes=[{"name": "all", "events": ["ext.test.*"]}]))
    old = await past.happened(1)
    await past.happened(1, event_type="ext.other.happened")
    past.emit("c-0")
    await past.dispatch()
    past.bury()
    await past.start(await past.select(events=tuple(old)))
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == old


async def test_a_newer_event_that_comes_while_the_replay_runs_supersedes_what_is_left(
    layer: "Layer", past: "Past"
) -> None:
    await layer.publish()
    emitted = await past.happened(UNFINISHED_AT_MOST + 2)
    replay = await past.start(await past.select())
    runner = await layer.connect("dispatcher")
    await pass_once(runner)
    past.deliver()
    past.emit(f"c-{UNFINISHED_AT_MOST}")
    await past.dispatch()
    await pass_once(runner)

    assert emitted[UNFINISHED_AT_MOST] not in past.queued()
    assert emitted[UNFINISHED_AT_MOST + 1] in past.queued()
    assert (await past.read(replay.id)).progress.superseded == 1


# Below live traffic ---------------------------------------------------------------------------------------------------


async def test_no_more_than_a_few_jobs_of_replays_are_unfinished_at_once(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(100)
    for _ in range(2):
        await past.start(await past.select())
    runner = await layer.connect("dispatcher")
    for _ in range(5):
        await pass_once(runner)

    assert len(past.queued()) == UNFINISHED_AT_MOST


async def test_two_replays_of_a_connection_take_turns(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = await past.happened(100)
    await past.start(await past.select())
    urgent = await past.start(await past.select(events=(emitted[90],)))
    runner = await layer.connect("dispatcher")
    for _ in range(3):
        await pass_once(runner)
        past.deliver()

    assert (await past.read(urgent.id)).state == ReplayState.COMPLETED


@pytest.mark.parametrize(
    "obstacle", ["suspended = true", "state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'Gone'"]
)
async def test_it_waits_while_its_connection_stands_still_and_goes_on_afterwards(
    layer: "Layer", past: "Past", obstacle: str
) -> None:
    await layer.publish()
    await past.happened(3)
    replay = await past.start(await past.select())
    runner = await layer.connect("dispatcher")
    layer.rows(f"update integration.lane set {obstacle}")
    await pass_once(runner)
    waiting = list(past.queued())
    layer.rows(
        "update integration.lane set suspended = false, state = 'Open', quarantined_at = null, quarantine_reason = null"
    )

    assert waiting == []
    assert (await past.run(runner, replay)).progress.queued == 3


async def test_it_fails_when_its_connection_is_gone(layer: "Layer", past: "Past") -> None:
    published = await layer.publish()
    await past.happened(3)
    replay = await past.start(await past.select())
    async with await layer.connect("operator") as operator:
        await remove(operator, [published.uid], keep=True, reason="deleted")
    await pass_once(await layer.connect("dispatcher"))
    replay = await past.read(replay.id)

    assert (replay.state, replay.detail) == (ReplayState.FAILED, "the connection takes no events any more")
    assert past.queued() == []


async def test_a_replay_that_cannot_be_written_fails_alone(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await layer.publish(name="other")
    await past.happened(1)
    replays = [await past.start(await past.select(connection=name)) for name in ("hook", "other")]
    poisoned = replays[0].request.selection.connection
    layer.rows(f"alter table integration.job add check (connection_id <> {poisoned} or replay_id is null)")
    await pass_once(await layer.connect("dispatcher"))
    states = [(await past.read(replay.id)).state for replay in replays]

    assert states == [ReplayState.FAILED, ReplayState.RUNNING]
    assert len(past.queued()) == 1


# Whatever dies --------------------------------------------------------------------------------------------------------


async def test_a_runner_that_dies_before_its_commit_has_done_nothing_and_the_next_one_does_it(
    layer: "Layer", past: "Past"
) -> None:
    await layer.publish()
    emitted = await past.happened(10)
    replay = await past.start(await past.select())
    dying = await layer.connect("dispatcher")
    # The lock keeps the runner's transaction in the middle, where it is killed.
    with layer.admin.transaction():
        layer.rows("lock table integration.job in share mode")
        task = asyncio.create_task(pass_once(dying))
        while not layer.rows("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.01)
        layer.rows("select pg_terminate_backend(%s)", (dying.info.backend_pid,))
        with pytest.raises((DatabaseUnreachableError, OperationalError)):
            await task
    between = await past.read(replay.id)
    await pass_once(await layer.connect("dispatcher"))

    assert (between.progress.queued, between.progress.cursor) == (0, 0)
    assert past.queued() == emitted


async def test_after_a_death_at_any_step_each_event_has_had_one_job(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = await past.happened(3 * UNFINISHED_AT_MOST)
    replay = await past.start(await past.select())
    sent: list[int] = []
    while replay.state == ReplayState.RUNNING:
        async with await layer.connect("dispatcher") as runner:
            await pass_once(runner)
        sent += past.queued()
        past.deliver()
        replay = await past.read(replay.id)

    assert sent == emitted


async def test_of_two_runners_that_read_the_same_part_one_writes_it(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = await past.happened(5)
    replay = await past.start(await past.select())
    runners = [await layer.connect("dispatcher") for _ in range(2)]
    selection = replay.request.selection
    routes = await read_connection_routes(runners[0], selection.connection)
    steps = [await next_step(runner, selection, routes, 0, limit=20) for runner in runners]
    queued = await asyncio.gather(*(queue(runner, replay, step) for runner, step in zip(runners, steps, strict=True)))

    assert sorted(queued, key=str) == [5, None]
    assert past.queued() == emitted


async def test_one_runner_is_elected_until_its_connection_ends(layer: "Layer") -> None:
    first, second = [await layer.connect("dispatcher") for _ in range(2)]
    answers = [await elect(first), await elect(second)]
    await first.close()

    assert answers == [True, False]
    while not await elect(second):
        await asyncio.sleep(0.01)


async def test_a_cancelled_replay_makes_no_more_jobs_and_what_it_queued_stays(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(UNFINISHED_AT_MOST + 5)
    replay = await past.start(await past.select())
    runner = await layer.connect("dispatcher")
    await pass_once(runner)
    async with await layer.connect("support") as support:
        stopped = await cancel(support, replay.id, by="ada@example.com", why="wrong range")
        again = await cancel(support, replay.id, by="ada@example.com", why="wrong range")
    step = await next_step(
        runner,
        replay.request.selection,
        await read_connection_routes(runner, replay.request.selection.connection),
        0,
        limit=20,
    )
    late = await queue(runner, replay, step)
    await pass_once(runner)
    replay = await past.read(replay.id)

    assert (stopped, again, late) == (True, False, None)
    assert (replay.state, replay.cancelled_by, replay.detail) == ("Cancelled", "ada@example.com", "wrong range")
    assert len(past.queued()) == UNFINISHED_AT_MOST


async def test_job_ids_stay_in_commit_order_with_a_dispatcher_at_work(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    await past.start(await past.select())
    runner, dispatcher = await layer.connect("dispatcher"), await layer.connect("dispatcher")
    past.emit("new")
    cursor = await read_cursor(dispatcher)
    assert await read_batch(dispatcher, cursor, limit=10, with_data=False) is not None
    with layer.admin.transaction():
        layer.rows("select from integration.dispatch_cursor for update")
        drawn = layer.value("select last_value from integration.job_id")
        task = asyncio.create_task(pass_once(runner))
        while not layer.rows("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.01)
        still = layer.value("select last_value from integration.job_id")
    await task

    assert still == drawn
    assert len(past.queued()) == 2


# What comes of it -----------------------------------------------------------------------------------------------------


async def test_attempts_and_dead_letters_of_its_jobs_belong_to_it(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    replay = await past.start(await past.select())
    runner = await layer.connect("dispatcher")
    await pass_once(runner)
    layer.rows("update integration.job set run_at = now(), state = 1 where id = (select min(id) from integration.job)")
    past.bury()
    await pass_once(runner)
    async with await layer.connect("reader") as reader:
        counted = (await outcomes(reader, [replay.id]))[replay.id]
    replay = await past.read(replay.id)

    assert (counted.delivered, counted.dead) == (0, 2)
    assert replay.state == ReplayState.COMPLETED


async def test_a_resent_dead_letter_goes_in_the_transaction_that_makes_its_job(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = [past.emit("c-1"), past.emit("c-2")]
    await past.dispatch()
    past.bury()
    await past.start(await past.select(Source.DEAD_LETTERS))
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == emitted
    assert layer.column("select job_id from integration.dead_letter") == []
    assert layer.rows("select distinct action, ended_by, reason, cause from integration.dead_letter_end") == [
        ("Resent", "ada@example.com", "the partner lost it", "Invalid")
    ]


async def test_what_dies_again_is_not_taken_up_by_the_same_replay(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    past.emit()
    await past.dispatch()
    past.bury()
    replay = await past.start(await past.select(Source.DEAD_LETTERS))
    runner = await layer.connect("dispatcher")
    for _ in range(3):
        await pass_once(runner)
        past.bury()
    replay = await past.read(replay.id)

    assert (replay.state, replay.progress.queued) == (ReplayState.COMPLETED, 1)


async def test_dead_letters_of_one_subject_are_all_resent_in_order(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = [past.emit("c-1"), past.emit("c-1")]
    await past.dispatch()
    past.bury()
    await past.start(await past.select(Source.DEAD_LETTERS, cause="Invalid"))
    await pass_once(await layer.connect("dispatcher"))

    assert past.queued() == emitted


async def test_an_event_that_is_no_longer_kept_is_counted(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    past.emit()
    await past.dispatch()
    past.bury()
    letter, route = layer.rows("select job_id, route_id from integration.dead_letter")[0]
    replay = await past.start(
        await past.select(Source.JOBS, events=(EventId(999_999),), routes=(route,), letters=(letter,))
    )
    await pass_once(await layer.connect("dispatcher"))

    assert (await past.read(replay.id)).progress.gone == 1


async def test_nothing_is_selected_of_times_that_have_no_events(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(3)
    selection = await past.select()
    early = await past.select(since=selection.until - timedelta(days=3), until=selection.until - timedelta(days=2))
    async with await layer.connect("reader") as reader:
        found = await survey(reader, early)

    assert found.queued == 0
