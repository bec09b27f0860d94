"""People find every job in some list, and every event with all that came of it."""

from typing import TYPE_CHECKING

import psycopg
import pytest

from contracts.ids import EventId, parse_event_id
from delivery.routing import RoutingTable
from store.dispatch import read_batch, read_cursor, read_routes, write_jobs
from store.history import event_life, list_jobs

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio


async def dispatch(layer: "Layer", limit: int = 1000) -> None:
    """Dispatch one batch."""
    async with await layer.connect("dispatcher") as database:
        cursor = await read_cursor(database)
        batch = await read_batch(database, cursor, limit=limit, with_data=False)
        assert batch is not None
        _, jobs, failures = RoutingTable(*await read_routes(database)).route(batch.events, 1000)
        assert await write_jobs(database, cursor, batch.next_cursor(cursor), jobs, failures)


async def test_jobs_are_listed_with_the_state_a_person_would_name(layer: "Layer") -> None:
    for name in ("open", "quarantined", "suspended"):
        await layer.publish(layer.spec(suspend=name == "suspended"), name=name)
    layer.admin.execute(
        "update integration.lane set state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'Gone: bye'"
        " where connection_id = %s",
        (layer.published["acme/quarantined"].id,),
    )
    for _ in range(3):
        layer.emit()
    await dispatch(layer)
    open_ = layer.column(
        "select id from integration.job where connection_id = %s order by id", (layer.published["acme/open"].id,)
    )
    layer.admin.execute("update integration.job set state = 1, run_at = now(), attempts = 2 where id = %s", (open_[0],))
    layer.admin.execute("update integration.job set state = 2 where id = %s", (open_[1],))
    async with await layer.connect("reader") as reader:
        listed = [
            await list_jobs(reader, tenant="acme", connection=name, dead=False, limit=10)
            for name in ("open", "quarantined", "suspended")
        ]
        others = await list_jobs(reader, tenant="globex", connection=None, dead=False, limit=10)

    assert [(job.state, job.attempts) for job in listed[0]] == [("Deferred", 2), ("Held", 0), ("Ready", 0)]
    assert {(job.state, job.reason) for job in listed[1]} == {("Quarantined", "Gone: bye")}
    assert {job.state for job in listed[2]} == {"Suspended"}
    assert others == []


async def test_an_event_s_life_has_its_attempts_in_order_and_what_is_left_of_it(layer: "Layer") -> None:
    await layer.publish(name="one")
    await layer.publish(name="two")
    public_id = layer.emit(number=1)
    await dispatch(layer)
    event = parse_event_id(public_id)
    layer.admin.execute(
        "with dead as (delete from integration.job where connection_id = %s returning *)"
        " insert into integration.dead_letter select id, 'acme', connection_id, route_id, event_id, event_at, subject,"
        " 1, 'Invalid', 'too large', now() from dead",
        (layer.published["acme/two"].id,),
    )
    for number in (2, 1):
        layer.admin.execute(
            "insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number,"
            " outcome, status_code, duration_ms, worker)"
            " select now() + %s * interval '1 s', event_id, id, 'acme', connection_id, route_id, %s, 'Transient',"
            " 503, 1, 1"
            " from integration.job",
            (number, number),
        )
    async with await layer.connect("reader") as reader:
        life = await event_life(reader, event)
        nothing = await event_life(reader, EventId(event + 1))

    assert nothing is None
    assert life is not None
    assert (life.tenant, life.type, life.data, life.dispatched) == ("acme", "ext.test.happened", '{"number": 1}', True)
    assert [(a.number, a.outcome, a.connection, a.route) for a in life.attempts] == [
        (1, "Transient", "one", "all"),
        (2, "Transient", "one", "all"),
    ]
    assert [(job.connection, job.state) for job in life.unfinished] == [("one", "Ready"), ("two", "Dead")]
    assert life.unfinished[1].reason == "Invalid: too large"


async def test_an_event_is_called_dispatched_when_it_is(layer: "Layer") -> None:
    await layer.publish()
    with psycopg.connect(layer.dsn("producer")) as producer:
        late = producer.execute("select integration.emit_event('acme', 'ext.a.b', 'late', '{}')").fetchone()
        ids = [layer.emit(str(number)) for number in range(3)]
        await dispatch(layer, limit=2)
        producer.commit()
    assert late is not None
    async with await layer.connect("reader") as reader:
        lives = [await event_life(reader, parse_event_id(public_id)) for public_id in (late[0], *ids)]

    assert [life and life.dispatched for life in lives] == [False, True, True, False]
