"""A connection ends for good without leaving a job behind, whatever dispatchers and workers are doing meanwhile."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from contracts.ids import EventId
from store import removal
from store.database import transaction
from store.dispatch import NewJob, read_batch, read_cursor, read_routes, write_jobs
from store.history import list_jobs
from store.lanes import acquire_lanes, open_session
from store.publication import connection_states, retire
from store.removal import remove, undelivered
from store.settlement import DeadLetter, Settlement, settle

if TYPE_CHECKING:
    from tests.integration.conftest import Layer, Published

pytestmark = pytest.mark.anyio


def add_jobs(layer: "Layer", published: "Published", number: int, state: int = 0) -> None:
    event = layer.emit(f"subject-{state}")
    layer.admin.execute(
        "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject, state, run_at)"
        " select %s, nextval('integration.job_id'), %s, r.id, e.id, e.at, n, %s::int,"
        " case when %s::int = 1 then now() + interval '1 hour' end"
        " from generate_series(1, %s) n, integration.route r, integration.event e"
        " where r.connection_id = %s and 'evt_' || to_hex(e.id) || '_' || lpad(to_hex(e.nonce), 8, '0') = %s",
        (published.pool, published.id, state, state, number, published.id, event),
    )


async def test_undelivered_jobs_are_counted_in_every_state_and_no_further_than_told(layer: "Layer") -> None:
    few, many, none = [await layer.publish(name=name) for name in ("few", "many", "none")]
    for state in (0, 1, 2):
        add_jobs(layer, few, state + 1, state)
    add_jobs(layer, many, 1_200)
    async with await layer.connect("operator") as operator:
        counted = await undelivered(operator, [few.uid, many.uid, none.uid])

    assert counted == {few.uid: 6, many.uid: 1_000, none.uid: 0}


@pytest.mark.parametrize("keep", [True, False])
async def test_an_ended_connection_leaves_no_job_and_its_name_is_free(
    layer: "Layer", keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "JOBS_AT_ONCE", 2)
    former, other = [await layer.publish(name=name) for name in ("hook", "other")]
    for state in (0, 1, 2):
        add_jobs(layer, former, 3, state)
    add_jobs(layer, other, 1)
    async with await layer.connect("operator") as operator:
        ended = await remove(operator, [former.uid], keep=keep, reason="deleted by a person")
        again = await remove(operator, [former.uid], keep=keep, reason="")
        states = await connection_states(operator)
    layer.published.clear()
    latter = await layer.publish()

    assert (ended, again) == ({former.uid: 9}, {former.uid: 0})
    assert [state.name for state in states] == ["other"]
    assert layer.column("select connection_id from integration.job") == [other.id]
    assert layer.rows("select reason, detail, count(*) from integration.dead_letter group by 1, 2") == (
        [("ConnectionDeleted", "deleted by a person", 9)] if keep else []
    )
    assert latter.id != former.id
    (name, ended_then) = layer.rows(
        "select name, deleted_at is not null from integration.connection where id = %s", (former.id,)
    )[0]
    assert (name, ended_then) == (f"hook~{former.id}", True)


async def test_dead_letters_of_an_ended_connection_still_tell_whose_they_were(layer: "Layer") -> None:
    published = await layer.publish()
    add_jobs(layer, published, 1)
    async with await layer.connect("operator") as operator:
        await remove(operator, [published.uid], keep=True, reason="gone")
    async with await layer.connect("reader") as reader:
        (letter,) = await list_jobs(reader, tenant="acme", connection=None, dead=True, limit=10)

    assert (letter.connection, letter.route, letter.reason) == (
        f"hook~{published.id}",
        "all",
        "ConnectionDeleted: gone",
    )


async def test_a_pool_loses_a_tenant_with_its_last_connection(layer: "Layer") -> None:
    one, two = [await layer.publish(name=name) for name in ("one", "two")]
    granted = []
    async with await layer.connect("operator") as operator:
        for published in (one, two):
            await remove(operator, [published.uid], keep=False, reason="")
            granted.append(layer.rows("select role, tenant_id from integration.tenant_role"))

    assert granted == [[("pool_a", "acme")], []]


async def test_a_batch_routed_before_a_connection_ended_makes_no_job_for_it(layer: "Layer") -> None:
    published = await layer.publish()
    layer.emit()
    async with await layer.connect("dispatcher") as dispatcher, await layer.connect("operator") as operator:
        cursor = await read_cursor(dispatcher)
        batch = await read_batch(dispatcher, cursor, limit=10, with_data=False)
        _, routes = await read_routes(dispatcher)
        assert batch is not None
        await remove(operator, [published.uid], keep=True, reason="")
        event = batch.events[0]
        job = NewJob(published.pool, published.id, routes[0].id, EventId(event.id), event.at, event.subject_hash)
        written = await write_jobs(dispatcher, cursor, batch.next_cursor(cursor), [job], [])

    assert not written
    assert layer.value("select count(*) from integration.job") == 0


async def test_a_job_that_its_worker_changes_meanwhile_is_ended_once(layer: "Layer") -> None:
    published = await layer.publish()
    add_jobs(layer, published, 2)
    async with await layer.connect("pool_a") as worker, await layer.connect("operator") as operator:
        session = await open_session(worker, published.pool, "worker", timedelta(minutes=1))
        await acquire_lanes(worker, published.pool, session, limit=1)
        (first, _) = layer.column("select id from integration.job order by id")
        async with transaction(worker):
            # The worker ends one job itself and has not committed yet when the connection ends.
            letter = DeadLetter(first, 0, 1, "Invalid", "")
            await settle(worker, published.pool, session, Settlement(dead=[letter]))
            removing = asyncio.create_task(remove(operator, [published.uid], keep=True, reason=""))
            async with asyncio.timeout(30):
                while not layer.value("select exists (select from pg_locks where not granted)"):
                    await asyncio.sleep(0.01)
        ended = await removing

    assert ended == {published.uid: 1}
    assert layer.column("select reason from integration.dead_letter order by job_id") == [
        "Invalid",
        "ConnectionDeleted",
    ]


async def test_an_ended_connection_that_was_retired_is_ended_as_well(layer: "Layer") -> None:
    published = await layer.publish()
    async with await layer.connect("operator") as operator:
        await retire(operator, [published.uid])
        await remove(operator, [published.uid], keep=False, reason="")

    assert layer.value("select count(*) from integration.lane") == 0
