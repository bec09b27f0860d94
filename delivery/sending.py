"""Sending: a fixed number of senders take the fairest next job, call its connector, and decide what follows.

No transaction is open while a partner is called. A kill while a request is under way, or after its answer and before
its result is written, leaves the job as it was: the lane's next owner sends it again under the same message id.
"""

import asyncio
import logging
import time
from datetime import timedelta
from random import Random
from typing import assert_never

from connectors.connector import Delivery
from contracts.ids import PublicEventId, message_id, public_event_id
from contracts.outcomes import Delivered, Invalid, Report, Transient
from delivery import effects
from delivery.backoff import obeyed, pause, retry_delay
from delivery.desk import Desk
from delivery.effects import effect_of, outcome_name
from delivery.lane import Entry, Lane
from delivery.metrics import WorkerMetrics
from delivery.replayed import as_replayed
from delivery.settling import Result, Settling
from programs.reconnect import Reconnecting
from store.errors import DatabaseUnreachableError
from store.jobs import EventRow, load_data

log = logging.getLogger(__name__)

RETRY_READING_SECONDS = 0.5


class Sending:
    """The senders of one session."""

    def __init__(
        self,
        desk: Desk,
        settling: Settling,
        database: Reconnecting,
        metrics: WorkerMetrics,
        random: Random,
        senders: int,
    ) -> None:
        self._desk = desk
        self._settling = settling
        self._database = database
        self._metrics = metrics
        self._random = random
        self._senders = senders
        self._waiting: list[asyncio.Future[None]] = []
        self._rested = asyncio.Event()
        desk.start_jobs = self.start_jobs

    @property
    def busy(self) -> int:
        """How many senders have a job."""
        return self._senders - len(self._waiting)

    async def idle(self) -> None:
        """Wait until no sender has a job; comes to pass only while draining."""
        while self.busy:
            self._rested.clear()
            await self._rested.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._senders):
                group.create_task(self._send_for_ever())

    def start_jobs(self) -> None:
        """Wake senders if there may be something to start."""
        if self._waiting and (self._desk.scheduler.has_lanes or self._desk.probes) and self._desk.may_send():
            self._wake_one()

    async def _send_for_ever(self) -> None:
        while True:
            entry = self._next()
            if entry is None:
                await self._wait()
            else:
                # Each woken sender wakes the next before it goes to work, so no more wake than there are jobs.
                self.start_jobs()
                await self._send(entry)

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._rested.set()
        await future

    def _wake_one(self) -> None:
        while self._waiting:
            future = self._waiting.pop()
            if not future.done():
                future.set_result(None)
                return

    def _next(self) -> Entry | None:
        desk = self._desk
        if self._settling.full or not desk.may_send():
            return None
        if desk.probes:
            return desk.probes.popleft()
        now = time.monotonic()
        entry, stopped = desk.scheduler.next(now)
        for lane in stopped:
            desk.review(lane, now)
        return entry

    async def _send(self, entry: Entry) -> None:
        started = time.monotonic()
        try:
            report = await self._attempt(entry)
        except DatabaseUnreachableError:
            self._not_tried(entry)
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a connector's defect must cost its own job an attempt and nothing else
            log.exception("the connector failed", extra=_names(entry))
            report = Report(
                Transient(), detail=f"the connector failed with {type(error).__name__}; see the worker's log"
            )
        self._ended(entry, report, started, time.monotonic())

    def _not_tried(self, entry: Entry) -> None:
        lane, now = entry.lane, time.monotonic()
        lane.under_way -= 1
        if entry.probe:
            lane.drop(entry)
            lane.probe_at = now
        else:
            lane.put_back(entry)
        self._desk.set_alarm(lane, now + RETRY_READING_SECONDS)

    async def _attempt(self, entry: Entry) -> Report:
        event, job, lane = entry.event, entry.job, entry.lane
        if event is None:
            return Report(Invalid(), detail="the event of this job cannot be read any more")
        data = event.data
        if data is None:
            data = await self._database.once(lambda database: load_data(database, event.id, event.at))
            if data is None:
                return Report(Invalid(), detail="the event is gone: its partition was dropped")
            if not self._desk.may_send():
                raise DatabaseUnreachableError("the lease may have run out while the event was read")
        public_id = public_event_id(event.id, event.nonce)
        route = self._desk.route_names.get(job.route, str(job.route))
        message = message_id(lane.connection.uid, public_id, route)
        if job.replay is not None:
            replayed = await as_replayed(self._database, job.replay, message, data)
            if replayed is None:
                return Report(Invalid(), detail="the replay that made this job is gone")
            if not self._desk.may_send():
                raise DatabaseUnreachableError("the lease may have run out while the replay was read")
            message, data = replayed
        delivery = Delivery(
            message,
            public_id,
            event.tenant,
            event.type,
            event.subject,
            event.at,
            data,
            route,
            job.attempts + 1,
            self._desk.clock.now(),
        )
        return await lane.connector.send(delivery)

    def _ended(self, entry: Entry, report: Report, started: float, ended: float) -> None:
        lane = entry.lane
        lane.under_way -= 1
        result = Result(entry, report, started, ended)
        if entry.probe:
            self._probe_ended(entry, effect_of(report.outcome, self._desk.clock.datetime), result, ended)
        elif type(report.outcome) is Delivered:
            lane.succeeded()
            result.success = True
        else:
            self._apply(lane, entry, effect_of(report.outcome, self._desk.clock.datetime), result, ended)
        self._metrics.attempted(lane.connection, report, ended - started)
        if result.success and entry.event is not None:
            if entry.job.replay is None:  # a replayed event's age says nothing of how fast delivery is
                self._metrics.delivered(lane.connection, self._desk.clock.now() - entry.event.at.timestamp())
        else:
            log.info("attempt ended", extra={**_names(entry), "outcome": outcome_name(report.outcome)})
        if lane.changed:
            self._settling.note_lane(lane)
        self._settling.add(result)
        self._desk.review(lane, ended)

    def _apply(self, lane: Lane, entry: Entry, effect: effects.Effect, result: Result, now: float) -> None:
        retry, job = lane.delivery.retry, entry.job
        match effect:
            case effects.Finish():
                lane.succeeded()
                result.success = True
            case effects.Retry(at_least):
                made = job.attempts + 1
                lane.failed(now, _summary(result.report))
                if made >= retry.max_attempts:
                    result.burial = "AttemptsExhausted"
                else:
                    result.deferral = (made, retry_delay(retry, made, self._random, at_least))
            case effects.Wait(at_least):
                result.deferral = (job.attempts, obeyed(retry, at_least))
            case effects.Pause(at_least):
                rest = pause(retry, lane.throttled_in_a_row + 1, self._random, at_least)
                self._rest(lane, entry, rest, now)
            case effects.PauseUntilReset(duration):
                self._rest(lane, entry, duration, now)
            case effects.Bury(reason):
                lane.succeeded()
                result.burial = reason
            case effects.Quarantine(reason, probing):
                lane.quarantine(now, _reason(reason, result.report), probing=probing)
                lane.put_back(entry)
            case _:
                assert_never(effect)
        if lane.changed and lane.probe_at is not None:
            self._desk.set_alarm(lane, lane.probe_at)

    def _rest(self, lane: Lane, entry: Entry, rest: timedelta, now: float) -> None:
        lane.paused(now + rest.total_seconds())
        lane.put_back(entry)
        self._desk.set_alarm(lane, lane.paused_until)

    def _probe_ended(self, entry: Entry, effect: effects.Effect, result: Result, now: float) -> None:
        """A probe that the partner understood reopens the lane; one that failed costs its job no attempt."""
        lane = entry.lane
        match effect:
            case effects.Finish():
                result.success = True
                lane.reopen()
                self._settling.note_lane(lane, hasten=True)
            case effects.Bury(reason):
                result.burial = reason
                lane.reopen()
                self._settling.note_lane(lane, hasten=True)
            case effects.Pause() | effects.PauseUntilReset() | effects.Wait():
                lane.reopen()
                if isinstance(effect, effects.PauseUntilReset):
                    rest = effect.duration
                else:
                    rest = pause(lane.delivery.retry, 1, self._random, effect.at_least)
                lane.paused(now + rest.total_seconds())
                lane.drop(entry)
            case effects.Retry():
                lane.probe_failed(now, f"still failing: {_summary(result.report)}", probing=True)
                lane.drop(entry)
            case effects.Quarantine(reason, probing):
                lane.probe_failed(now, _reason(reason, result.report), probing=probing)
                lane.drop(entry)
            case _:
                assert_never(effect)
        if lane.probe_at is not None:
            self._desk.set_alarm(lane, lane.probe_at)


def _reason(reason: str, report: Report) -> str:
    return f"{reason}: {report.detail}" if report.detail else reason


def _summary(report: Report) -> str:
    status = f"HTTP {report.status_code}" if report.status_code else type(report.outcome).__name__
    return f"{status} {report.detail}".strip()[:300]


def _names(entry: Entry) -> dict[str, object]:
    event: EventRow | None = entry.event
    public_id = PublicEventId("") if event is None else public_event_id(event.id, event.nonce)
    connection = entry.lane.connection
    return {
        "event": public_id,
        "job": entry.job.id,
        "connection": f"{connection.namespace}/{connection.name}",
        "tenant": connection.tenant,
        "attempt": entry.job.attempts + 1,
    }
