"""Sending: a fixed number of senders take the fairest next job, call its connector, and hand over what came of it.

No transaction is open while a partner is called. A kill while a request is under way, or after its answer and before
its result is written, leaves the job as it was: the lane's next owner sends it again under the same message id.
"""

import asyncio
import logging
import time

from connectors.connector import Delivery
from connectors.errors import StateUnavailableError
from contracts.ids import message_id, public_event_id
from contracts.outcomes import Invalid, Report
from delivery.batching import RETRY_READING_SECONDS, Batching, defect_of
from delivery.consequences import Consequences, names
from delivery.desk import Desk
from delivery.replayed import as_replayed
from delivery.settling import Settling
from delivery.window import Entry
from programs.reconnect import Reconnecting
from store.errors import DatabaseUnreachableError
from store.jobs import load_data

log = logging.getLogger(__name__)


class Sending:
    """The senders of one session."""

    def __init__(
        self,
        desk: Desk,
        settling: Settling,
        database: Reconnecting,
        consequences: Consequences,
        senders: int,
    ) -> None:
        self._desk = desk
        self._settling = settling
        self._database = database
        self._consequences = consequences
        self._senders = senders
        self._batching = Batching(desk, consequences, self._delivery)
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
        desk, free = self._desk, len(self._waiting)
        if free and (desk.probes or desk.scheduler.may_start(free)) and desk.may_send():
            self._wake_one()

    async def _send_for_ever(self) -> None:
        while True:
            entry = self._next()
            if entry is None:
                await self._wait()
            elif entry.lane.gathering is not None and not entry.probe:
                together = self._batching.fill(entry, entry.lane.gathering)
                self.start_jobs()
                await self._batching.send(together, entry.lane.gathering)
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
        entry = self._foremost()
        while entry is not None and self._consequences.ended_unsent(entry):
            entry = self._foremost()
        return entry

    def _foremost(self) -> Entry | None:
        desk = self._desk
        if desk.probes:
            return desk.probes.popleft()
        now = time.monotonic()
        entry, stopped = desk.scheduler.next(now, len(self._waiting) + 1)
        for lane in stopped:
            desk.review(lane, now)
        return entry

    async def _send(self, entry: Entry) -> None:
        started = time.monotonic()
        try:
            delivery = await self._delivery(entry)
            report = delivery if isinstance(delivery, Report) else await entry.lane.connector.send(delivery)
        except (DatabaseUnreachableError, StateUnavailableError):
            self._not_tried(entry)
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a connector's defect must cost its own job an attempt and nothing else
            log.exception("the connector failed", extra=names(entry))
            report = defect_of(error)
        self._consequences.ended(entry, report, started, time.monotonic())

    def _not_tried(self, entry: Entry) -> None:
        lane, now = entry.lane, time.monotonic()
        lane.not_sent(entry, now)
        if entry.probe:
            lane.jobs.drop(entry)
        else:
            lane.put_back(entry)
        self._desk.set_alarm(lane, now + RETRY_READING_SECONDS)

    async def _delivery(self, entry: Entry) -> Delivery | Report:
        """Return what the connector is to send, or what is to be said of a job that cannot be sent."""
        event, job = entry.event, entry.job
        if event is None:
            return Report(Invalid(), detail="the event of this job cannot be read any more")
        data = event.data
        if data is None:
            data = await self._database.once(lambda database: load_data(database, event.id, event.at))
            if data is None:
                return Report(Invalid(), detail="the event is gone: it outlived its retention")
            if not self._desk.may_send():
                raise DatabaseUnreachableError("the lease may have run out while the event was read")
        public_id = public_event_id(event.id, event.nonce)
        route = self._desk.route_name(job)
        message = message_id(entry.lane.connection.uid, public_id, route)
        if job.replay is not None:
            replayed = await as_replayed(self._database, job.replay, message, data)
            if replayed is None:
                return Report(Invalid(), detail="the replay that made this job is gone")
            if not self._desk.may_send():
                raise DatabaseUnreachableError("the lease may have run out while the replay was read")
            message, data = replayed
        return Delivery(
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
