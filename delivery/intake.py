"""Intake: brings the jobs of owned lanes into memory, as many as there is room for, in order.

One coroutine reads everything, one statement after the other, so that each later read sees at least what the earlier
ones saw. That makes two facts hold that the lanes rely on: a lane whose backlog has just been read to its end misses
nothing by following the tail from then on, and held jobs are written down before the held ones of a subject are read.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

from contracts.durations import format_duration
from contracts.ids import EventId, JobId
from delivery.desk import Desk
from delivery.health import LaneState
from delivery.lane import Lane
from delivery.metrics import WorkerMetrics
from delivery.portions import LANES_AT_ONCE, portions
from delivery.window import BEHIND_LIMIT, WINDOW, Entry
from programs.reconnect import Reconnecting
from store.collapsing import Waiting, supersede_waiting
from store.database import Database
from store.deadlines import LOOKED_AT, expire_jobs
from store.errors import DatabaseUnreachableError
from store.jobs import (
    EventRow,
    Job,
    due_jobs,
    held_jobs,
    lane_jobs,
    last_job,
    load_events,
    next_due,
    probe_jobs,
    tail_jobs,
)
from store.lanes import read_lanes
from store.settlement import Settlement, settle

SPACING_SECONDS = 0.002
"""The least time between two passes: at load one pass serves many notifications."""

IDLE_SPACING_SECONDS = 0.01
"""The same when jobs are wanted by lanes of tenants that have enough to send."""

POLL_SECONDS = 1.0
"""How long a lost notification can go unnoticed."""

EXPIRE_SECONDS = 5.0
"""How often jobs of lanes that stand still are looked through for those whose deadline has passed."""

TAIL_LIMIT = 2_000


class Intake:
    """Reads jobs for one session."""

    def __init__(self, desk: Desk, database: Reconnecting, metrics: WorkerMetrics) -> None:
        self._desk = desk
        self._metrics = metrics
        self._database = database
        self._tail = JobId(0)
        self._eventless: list[Entry] = []
        self._spacing = SPACING_SECONDS
        self._follow_at = 0.0
        self._expire_at = 0.0

    async def start(self) -> None:
        """Set the point from which the tail is followed; call before the first lane is owned."""
        self._tail = await self._database.keep_trying(lambda database: last_job(database, self._desk.pool))

    async def run(self) -> None:
        """Read whenever something is wanted, until cancelled; raise LeaseLostError."""
        wanted = self._desk.jobs_wanted
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await wanted.wait()
            except TimeoutError:
                pass
            wanted.clear()
            self._spacing = SPACING_SECONDS
            await self._database.keep_trying(self._pass)
            self._desk.start_jobs()
            await asyncio.sleep(self._spacing)

    async def _pass(self, database: Database) -> None:
        try:
            await self._read(database)
        except DatabaseUnreachableError:
            # What was wanted was taken off the lists; whatever was not done is found out anew.
            self._follow_at = 0.0
            self._desk.review_all()
            raise

    async def _read(self, database: Database) -> None:
        desk = self._desk
        await self._load_events(database)
        if desk.reloading:
            await self._reload(database)
        if desk.holding:
            await self._hold(database)
        if desk.tail_grew or self._follow_at <= time.monotonic():
            await self._follow_tail(database)
        if desk.hungry:
            await self._read_backlogs(database)
        if desk.due:
            await self._read_due(database)
        if desk.unblocked:
            await self._read_held(database)
        if desk.probing:
            await self._read_probes(database)
        if self._expire_at <= time.monotonic():
            await self._expire(database)
        await self._load_events(database)

    async def _follow_tail(self, database: Database) -> None:
        self._desk.tail_grew = False
        self._follow_at = time.monotonic() + POLL_SECONDS
        more = True
        while more:
            jobs, self._tail, more = await tail_jobs(
                database, self._desk.pool, self._tail, self._desk.session, limit=TAIL_LIMIT
            )
            for job in jobs:
                lane = self._desk.lanes.get(job.connection)
                if lane is not None:
                    self._note(lane, lane.feed_tail(job))

    async def _read_backlogs(self, database: Database) -> None:
        hungry = {lane: None for lane in self._desk.hungry if lane.jobs.backlogged and lane.has_room}
        self._desk.hungry = hungry
        if not hungry:
            return
        wanted = portions(hungry, self._desk.lanes.values(), time.monotonic())
        # Those that are not served now stay in front.
        self._desk.hungry = {lane: None for lane in hungry if lane not in wanted}
        if not wanted:
            self._spacing = IDLE_SPACING_SECONDS
            return
        with _being_read(wanted):
            jobs = await lane_jobs(database, [(lane.id, lane.jobs.cursor, number) for lane, number in wanted.items()])
            found = _by_lane(jobs)
            for lane, number in wanted.items():
                mine = found.get(lane.id, [])
                if len(mine) < number:
                    lane.jobs.backlogged = False
                for job in mine:
                    self._note(lane, lane.jobs.feed(job))
                self._review(lane)

    async def _read_due(self, database: Database) -> None:
        lanes = _take(self._desk.due)
        ready = [lane for lane in lanes if lane.delivers and lane.has_room]
        waiting = [lane for lane in lanes if lane.delivers and not lane.has_room]
        now = time.monotonic()
        for lane in waiting:
            self._desk.set_alarm(lane, now + POLL_SECONDS)
        if not ready:
            return
        for lane in ready:
            lane.jobs.next_due = None  # what is deferred from now on sets it again, and must not be forgotten below
        try:
            await self._read_due_of(database, ready)
        except DatabaseUnreachableError:
            for lane in ready:
                lane.jobs.next_due = now
                # A collapse whose acknowledgement was lost is not found again: only the database knows what is left.
                lane.reload_wanted = lane.reload_wanted or bool(lane.collapsing_routes)
            raise

    async def _read_due_of(self, database: Database, ready: list[Lane]) -> None:
        # In this order: what falls due between the two statements is then seen by both instead of by neither.
        following = await next_due(database, [lane.id for lane in ready])
        with _being_read(ready):
            jobs = await due_jobs(database, [lane.id for lane in ready], limit=WINDOW)
            superseded = await self._collapse_due(database, jobs)
            found = _by_lane(jobs)
            now = time.monotonic()
            for lane in ready:
                mine = found.get(lane.id, [])
                for job in mine:
                    if job.subject is not None and job.id in superseded:
                        lane.jobs.due_superseded(job.subject)
                    else:
                        self._note(lane, lane.jobs.feed_due(job))
                seconds = POLL_SECONDS if len(mine) == WINDOW else following.get(lane.id)
                if seconds is not None:
                    lane.jobs.next_due = min(now + seconds, lane.jobs.next_due or math.inf)
                if lane.jobs.next_due is not None:
                    self._desk.set_alarm(lane, lane.jobs.next_due)
                self._review(lane)

    async def _collapse_due(self, database: Database, jobs: Iterable[Job]) -> set[JobId]:
        """Supersede due jobs by newer ones held behind them; return those that are gone."""
        waiting = [
            Waiting(lane.id, job.subject, job.id)
            for job in jobs
            if (lane := self._desk.lanes.get(job.connection)) is not None and lane.collapsing_routes
            if job.subject is not None and job.subject in lane.jobs.held_subjects and not lane.jobs.knows(job)
        ]
        return await self._collapse(database, waiting)

    async def _collapse(self, database: Database, waiting: list[Waiting]) -> set[JobId]:
        if not waiting:
            return set()
        superseded = await supersede_waiting(database, self._desk.session, waiting)
        for connection, _ in superseded:
            if lane := self._desk.lanes.get(connection):
                self._metrics.superseded(lane.connection, 1)
                lane.jobs.held_ahead = max(0, lane.jobs.held_ahead - 1)
        return {job for _, job in superseded}

    async def _read_held(self, database: Database) -> None:
        lanes = _take(self._desk.unblocked)
        # What must be held is written before what is held is read; otherwise a job could be passed by a later one.
        self._desk.holding.update(lane for lane in lanes if lane.jobs.to_hold)
        while self._desk.holding:
            await self._hold(database)
        ready = [lane for lane in lanes if lane.may_fetch_held]
        keys = [(lane.id, subject) for lane in ready for subject in lane.jobs.held_wanted][:LANES_AT_ONCE]
        if not keys:
            return
        # One may be given back meanwhile; what is fed to it then never starts.
        by_id = {lane.id: lane for lane in ready}
        waiting = [Waiting(lane, subject, None) for lane, subject in keys if by_id[lane].collapsing_routes]
        await self._collapse(database, waiting)
        with _being_read(lanes):
            jobs = await held_jobs(database, keys, limit=BEHIND_LIMIT)
            found: dict[tuple[int, int | None], list[Job]] = {}
            for job in jobs:
                found.setdefault((job.connection, job.subject), []).append(job)
            for connection, subject in keys:
                lane = by_id[connection]
                mine = found.get((connection, subject), [])
                for entry in lane.jobs.feed_held(subject, mine, all_of_them=len(mine) < BEHIND_LIMIT):
                    self._note(lane, entry)
            for lane in lanes:
                self._review(lane)

    async def _read_probes(self, database: Database) -> None:
        now = time.monotonic()
        lanes = [
            lane
            for lane in _take(self._desk.probing)
            if lane.health.state is LaneState.QUARANTINED
            and not lane.suspended
            and lane.health.probe_at is not None
            and lane.health.probe_at <= now
            and lane.is_permitted(now)
        ]
        if not lanes:
            return
        with _being_read(lanes):
            oldest = {job.connection: job for job in await probe_jobs(database, [lane.id for lane in lanes])}
            for lane in lanes:
                job = oldest.get(lane.id)
                entry = None if job is None else lane.feed_probe(job, now)
                if entry is None:
                    self._desk.set_alarm(lane, now + POLL_SECONDS)
                    if lane.permits is not None:
                        lane.health.probe_at = now + POLL_SECONDS  # others may have its permit until then
                else:
                    self._eventless.append(entry)

    async def _expire(self, database: Database) -> None:
        """Bury what has expired in lanes that stand still.

        None of their jobs is in memory, and probes, the only ones that could start, are read by this coroutine.
        """
        self._expire_at = time.monotonic() + EXPIRE_SECONDS
        deadlines = {
            lane.id: (lane.expire_after, format_duration(lane.expire_after))
            for lane in self._desk.lanes.values()
            if lane.expire_after is not None and lane.stands_still
        }
        if not deadlines:
            return
        for connection, jobs in (await expire_jobs(database, self._desk.session, deadlines)).items():
            if lane := self._desk.lanes.get(connection):
                self._metrics.expired(lane.connection, jobs)
            if jobs >= LOOKED_AT:
                self._expire_at = 0.0

    async def _hold(self, database: Database) -> None:
        held = {lane: list(lane.jobs.to_hold) for lane in _take(self._desk.holding)}
        jobs = [job for ids in held.values() for job in ids]
        if jobs:
            await settle(database, self._desk.pool, self._desk.session, Settlement(held=jobs))
        for lane, ids in held.items():
            lane.jobs.held(ids)

    async def _reload(self, database: Database) -> None:
        lanes = [lane for lane in _take(self._desk.reloading) if lane.may_reload]
        if not lanes:
            return
        with _being_read(lanes):
            rows = await read_lanes(database, self._desk.session, [lane.id for lane in lanes])
            now = time.monotonic()
            for row in rows:
                lane = self._desk.lanes.get(row.connection)
                if lane is None:
                    continue
                # It may have been written while it was read: then what was read is older.
                if lane.may_reload and row.revision >= lane.revision:
                    lane.load(row, now)
                    self._desk.arm(lane)
                self._review(lane)

    async def _load_events(self, database: Database) -> None:
        entries = [entry for entry in self._eventless if not entry.loaded]
        keys = {entry.job.event: entry.job.at for entry in entries}
        if not keys:
            self._eventless.clear()
            return
        events: dict[EventId, EventRow] = {event.id: event for event in await load_events(database, list(keys.items()))}
        self._eventless.clear()
        self._metrics.claimed.inc(len(entries))
        lanes: set[Lane] = set()
        now = time.monotonic()
        for entry in entries:
            entry.event = events.get(entry.job.event)
            entry.loaded = True
            if entry.probe and self._desk.lanes.get(entry.lane.id) is entry.lane:
                self._desk.probes.append(entry)
            lanes.add(entry.lane)
        for lane in lanes:
            self._desk.review(lane, now)

    def _note(self, lane: Lane, entry: Entry | None) -> None:
        if entry is not None:
            self._eventless.append(entry)
        elif lane.jobs.to_hold:
            self._desk.holding.add(lane)

    def _review(self, lane: Lane) -> None:
        self._desk.review(lane, time.monotonic())


def _take(lanes: set[Lane]) -> list[Lane]:
    """Remove up to LANES_AT_ONCE lanes from a set."""
    taken = list(islice(lanes, LANES_AT_ONCE))
    lanes.difference_update(taken)
    return taken


@contextmanager
def _being_read(lanes: Iterable[Lane]) -> Iterator[None]:
    with ExitStack() as stack:
        for lane in lanes:
            stack.enter_context(lane.jobs.being_read())
        yield


def _by_lane(jobs: Iterable[Job]) -> dict[int, list[Job]]:
    found: dict[int, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.connection, []).append(job)
    return found
