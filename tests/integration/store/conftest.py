"""A past for tests of replays: events that were dispatched, delivered, or given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from psycopg.types.json import Jsonb

from contracts.ids import EventId, parse_event_id
from delivery.replaying import pass_once
from delivery.routing import RoutingTable
from store.dispatch import read_batch, read_cursor, read_routes, write_jobs
from store.replay_requests import read_targets
from store.replay_selection import Selection, Source
from store.replays import Replay, Request, read_moment, read_replay, start

if TYPE_CHECKING:
    from store.database import Database
    from tests.integration.conftest import Layer


@dataclass
class Past:
    """Events of a layer and what became of them, step by step."""

    layer: "Layer"

    def emit(self, subject: str = "c-1", *, event_type: str = "ext.test.happened", tenant: str = "acme") -> EventId:
        query = "select integration.emit_event(%s, %s, %s, %s)"
        return parse_event_id(self.layer.value(query, (tenant, event_type, subject, Jsonb({"a": 1}))))

    async def dispatch(self) -> None:
        """Make the jobs of all events that have none."""
        async with await self.layer.connect("dispatcher") as database:
            table = RoutingTable(*await read_routes(database))
            cursor = await read_cursor(database)
            batch = await read_batch(database, cursor, limit=10_000, with_data=table.reads_data)
            if batch is not None:
                _, jobs, failures = table.route(batch.events, 100_000)
                assert await write_jobs(database, cursor, batch.next_cursor(cursor), jobs, failures)

    def deliver(self) -> None:
        """Deliver every job that is queued."""
        self.layer.rows(
            "with gone as (delete from integration.job returning *)"
            " insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number,"
            " outcome, duration_ms, worker, replay_id)"
            " select now(), g.event_id, g.id, r.tenant_id, g.connection_id, g.route_id, 1, 'Delivered', 1, 1,"
            " g.replay_id from gone g join integration.route r on r.id = g.route_id"
        )

    def bury(self, cause: str = "Invalid", detail: str = "HTTP 400") -> None:
        """Give every job up that is queued."""
        self.layer.rows(
            "with gone as (delete from integration.job returning *)"
            " insert into integration.dead_letter (job_id, tenant_id, connection_id, route_id, event_id, event_at,"
            " subject, attempts, reason, detail, replay_id) select g.id, r.tenant_id, g.connection_id, g.route_id,"
            " g.event_id, g.event_at, g.subject, 1, %s, %s, g.replay_id"
            " from gone g join integration.route r on r.id = g.route_id",
            (cause, detail),
        )

    async def happened(self, number: int, **event: str) -> list[EventId]:
        """Have events of as many subjects delivered."""
        emitted = [self.emit(f"c-{each}", **event) for each in range(number)]
        await self.dispatch()
        self.deliver()
        return emitted

    async def select(self, source: Source = Source.EVENTS, connection: str = "hook", **conditions: object) -> Selection:
        """Write a selection as of now."""
        async with await self.layer.connect("support") as database:
            moment = await read_moment(database)
            (target,) = await read_targets(database, name=connection)
        given = {"until": moment.at, **conditions}
        return Selection(source, target.tenant, target.id, moment, **given)  # type: ignore[arg-type]

    async def start(self, selection: Selection, **options: object) -> Replay:
        """Ask for a replay."""
        async with await self.layer.connect("support") as database:
            request = Request(selection, "ada@example.com", "the partner lost it", **options)  # type: ignore[arg-type]
            (replay,) = await start(database, [request])
        return await self.read(replay)

    async def read(self, replay: int) -> Replay:
        async with await self.layer.connect("reader") as database:
            found = await read_replay(database, replay)  # type: ignore[arg-type]
        assert found is not None
        return found

    async def run(self, database: "Database", replay: Replay) -> Replay:
        """Carry a replay on to its end, delivering what it queues."""
        for _ in range(200):
            await pass_once(database)
            self.deliver()
            replay = await self.read(replay.id)
            if replay.state != "Running":
                return replay
        raise AssertionError("there is no end to the replay")

    def queued(self) -> Sequence[int]:
        """Return the events of all jobs in the order of the jobs' ids."""
        return self.layer.column("select event_id from integration.job order by id")


@pytest.fixture
def past(layer: "Layer") -> Past:
    """Give a layer's past to be filled."""
    return Past(layer)
