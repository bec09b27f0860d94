"""What a resource asks for is started once, for its own tenant and namespace alone, and ends when it is cancelled."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from contracts.ids import EventId, ReplayUid, TenantId, public_event_id, public_job_id
from delivery.replay_starting import start_asked
from delivery.replay_steps import next_step
from delivery.replaying import pass_once
from store.errors import SupersededError
from store.leadership import Term, begin_term
from store.removal import remove
from store.replay_resources import (
    LOOKED_AT_ONCE,
    ReplayResource,
    ResourceProgress,
    ResourceState,
    cancel_resource,
    hand_on,
    read_progress,
    unfinished_resources,
)
from store.replay_selection import read_connection_routes
from store.replaying import forget, queue
from store.replays import UNFINISHED_AT_MOST, ReplayState, running_replays
from store.retention import Retention

if TYPE_CHECKING:
    from tests.integration.conftest import Layer
    from tests.integration.store.conftest import Past

pytestmark = pytest.mark.anyio

ALL = {"types": ["*"]}


def resource(selection: dict[str, Any] | None = None, *, tenant: str = "acme", **spec: Any) -> ReplayResource:
    wire = {"tenant": tenant, "reason": "they lost it", "selection": selection or ALL} | spec
    return ReplayResource(ReplayUid(uuid4()), TenantId(tenant), "acme", "again", wire)


async def ask(layer: "Layer", *resources: ReplayResource) -> None:
    async with await layer.connect("operator") as operator:
        for each in resources:
            await hand_on(operator, each)


async def progress(layer: "Layer", of: ReplayResource) -> ResourceProgress:
    async with await layer.connect("operator") as operator:
        found = await read_progress(operator, of.uid)
    assert found is not None
    return found


async def start(layer: "Layer", *resources: ReplayResource) -> None:
    """Hand resources on and have the dispatcher look."""
    await ask(layer, *resources)
    await start_asked(await layer.connect("dispatcher"))


def public_id(layer: "Layer", event: EventId) -> str:
    return public_event_id(event, layer.value("select nonce from integration.event where id = %s", (event,)))


# What it means --------------------------------------------------------------------------------------------------------


async def test_a_resource_is_replayed_and_its_progress_told_in_numbers(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = await past.happened(3)
    asked = resource(connection="hook", requestedBy="ada@example.com")
    await start(layer, asked)
    runner = await layer.connect("dispatcher")
    await pass_once(runner)
    queued, under_way = past.queued(), await progress(layer, asked)
    past.deliver()
    await pass_once(runner)
    ended = await progress(layer, asked)

    assert queued == emitted
    ((part,), (end,)) = under_way.parts, ended.parts
    assert (part.connection, part.state, part.queued, part.in_queue, part.delivered) == ("hook", "Running", 3, 3, 0)
    assert (end.state, end.queued, end.in_queue, end.delivered, end.dead) == ("Completed", 3, 0, 3, 0)
    assert layer.rows("select requested_by, reason from integration.replay") == [("ada@example.com", "they lost it")]


async def test_handed_on_again_it_is_the_same_one(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    asked = resource()
    await start(layer, asked, asked)
    await start(layer, asked)

    assert layer.column("select requested_by from integration.replay") == ["IntegrationReplay acme/again"]


async def test_of_two_dispatchers_that_look_at_once_one_starts_it(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    await ask(layer, resource())
    dispatchers = [await layer.connect("dispatcher") for _ in range(2)]
    await asyncio.gather(*map(start_asked, dispatchers))

    assert layer.value("select count(*) from integration.replay") == 1


async def test_a_whole_tenant_is_its_connections_in_the_namespace_of_the_resource(layer: "Layer", past: "Past") -> None:
    await layer.publish(name="one")
    await layer.publish(name="two")
    await layer.publish(name="elsewhere", namespace="acme-test")
    await layer.publish(layer.spec(tenant="globex"), name="theirs", pool="pool_b")
    await past.happened(2)
    await past.happened(2, tenant="globex")
    asked = resource()
    await start(layer, asked)

    assert [part.connection for part in (await progress(layer, asked)).parts] == ["one", "two"]


async def test_a_connection_of_another_namespace_or_tenant_is_none(layer: "Layer", past: "Past") -> None:
    await layer.publish(name="elsewhere", namespace="acme-test")
    await layer.publish(layer.spec(tenant="globex"), name="theirs", pool="pool_b")
    await past.happened(1)
    asked = [resource(connection=name) for name in ("elsewhere", "theirs")]
    await start(layer, *asked)
    found = [await progress(layer, each) for each in asked]

    assert [(each.state, each.parts) for each in found] == [(ResourceState.ASKED, ())] * 2
    assert found[0].detail == "tenant acme has no connection elsewhere in namespace acme that takes events"


async def test_ids_of_another_tenant_are_unknown(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await layer.publish(layer.spec(tenant="globex"), name="theirs", pool="pool_b")
    (event,) = await past.happened(1, tenant="globex")
    job = layer.value("select job_id from integration.attempt where event_id = %s", (event,))
    by_event = resource({"events": [public_id(layer, event)]})
    by_job = resource({"jobs": [public_job_id(event, job)]})
    theirs = resource({"jobs": [public_job_id(event, job)]}, tenant="globex")
    await start(layer, by_event, by_job, theirs)
    found = [await progress(layer, each) for each in (by_event, by_job, theirs)]

    assert [each.state for each in found] == [ResourceState.REFUSED, ResourceState.REFUSED, ResourceState.STARTED]
    assert found[0].detail == f"there is no event {public_id(layer, event)}, or it is no longer kept"
    assert found[1].detail.startswith("there is no job that was delivered or given up job_")


async def test_an_event_of_another_life_of_the_database_is_unknown(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    (event,) = await past.happened(1)
    nonce = layer.value("select nonce from integration.event where id = %s", (event,))
    asked = resource({"events": [public_event_id(event, nonce ^ 1)]})
    await start(layer, asked)

    assert (await progress(layer, asked)).state == ResourceState.REFUSED


async def test_jobs_and_dead_letters_are_replayed_by_id_and_by_cause(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    delivered = await past.happened(1)
    dead = [past.emit("c-8"), past.emit("c-9")]
    await past.dispatch()
    past.bury()
    job = layer.value("select job_id from integration.attempt")
    by_job = resource({"jobs": [public_job_id(delivered[0], job)]})
    letters = resource({"deadLetters": True, "cause": "Invalid"})
    none = resource({"deadLetters": True, "cause": "Expired"})
    await start(layer, by_job, letters, none)
    runner = await layer.connect("dispatcher")
    for _ in range(3):
        await pass_once(runner)

    assert sorted(past.queued()) == sorted([*delivered, *dead])
    assert layer.value("select count(*) from integration.dead_letter") == 0
    assert (await progress(layer, none)).parts[0].queued == 0


async def test_it_waits_for_its_connection(layer: "Layer", past: "Past") -> None:
    asked = resource(connection="hook")
    await start(layer, asked)
    before = await progress(layer, asked)
    await layer.publish()
    layer.rows("update integration.replay_resource set look_at = now()")
    await start_asked(await layer.connect("dispatcher"))

    assert (before.state, before.decided_at) == (ResourceState.ASKED, None)
    assert (await progress(layer, asked)).state == ResourceState.STARTED


async def test_those_that_wait_hold_up_no_other(layer: "Layer") -> None:
    await layer.publish()
    waiting, sound = [resource(connection="later") for _ in range(LOOKED_AT_ONCE)], resource()
    await ask(layer, *waiting, sound)
    for _ in range(2):
        await start_asked(await layer.connect("dispatcher"))

    assert (await progress(layer, sound)).state == ResourceState.STARTED


async def test_what_lies_in_the_future_is_refused(layer: "Layer") -> None:
    await layer.publish()
    since = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = resource({"since": since})
    await start(layer, asked)

    assert (await progress(layer, asked)).detail == "selection.since is in the future: nothing was emitted since then"


async def test_a_resource_that_cannot_be_read_stops_no_other(layer: "Layer") -> None:
    await layer.publish()
    broken, sound = resource(surprise=True), resource()
    await start(layer, broken, sound)
    found = [await progress(layer, each) for each in (broken, sound)]

    assert [each.state for each in found] == [ResourceState.REFUSED, ResourceState.STARTED]
    assert "spec.surprise: this field is unknown" in found[0].detail


# Dry runs -------------------------------------------------------------------------------------------------------------


async def test_a_dry_run_counts_what_the_replay_then_does_and_makes_nothing(layer: "Layer", past: "Past") -> None:
    await layer.publish(layer.spec(suspend=True))
    emitted = await past.happened(30)
    past.emit("c-7", event_type="ext.test.other")
    await past.dispatch()
    past.deliver()
    selection = {"types": ["ext.test.happened"]}
    dry, wet = resource(selection, dryRun=True), resource(selection)
    await start(layer, dry)
    for _ in range(3):
        # Whoever carries it on may die after each step.
        async with await layer.connect("dispatcher") as runner:
            await pass_once(runner)
    (counted,) = (await progress(layer, dry)).parts
    made = past.queued()
    await layer.publish(layer.spec())
    await start(layer, wet)
    runner = await layer.connect("dispatcher")
    while (await progress(layer, wet)).parts[0].state == ReplayState.RUNNING:
        await pass_once(runner)
        past.deliver()
    (done,) = (await progress(layer, wet)).parts

    assert made == []
    assert counted.state == ReplayState.COMPLETED
    assert (counted.queued, counted.superseded) == (done.queued, done.superseded) == (29, 1)
    assert counted.sample == [public_id(layer, event) for event in emitted[:5]]
    assert done.sample == []


async def test_a_dry_run_of_dead_letters_leaves_them(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    past.emit()
    await past.dispatch()
    past.bury()
    asked = resource({"deadLetters": True}, dryRun=True)
    await start(layer, asked)
    runner = await layer.connect("dispatcher")
    for _ in range(2):
        await pass_once(runner)
    (part,) = (await progress(layer, asked)).parts

    assert (part.state, part.queued, part.in_queue) == (ReplayState.COMPLETED, 1, 0)
    assert layer.value("select count(*) from integration.dead_letter") == 1


async def test_a_dry_run_cannot_be_carried_out_by_mistake(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    await start(layer, resource(dryRun=True))
    runner = await layer.connect("dispatcher")
    (replay,) = await running_replays(runner)
    routes = await read_connection_routes(runner, replay.request.selection.connection)
    step = await next_step(runner, replay.request.selection, routes, 0, limit=20)

    assert len(step.candidates) == 2
    assert await queue(runner, replay, step) is None
    assert past.queued() == []


async def test_a_dry_run_keeps_no_real_replay_from_going_on(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    emitted = await past.happened(2)
    await start(layer, resource(dryRun=True), resource())
    runner = await layer.connect("dispatcher")
    for _ in range(2):
        await pass_once(runner)

    assert past.queued() == emitted


# Its end --------------------------------------------------------------------------------------------------------------


async def test_cancelled_before_it_is_started_it_never_is(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    asked = resource()
    async with await layer.connect("operator") as operator:
        await hand_on(operator, asked, cancelled="spec.cancel is true")
    await start_asked(await layer.connect("dispatcher"))
    found = await progress(layer, asked)

    assert (found.state, found.detail, found.parts) == (ResourceState.CANCELLED, "spec.cancel is true", ())


async def test_a_cancellation_ends_the_replays_of_all_connections(layer: "Layer", past: "Past") -> None:
    await layer.publish(name="one")
    await layer.publish(name="two")
    await past.happened(UNFINISHED_AT_MOST + 5)
    asked = resource()
    await start(layer, asked)
    runner = await layer.connect("dispatcher")
    await pass_once(runner)
    async with await layer.connect("operator") as operator:
        before = await unfinished_resources(operator)
        for _ in range(2):
            await cancel_resource(operator, asked.uid, by="the operator", why="the object was deleted")
        after = await unfinished_resources(operator)
    past.deliver()
    await pass_once(runner)
    found = await progress(layer, asked)

    assert (before, after) == ([(asked.uid, "acme", "again")], [])
    assert [(part.state, part.detail) for part in found.parts] == [("Cancelled", "the object was deleted")] * 2
    assert [part.delivered for part in found.parts] == [UNFINISHED_AT_MOST] * 2
    assert layer.column("select distinct cancelled_by from integration.replay") == ["the operator"]


async def test_a_cancellation_in_the_middle_of_a_start_finds_what_was_started(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    asked = resource()
    await ask(layer, asked)
    dispatcher, operator = await layer.connect("dispatcher"), await layer.connect("operator")
    with layer.admin.transaction():
        layer.rows("lock table integration.replay in share mode")
        starting = asyncio.create_task(start_asked(dispatcher))
        while not layer.rows("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.01)
        cancelling = asyncio.create_task(cancel_resource(operator, asked.uid, by="operator", why="deleted"))
        while len(layer.rows("select 1 from pg_locks where not granted")) < 2:
            await asyncio.sleep(0.01)
    await asyncio.gather(starting, cancelling)

    assert [part.state for part in (await progress(layer, asked)).parts] == [ReplayState.CANCELLED]


async def test_a_start_that_dies_in_the_middle_has_not_begun(layer: "Layer", past: "Past") -> None:
    await layer.publish()
    await past.happened(2)
    asked = resource()
    await ask(layer, asked)
    dying = await layer.connect("dispatcher")
    with layer.admin.transaction():
        layer.rows("lock table integration.replay in share mode")
        task = asyncio.create_task(start_asked(dying))
        while not layer.rows("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.01)
        layer.rows("select pg_terminate_backend(%s)", (dying.info.backend_pid,))
        await asyncio.gather(task, return_exceptions=True)
    between = await progress(layer, asked)
    await start_asked(await layer.connect("dispatcher"))

    assert (between.state, between.parts) == (ResourceState.ASKED, ())
    assert len((await progress(layer, asked)).parts) == 1


async def test_a_connection_that_ends_fails_its_replay(layer: "Layer", past: "Past") -> None:
    published = await layer.publish()
    await past.happened(2)
    asked = resource()
    await start(layer, asked)
    async with await layer.connect("operator") as operator:
        await remove(operator, [published.uid], keep=False, reason="deleted")
    await pass_once(await layer.connect("dispatcher"))
    (part,) = (await progress(layer, asked)).parts

    assert (part.connection, part.state, part.lane) == ("hook", "Failed", None)
    assert part.detail == "the connection takes no events any more"


async def test_a_former_leader_hands_nothing_on_and_cancels_nothing(layer: "Layer") -> None:
    former, present = (Term(datetime(2026, 1, 1, tzinfo=UTC), number, f"operator-{number}") for number in (1, 2))
    asked, late = resource(), resource()
    async with await layer.connect("operator") as operator:
        await begin_term(operator, present)
        await hand_on(operator, asked, term=present)
        with pytest.raises(SupersededError):
            await hand_on(operator, late, term=former)
        with pytest.raises(SupersededError):
            await cancel_resource(operator, asked.uid, by="operator-1", why="deleted", term=former)

    assert layer.rows("select uid, state from integration.replay_resource") == [(asked.uid, "Asked")]


async def test_what_ended_is_forgotten_with_its_retention_and_what_goes_on_is_kept(
    layer: "Layer", past: "Past"
) -> None:
    await layer.publish()
    await past.happened(1)
    dry, refused, running = resource(dryRun=True), resource({"events": ["evt_7f_00000000"]}), resource()
    await start(layer, dry, refused)
    runner = await layer.connect("dispatcher")
    for _ in range(2):
        await pass_once(runner)
    await start(layer, running)
    layer.rows("update integration.replay_resource set decided_at = now() - interval '91 days'")
    layer.rows("update integration.replay set ended_at = now() - interval '91 days' where ended_at is not null")
    await forget(runner, Retention(90))

    assert layer.column("select uid from integration.replay_resource") == [running.uid]
    assert layer.column("select resource_uid from integration.replay") == [running.uid]


async def test_what_was_never_handed_on_has_no_progress(layer: "Layer") -> None:
    async with await layer.connect("operator") as operator:
        assert await read_progress(operator, ReplayUid(UUID(int=1))) is None
