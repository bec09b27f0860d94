"""Every committed event becomes its jobs exactly once, whatever producers, dispatchers and the cluster go through."""

from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from contracts.ids import EventId
from delivery.routing import RoutingTable
from store.database import Database
from store.dispatch import (
    Batch,
    Cursor,
    NewJob,
    RoutingFailure,
    read_batch,
    read_cursor,
    read_epoch,
    read_routes,
    set_asleep,
    write_jobs,
)
from store.errors import RestoredDatabaseError
from store.migrate import migrate

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

EMIT = "select integration.emit_event('acme', 'ext.test.happened', %s, '{}')"


class Stepping:
    """A dispatcher that goes one step at a time and can be left anywhere."""

    def __init__(self, database: Database, routing: RoutingTable, limit: int, jobs_at_once: int) -> None:
        self.database = database
        self.routing = routing
        self.limit = limit
        self.jobs_at_once = jobs_at_once
        self.cursor: Cursor | None = None
        self.batch: Batch | None = None
        self.has_read = False

    async def step(self) -> bool:
        """Read the cursor, read a batch, or write it; say whether something was written."""
        if self.cursor is None:
            self.cursor = await read_cursor(self.database)
        elif not self.has_read:
            self.batch = await read_batch(self.database, self.cursor, limit=self.limit, with_data=False)
            self.has_read = self.batch is not None or self.cursor.upper is not None
        else:
            return await self._write(self.cursor)
        return False

    async def _write(self, cursor: Cursor) -> bool:
        jobs: list[NewJob] = []
        failures: list[RoutingFailure] = []
        if self.batch is not None:
            routed, jobs, failures = self.routing.route(self.batch.events, self.jobs_at_once)
            self.batch = self.batch if routed == len(self.batch.events) else self.batch.first(routed)
        after = cursor.window_closed() if self.batch is None else self.batch.next_cursor(cursor)
        written = await write_jobs(self.database, cursor, after, jobs, failures)
        self.cursor = after if written else None
        self.batch, self.has_read = None, False
        return written

    async def finish(self) -> None:
        """Go on until nothing is left."""
        self.cursor, self.has_read = None, False
        idle = 0
        for _ in range(1000):
            await self.step()
            idle = 0 if self.has_read or self.cursor is None or self.cursor.upper else idle + 1
            if idle == 2:
                return
        raise AssertionError("there is no end to what is dispatched")


async def dispatcher(layer: "Layer", limit: int = 1000, jobs_at_once: int = 10_000) -> Stepping:
    database = await layer.connect("dispatcher")
    return Stepping(database, RoutingTable(*await read_routes(database)), limit, jobs_at_once)


@pytest.fixture
def producers(layer: "Layer") -> "Iterator[list[psycopg.Connection[Any]]]":
    with ExitStack() as stack:
        yield [stack.enter_context(psycopg.connect(layer.dsn("producer"))) for _ in range(3)]


def committed(layer: "Layer") -> list[int]:
    return layer.column("select id from integration.event order by id")


def dispatched(layer: "Layer") -> list[int]:
    """Return the events of all jobs in the order of the jobs' ids."""
    return layer.column("select event_id from integration.job order by id")


async def test_an_event_that_commits_late_is_dispatched_after_later_ones_and_once(
    layer: "Layer", producers: "list[psycopg.Connection[Any]]"
) -> None:
    await layer.publish()
    dispatching = await dispatcher(layer)
    producers[0].execute(EMIT, ("late",))
    for number in range(5):
        layer.emit(f"s{number}")
        await dispatching.finish()
    producers[0].commit()
    for number in range(5):
        layer.emit(f"t{number}")
    await dispatching.finish()

    first, *others = committed(layer)
    assert sorted(dispatched(layer)) == [first, *others]
    assert dispatched(layer).index(first) == 5


async def test_a_window_larger_than_a_batch_is_dispatched_in_order_while_others_commit(
    layer: "Layer", producers: "list[psycopg.Connection[Any]]"
) -> None:
    await layer.publish()
    dispatching = await dispatcher(layer, limit=10)
    producers[0].execute(EMIT, ("in progress",))
    (late,) = layer.column("select last_value from integration.event_id")
    for number in range(95):
        layer.emit(f"s{number}")
    window = committed(layer)
    writes = 0
    while writes < 4:
        writes += await dispatching.step()
    producers[0].commit()
    later = []
    for number in range(20):
        layer.emit(f"t{number}")
        later.append(committed(layer)[-1])
    await dispatching.finish()

    assert dispatched(layer)[:95] == window
    assert sorted(dispatched(layer)[95:]) == sorted([late, *later])


async def test_a_window_that_is_a_multiple_of_the_batch_is_closed(layer: "Layer") -> None:
    await layer.publish()
    dispatching = await dispatcher(layer, limit=10)
    for number in range(30):
        layer.emit(f"s{number}")
    await dispatching.finish()

    assert dispatched(layer) == committed(layer)
    assert (await read_cursor(dispatching.database)).upper is None


@pytest.mark.parametrize("seed", range(8))
async def test_two_dispatchers_and_three_producers_interleaved_at_every_step_lose_and_repeat_nothing(
    layer: "Layer", producers: "list[psycopg.Connection[Any]]", seed: int
) -> None:
    random = Random(seed)
    await layer.publish()
    dispatchers = [
        await dispatcher(layer, limit=random.choice([1, 3, 10]), jobs_at_once=random.choice([1, 2, 10]))
        for _ in range(2)
    ]
    reached = 0
    for step in range(200):
        actor = random.randrange(6)
        if actor < 3:
            await _produce(producers[actor], random, f"s{step}")
        elif actor < 5:
            await dispatchers[actor - 3].step()
            new = layer.column("select id from integration.job where id > %s order by id", (reached,))
            assert layer.value("select count(*) from integration.job where id <= %s", (reached,)) == reached
            reached = new[-1] if new else reached
        elif random.random() < 0.2:
            dispatchers[random.randrange(2)] = await dispatcher(layer, limit=3)  # the former one was killed
    for producer in producers:
        producer.commit()
    await dispatchers[0].finish()

    assert sorted(dispatched(layer)) == committed(layer)
    assert len(committed(layer)) > 20


async def _produce(producer: "psycopg.Connection[Any]", random: Random, subject: str) -> None:
    match random.randrange(6):
        case 0 | 1 | 2:
            producer.execute(EMIT, (subject,))
        case 3:
            with producer.transaction(force_rollback=random.random() < 0.5):
                producer.execute(EMIT, (f"{subject} in a savepoint",))
                with producer.transaction():
                    producer.execute(EMIT, (f"{subject} in a savepoint's savepoint",))
        case 4:
            producer.commit()
        case _:
            producer.rollback()


async def test_a_crash_between_reading_and_writing_loses_nothing(layer: "Layer") -> None:
    await layer.publish()
    layer.emit()
    crashed = await dispatcher(layer)
    while not crashed.has_read:
        await crashed.step()
    await crashed.database.close()
    await (await dispatcher(layer)).finish()

    assert dispatched(layer) == committed(layer)


async def test_the_slower_of_two_dispatchers_writes_nothing_and_draws_no_job_ids(layer: "Layer") -> None:
    await layer.publish()
    layer.emit()
    slow, fast = await dispatcher(layer), await dispatcher(layer)
    for each in (slow, fast):
        while not each.has_read:
            await each.step()
    await fast.step()
    ids_drawn = layer.value("select last_value from integration.job_id")
    written = await slow.step()

    assert not written
    assert layer.value("select last_value from integration.job_id") == ids_drawn
    assert dispatched(layer) == committed(layer)


async def test_an_event_of_a_prepared_transaction_is_dispatched_when_that_is_committed(layer: "Layer") -> None:
    await layer.publish()
    dispatching = await dispatcher(layer)
    await set_asleep(dispatching.database, asleep=False)  # PostgreSQL prepares no transaction that notifies
    with psycopg.connect(layer.admin_dsn) as producer:
        producer.tpc_begin(producer.xid(1, "transaction", "branch"))
        producer.execute(EMIT, ("prepared",))
        producer.tpc_prepare()
        layer.emit("later")
        await dispatching.finish()
        before = len(dispatched(layer))
        producer.tpc_commit()
    await dispatching.finish()

    assert before == 1
    assert sorted(dispatched(layer)) == committed(layer)


async def test_an_event_nobody_wants_makes_no_job_and_is_behind_the_cursor(layer: "Layer") -> None:
    await layer.publish(layer.spec(routes=[{"name": "other", "events": ["ext.other.*"]}]))
    layer.emit()
    dispatching = await dispatcher(layer)
    await dispatching.finish()

    assert dispatched(layer) == []
    assert (
        await read_batch(dispatching.database, await read_cursor(dispatching.database), limit=1, with_data=False)
        is None
    )


async def test_a_batch_names_the_routing_epoch_in_which_it_was_read(layer: "Layer") -> None:
    await layer.publish()
    dispatching = await dispatcher(layer)
    layer.emit()
    old = await read_epoch(dispatching.database)
    await layer.publish(layer.spec(routes=[{"name": "other", "events": ["*"]}]))
    batch = await read_batch(dispatching.database, await read_cursor(dispatching.database), limit=1, with_data=False)

    assert batch is not None
    assert (old, batch.epoch) == (dispatching.routing.epoch, old + 1)


async def test_an_event_goes_to_each_of_its_tenant_s_connections_and_to_nobody_else_s(layer: "Layer") -> None:
    mine = [(await layer.publish(name=name)).id for name in ("one", "two")]
    await layer.publish(layer.spec(tenant="globex"), name="theirs", namespace="globex", pool="pool_b")
    layer.emit()
    await (await dispatcher(layer)).finish()

    assert layer.column("select connection_id from integration.job order by 1") == sorted(mine)


async def test_producers_notify_only_while_the_dispatcher_sleeps(layer: "Layer") -> None:
    async with await layer.connect("dispatcher") as database:
        await database.execute("listen integration_events")
        await set_asleep(database, asleep=False)
        layer.emit("unheard")
        await set_asleep(database, asleep=True)
        layer.emit("heard")
        await set_asleep(database, asleep=False)
        heard = [notification async for notification in database.notifies(timeout=5, stop_after=1)]
        unheard = [notification async for notification in database.notifies(timeout=0)]

    assert (len(heard), len(unheard)) == (1, 0)


# A dump restored elsewhere ----------------------------------------------------------------------------------------


def restore_into_another_cluster(layer: "Layer", transactions_further: int) -> None:
    """Make the database look as a dump of it does in a cluster whose transaction counter stands elsewhere."""
    ((lower, upper),) = layer.rows("select lower::text, upper::text from integration.dispatch_cursor")
    with layer.admin.transaction():
        layer.admin.execute(
            "update integration.event set xid = (xid::text::bigint + %s)::text::xid8", (transactions_further,)
        )
        layer.admin.execute(
            "update integration.dispatch_cursor set system_identifier = 1, lower = %s, upper = %s",
            (_shift(lower, transactions_further), _shift(upper, transactions_further)),
        )


def _shift(snapshot: str | None, by: int) -> str | None:
    if snapshot is None:
        return None
    xmin, xmax, xip = snapshot.split(":")
    return f"{int(xmin) + by}:{int(xmax) + by}:{','.join(str(int(x) + by) for x in xip.split(',') if x)}"


@pytest.mark.parametrize("transactions_further", [0, 1_000_000], ids=["a busier cluster", "a fresh cluster"])
async def test_in_a_restored_database_the_undispatched_are_found_and_the_dispatched_not_repeated(
    layer: "Layer", producers: "list[psycopg.Connection[Any]]", transactions_further: int
) -> None:
    await layer.publish()
    dispatching = await dispatcher(layer, limit=4)
    producers[0].execute(EMIT, ("in progress",))  # so that the cursor's snapshot has holes
    for number in range(10):
        layer.emit(f"s{number}")
    written = 0
    while written < 2:  # the window is left open
        written += await dispatching.step()
    before = dispatched(layer)
    producers[0].commit()
    layer.emit("not dispatched before the dump")
    await dispatching.database.close()
    restore_into_another_cluster(layer, transactions_further)

    again = await layer.connect("dispatcher")
    with pytest.raises(RestoredDatabaseError, match="migrate"):
        await read_cursor(again)
    assert migrate(layer.owner_dsn).rebased
    assert not migrate(layer.owner_dsn).rebased
    await (await dispatcher(layer)).finish()
    layer.emit("after the restore")
    await (await dispatcher(layer)).finish()

    assert len(before) == 8
    assert sorted(dispatched(layer)) == committed(layer)
    assert EventId(dispatched(layer)[-1]) == committed(layer)[-1]
