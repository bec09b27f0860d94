"""Batching: the jobs of a lane that travel in one request, and what becomes of each of them.

A request costs one token and one of the lane's requests at once, however many jobs it holds. Since at most one job of
a subject is active (`delivery.window`), a request never holds two of them, and each is settled for itself: one that
fails holds up its own subject and no other.

A kill while a request is under way, or before its results are written, leaves its jobs as they were. The lane's next
owner sends them again under their own message ids, perhaps in other company.
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from connectors.connector import Delivery, SendsMany
from connectors.errors import StateUnavailableError
from contracts.outcomes import Report, Transient
from delivery.consequences import Consequences, names
from delivery.desk import Desk
from delivery.gathering import ENVELOPE_BYTES, Gathering
from delivery.lane import Lane
from delivery.window import Entry
from store.errors import DatabaseUnreachableError

log = logging.getLogger(__name__)

RETRY_READING_SECONDS = 0.5


class Batching:
    """Sends many jobs of a lane at once; `delivery_of` returns what to send, or why a job cannot be sent at all."""

    def __init__(
        self, desk: Desk, consequences: Consequences, delivery_of: Callable[[Entry], Awaitable[Delivery | Report]]
    ) -> None:
        self._desk = desk
        self._consequences = consequences
        self._delivery_of = delivery_of

    def fill(self, first: Entry, gathering: Gathering) -> list[Entry]:
        """Start as many more jobs of the first one's lane as may travel with it."""
        jobs, entries = first.lane.jobs, [first]
        most = 1 + gathering.companions(first)
        room = gathering.size(time.monotonic()) - _known_size(first)
        while len(entries) < most and room >= 0 and jobs.is_ready:
            entry = jobs.start()
            if self._consequences.ended_unsent(entry, joined=True):
                continue
            room -= _known_size(entry)
            most = min(most, 1 + gathering.companions(entry))
            if room < 0 or len(entries) >= most:
                jobs.put_back(entry)
                break
            entries.append(entry)
        gathering.taken(len(entries), jobs, by_size=room < 0)
        return entries

    async def send(self, entries: Sequence[Entry], gathering: Gathering) -> None:
        """Send started jobs in one request, but for those that cannot be sent or turn out not to fit."""
        lane, started = entries[0].lane, time.monotonic()
        waiting, batch = deque(entries), list[tuple[Entry, Delivery]]()
        try:
            size = await self._prepare(waiting, batch, gathering.size(started))
        except DatabaseUnreachableError:
            self._not_sent(lane, [*(entry for entry, _ in batch), *waiting])
            self._desk.set_alarm(lane, started + RETRY_READING_SECONDS)
            return
        if lane.gathering is not gathering or not batch:  # its spec has changed meanwhile, or nothing can be sent
            self._not_sent(lane, [*(entry for entry, _ in batch), *waiting])
            self._desk.review(lane, time.monotonic())
            return
        _put_back(lane, waiting)
        try:
            reports = await self._ask(lane, batch)
        except StateUnavailableError:
            self._not_sent(lane, [entry for entry, _ in batch])
            self._desk.set_alarm(lane, started + RETRY_READING_SECONDS)
            return
        sent = [(entry, report) for (entry, _), report in zip(batch, reports, strict=True)]
        self._consequences.ended_together(sent, size, started, time.monotonic())

    async def _prepare(self, waiting: deque[Entry], batch: list[tuple[Entry, Delivery]], limit: int) -> int:
        """Move jobs with what is to be sent from `waiting` to `batch`, up to `limit` bytes; return how many it has."""
        size = 0
        while waiting:
            delivery = await self._delivery_of(waiting[0])
            if isinstance(delivery, Report):
                self._consequences.cannot_send(waiting.popleft(), delivery)
                continue
            larger = size + ENVELOPE_BYTES + len(delivery.data)
            if batch and larger > limit:
                break
            size = larger
            batch.append((waiting.popleft(), delivery))
        return size

    def _not_sent(self, lane: Lane, entries: Sequence[Entry]) -> None:
        """Take back what starting these jobs cost, the one token of all."""
        _put_back(lane, entries)
        lane.request_saved(time.monotonic())

    async def _ask(self, lane: Lane, batch: Sequence[tuple[Entry, Delivery]]) -> Iterable[Report]:
        connector = lane.connector
        try:
            if not isinstance(connector, SendsMany):
                raise TypeError(f"{type(connector).__name__} does not send many at once")
            reports = await connector.send_many([delivery for _, delivery in batch])
            if len(reports) != len(batch):
                raise ValueError(f"{len(reports)} reports on {len(batch)} deliveries")
        except StateUnavailableError:
            raise
        except Exception as error:  # as in single sends, a defect costs these jobs an attempt and nothing else
            log.exception("the connector failed", extra={**names(batch[0][0]), "jobs": len(batch)})
            return [defect_of(error)] * len(batch)
        return reports


def defect_of(error: Exception) -> Report:
    """Report that a connector raised what it must not."""
    return Report(Transient(), detail=f"the connector failed with {type(error).__name__}; see the worker's log")


def _put_back(lane: Lane, entries: Sequence[Entry]) -> None:
    """Return started jobs to the front of their lane, in their order."""
    for entry in reversed(entries):
        lane.put_back(entry)


def _known_size(entry: Entry) -> int:
    """Return a job's part of a request as far as it is known: large events are loaded when they are sent."""
    data = None if entry.event is None else entry.event.data
    return ENVELOPE_BYTES + (0 if data is None else len(data))
