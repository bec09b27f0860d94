"""Writing down what came of attempts, many at once.

Results gather for some milliseconds and go out together: plain successes in one statement, everything else in one
transaction (see `store.settlement` for what a kill at any point leaves behind). Only after the commit does a lane
learn of it and let the next job of the subject go. A database that is away keeps the results waiting here; a lost lease
makes them worthless, since the jobs have another owner: they are counted and dropped.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import orjson

from contracts.exchange import NO_EXCHANGE
from contracts.ids import PublicEventId
from contracts.outcomes import Report
from delivery.desk import Desk
from delivery.effects import outcome_name
from delivery.lane import Lane
from delivery.metrics import WorkerMetrics
from delivery.window import Entry
from programs.reconnect import Reconnecting
from store.collapsing import Superseding
from store.database import Database
from store.errors import LeaseLostError
from store.settlement import AttemptRow, DeadLetter, Deferral, Settlement, Success, finish, settle

GATHER_SECONDS = 0.008
"""How long results gather before they are written. Delivery is over by then: this delays only the next of a subject."""

BATCH = 1_000

UNSETTLED_LIMIT = 10_000
"""Results that may wait for the database; at more, nothing new is sent."""


class Burial(NamedTuple):
    """What a job's dead letter says."""

    reason: str
    detail: str
    attempts: int
    blocks: bool


@dataclass(slots=True)
class Result:
    """What came of a started job: a success, a deferral, a burial, a superseding, or only the record of an attempt.

    No report: it was not tried.
    """

    entry: Entry
    report: Report | None
    started: float
    ended: float
    success: bool = False
    deferral: tuple[int, timedelta] | None = None
    burial: Burial | None = None
    superseded_by: PublicEventId | None = None


class Settling:
    """The results of one session on their way to the database."""

    def __init__(self, desk: Desk, database: Reconnecting, metrics: WorkerMetrics) -> None:
        self._desk = desk
        self._database = database
        self._metrics = metrics
        self._successes: list[Result] = []
        self._others: list[Result] = []
        self._changed_lanes: set[Lane] = set()
        self._hasten: set[Lane] = set()
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        desk.note_lane = self.note_lane

    @property
    def full(self) -> bool:
        """Whether so many results wait that nothing new should be sent."""
        return len(self._successes) + len(self._others) >= UNSETTLED_LIMIT

    def add(self, result: Result) -> None:
        """Hand over an ended attempt."""
        (self._successes if result.success else self._others).append(result)
        self._wake()

    def note_lane(self, lane: Lane, *, hasten: bool = False) -> None:
        """Have a lane's changed state written; with `hasten` its deferred jobs become due."""
        self._changed_lanes.add(lane)
        if hasten:
            self._hasten.add(lane)
        self._wake()

    async def run(self) -> None:
        """Write results until cancelled; raise LeaseLostError."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._wanted.clear()
            await self._database.keep_trying(self._flush)
            if not (self._successes or self._others or self._changed_lanes):
                self._settled.set()

    async def drained(self) -> None:
        """Wait until everything handed over so far is written."""
        await self._settled.wait()

    def _wake(self) -> None:
        self._settled.clear()
        self._wanted.set()

    async def _flush(self, database: Database) -> None:
        while self._successes:
            batch = self._successes[:BATCH]
            await self._write_successes(database, batch)
            del self._successes[: len(batch)]
        while self._others or self._changed_lanes:
            await self._write_others(database)

    async def _write_successes(self, database: Database, batch: list[Result]) -> None:
        now = time.monotonic()
        rows = [_success(result, now) for result in batch]
        try:
            kept = await finish(database, self._desk.pool, self._desk.session, rows)
        except LeaseLostError:
            self._metrics.fenced.inc(len(batch))
            raise
        self._metrics.fenced.inc(len(batch) - kept)
        for result in batch:
            result.entry.lane.jobs.settled(result.entry)
        self._go_on({result.entry.lane for result in batch})

    async def _write_others(self, database: Database) -> None:
        others = self._others[:BATCH]
        changed, hasten = self._changed_lanes, self._hasten
        now = time.monotonic()
        what = Settlement(
            attempts=[_attempt(result, result.report, now) for result in others if result.report is not None],
            lanes=[lane.change(now) for lane in changed],
            hasten=[lane.id for lane in hasten],
            deferred=[_deferral(result, *result.deferral, now) for result in others if result.deferral is not None],
            transitions=[(lane.id, transition) for lane in changed for transition in lane.health.transitions],
            dead=[_dead_letter(result, result.burial) for result in others if result.burial is not None],
            superseded=[
                _superseding(result, result.superseded_by) for result in others if result.superseded_by is not None
            ],
        )
        written = {lane: len(lane.health.transitions) for lane in changed}
        self._changed_lanes, self._hasten = set(), set()
        try:
            with _being_written(changed):
                settled = await settle(database, self._desk.pool, self._desk.session, what)
        except LeaseLostError:
            self._metrics.fenced.inc(len(others))
            raise
        except BaseException:
            # Not written: all of it is still to be done. A commit whose acknowledgement was lost is fenced next time.
            self._changed_lanes |= changed
            self._hasten |= hasten
            raise
        del self._others[: len(others)]
        self._metrics.fenced.inc(settled.fenced)
        for lane in changed:
            if lane.id in settled.stale_lanes:
                lane.reload_wanted = True
            else:
                lane.revision += 1
                del lane.health.transitions[: written[lane]]
        self._note_ends(others)
        if settled.fenced:
            for result in others:
                result.entry.lane.reload_wanted = True
        for lane in hasten:
            self._desk.set_alarm(lane, time.monotonic())
        self._go_on({result.entry.lane for result in others} | changed)

    def _note_ends(self, results: list[Result]) -> None:
        for result in results:
            lane = result.entry.lane
            if result.deferral is not None:
                due = result.ended + result.deferral[1].total_seconds()
                lane.jobs.deferred(result.entry, due)
                self._desk.set_alarm(lane, due)
            elif result.burial is not None and result.burial.blocks:
                lane.jobs.set_aside(result.entry)
            elif result.burial is not None or result.superseded_by is not None:
                lane.jobs.settled(result.entry)
            # Otherwise the job was put back or dropped when its attempt ended: nothing of it had to be written.

    def _go_on(self, lanes: set[Lane]) -> None:
        now = time.monotonic()
        for lane in lanes:
            self._desk.review(lane, now)
        self._desk.start_jobs()


@contextmanager
def _being_written(lanes: set[Lane]) -> Iterator[None]:
    """Mark lanes whose state is on its way to the database; if it does not arrive, it is still to be written."""
    for lane in lanes:
        lane.changed, lane.being_written = False, True
    try:
        yield
    except BaseException:
        for lane in lanes:
            lane.changed = True
        raise
    finally:
        for lane in lanes:
            lane.being_written = False


def _attempt(result: Result, report: Report, now: float) -> AttemptRow:
    job, lane = result.entry.job, result.entry.lane
    exchange = report.exchange or NO_EXCHANGE
    return AttemptRow(
        job.id,
        job.event,
        lane.connection.tenant,
        lane.id,
        job.route,
        job.attempts + 1,
        outcome_name(report.outcome),
        report.status_code,
        (result.ended - result.started) * 1000,
        (now - result.ended) * 1000,
        report.detail or None,
        _milliseconds(exchange.resolving_seconds),
        _milliseconds(exchange.answering_seconds),
        exchange.body_digest,
        None if exchange.particulars is None else orjson.dumps(exchange.particulars).decode(),
        job.replay,
    )


def _success(result: Result, now: float) -> Success:
    job = result.entry.job
    exchange = (result.report.exchange if result.report else None) or NO_EXCHANGE
    resolving, answering = exchange.resolving_seconds, exchange.answering_seconds
    return Success(
        job.id,
        job.attempts,
        result.entry.lane.connection.tenant,
        result.report.status_code if result.report else None,
        int((result.ended - result.started) * 1_000_000),
        int((now - result.ended) * 1_000_000),
        None if resolving is None else int(resolving * 1_000_000),
        None if answering is None else int(answering * 1_000_000),
        exchange.body_digest,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1_000


def _deferral(result: Result, attempts: int, delay: timedelta, now: float) -> Deferral:
    job = result.entry.job
    return Deferral(job.id, job.attempts, attempts, max(0.0, delay.total_seconds() - (now - result.ended)))


def _dead_letter(result: Result, burial: Burial) -> DeadLetter:
    job = result.entry.job
    return DeadLetter(job.id, job.attempts, burial.attempts, burial.reason, burial.detail, burial.blocks)


def _superseding(result: Result, by: PublicEventId) -> Superseding:
    job, lane = result.entry.job, result.entry.lane
    return Superseding(job.id, job.attempts, job.event, lane.connection.tenant, lane.id, job.route, by)
