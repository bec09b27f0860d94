"""Whole workers in simulated time against a simulated database and partners that fail in every way at once.

Everything of a worker is real but the statements and the connector: the store is a few tables in memory with the
statements' meaning, whose answers take random time, so that each seed is another interleaving of the worker's
coroutines. Time is virtual and jumps to the next timer, so hours of retries pass in moments. At the end everything
heals; then nothing may be left, nothing may have overtaken an earlier event of its subject, and nothing may have been
repeated that was not allowed to be.
"""

import asyncio
import os
import selectors
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID, uuid5

import pytest

from connectors.connector import BatchLimits, Connection, Delivery
from connectors.context import ConnectorContext
from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionId, EventId, JobId, PoolId, RouteId, SessionId, TenantId, parse_event_id
from contracts.outcomes import (
    Ambiguous,
    AuthRevoked,
    Delivered,
    Gone,
    Invalid,
    Locked,
    Misconfigured,
    Outcome,
    QuotaExhausted,
    RateLimited,
    Report,
    TooManyAtOnce,
    Transient,
)
from delivery.settings import WorkerSettings
from delivery.worker import Worker
from store.collapsing import Waiting
from store.errors import DatabaseUnreachableError, LeaseLostError
from store.jobs import EventRow, Job
from store.lanes import LaneRow, Share
from store.settlement import AttemptRow, Settled, Settlement, Success
from store.transitions import Transition

T = TypeVar("T")

POOL = PoolId(1)
RATE, BURST, CONCURRENCY = 50.0, 20, 4
LEASE = timedelta(seconds=5)
EPOCH = 1_700_000_000
"""What the database's clock says more than the monotonic one."""
NAMESPACE_UUID = UUID(int=7)


ONE_PASS_SECONDS = 1e-6
"""What one turn of the event loop takes."""


# Time -------------------------------------------------------------------------------------------------------------


class VirtualClock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now


class JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: where the loop would sleep, the clock jumps."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen any more: every coroutine waits for another")
        self._clock.now += max(timeout, ONE_PASS_SECONDS)
        return super().select(0)


@contextmanager
def virtual_time() -> Iterator[asyncio.AbstractEventLoop]:
    clock = VirtualClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock.monotonic)
        loop = asyncio.SelectorEventLoop(JumpingSelector(clock))
        try:
            yield loop
        finally:
            loop.close()


# The database -----------------------------------------------------------------------------------------------------


@dataclass
class JobRow:
    id: JobId
    connection: ConnectionId
    event: EventId
    subject: int | None
    state: int = 0
    attempts: int = 0
    run_at: float = 0.0
    emitted: float = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108 -- time is replaced later


@dataclass
class LaneState:
    connection: ConnectionId
    spec: dict[str, Any]
    owner: SessionId | None = None
    generation: int = 1
    revision: int = 0
    state: str = "Open"
    suspended: bool = False
    failures: int = 0
    reason: str | None = None
    probes: int = 0
    probe_at: float | None = None
    paused_until: float | None = None
    tokens: float | None = float("inf")
    tokens_at: float = 0.0
    asked_by: str | None = None
    ramp_percent: int | None = None
    effective_rps: float | None = None
    effective_concurrency: int | None = None
    blocks: bool = False


class Link:
    """One client's connection, in place of psycopg's."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.closed = False
        self.broken = False

    async def close(self) -> None:
        self.closed = True


class Tables:
    """What the store's functions read and write; each is one step in itself, with waits before and after."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.failure_rate = 0.0
        self.slowness = 0.002
        self.large_events = False
        self.cut_off: set[str] = set()
        self.jobs: dict[JobId, JobRow] = {}
        self.lanes: dict[ConnectionId, LaneState] = {}
        self.sessions: dict[SessionId, tuple[str, float]] = {}
        self.dead: dict[EventId, str] = {}
        self.blocking: dict[JobId, JobRow] = {}
        self.superseded: set[EventId] = set()
        self.attempts: list[AttemptRow] = []
        self.transitions: list[tuple[ConnectionId, Transition]] = []
        self.listeners: list[Callable[[str], None]] = []
        self.epoch = 1
        self.last_id = 0

    # How a statement runs

    async def connect(self, dsn: str, program: str, **_: object) -> Link:
        client = dsn.rsplit("/", 1)[1]
        await asyncio.sleep(self.random.random() * self.slowness)
        if client in self.cut_off:
            raise DatabaseUnreachableError("cut off")
        return Link(client)

    async def step(self, link: Link, work: Callable[[], T]) -> T:
        await self._pass(link)
        result = work()
        await self._pass(link)
        return result

    async def _pass(self, link: Link) -> None:
        await asyncio.sleep(self.random.random() * self.slowness)
        if link.broken or link.client in self.cut_off or self.random.random() < self.failure_rate:
            link.broken = True
            raise DatabaseUnreachableError("the connection broke")

    def notify(self, channel: str) -> None:
        for wake in list(self.listeners):
            wake(channel)

    # What others do

    def dispatch(self, connection: ConnectionId, subject: int | None) -> EventId:
        self.last_id += 1
        job = JobRow(JobId(self.last_id), connection, EventId(self.last_id + 100), subject)
        self.jobs[job.id] = job
        self.notify("integration_jobs_1")
        return job.event

    def publish(self, connection: ConnectionId, *, suspended: bool) -> None:
        lane = self.lanes[connection]
        lane.generation += 1
        lane.revision += 1
        lane.suspended = suspended
        if lane.state == "Quarantined":
            lane.probe_at, lane.asked_by = time.monotonic(), "Spec"
        self.epoch += 1
        self.notify("integration_routing")

    def release(self, connection: ConnectionId) -> None:
        lane = self.lanes[connection]
        if lane.state == "Quarantined":
            lane.probe_at, lane.asked_by = time.monotonic(), "Person"
            lane.revision += 1
            self.epoch += 1
            self.notify("integration_routing")

    def resend(self, job: JobId) -> None:
        row = self.blocking.pop(job)
        self.jobs[job] = JobRow(row.id, row.connection, row.event, row.subject)
        self.lanes[row.connection].revision += 1
        self.epoch += 1
        self.notify("integration_routing")

    def end_session(self, session: SessionId) -> None:
        self.sessions.pop(session, None)
        for lane in self.lanes.values():
            if lane.owner == session:
                lane.owner = None

    # store.jobs

    async def last_job(self, link: Link, pool: PoolId) -> JobId:
        return await self.step(link, lambda: JobId(max(self.jobs, default=0)))

    async def tail_jobs(
        self, link: Link, pool: PoolId, after: JobId, session: SessionId, *, limit: int
    ) -> tuple[list[Job], JobId, bool]:
        def work() -> tuple[list[Job], JobId, bool]:
            rows = sorted(job for job in self.jobs if job > after)[:limit]
            mine = [self._job(self.jobs[job]) for job in rows if self.lanes[self.jobs[job].connection].owner == session]
            return mine, (rows[-1] if rows else after), len(rows) == limit

        return await self.step(link, work)

    def _select(self, connection: ConnectionId, state: int) -> list[JobRow]:
        found = (job for job in self.jobs.values() if job.connection == connection and job.state == state)
        return sorted(found, key=lambda job: job.id)

    def _job(self, row: JobRow) -> Job:
        at = datetime.fromtimestamp(row.emitted + EPOCH, UTC)
        return Job(row.id, row.connection, RouteId(1), row.event, at, row.subject, row.attempts)

    async def lane_jobs(self, link: Link, wanted: Sequence[tuple[ConnectionId, JobId, int]]) -> list[Job]:
        def work() -> list[Job]:
            return [
                self._job(job)
                for connection, cursor, number in wanted
                for job in [job for job in self._select(connection, 0) if job.id > cursor][:number]
            ]

        return await self.step(link, work)

    async def due_jobs(self, link: Link, connections: Sequence[ConnectionId], *, limit: int) -> list[Job]:
        def work() -> list[Job]:
            now = time.monotonic()
            return [
                self._job(job)
                for connection in connections
                for job in sorted(self._select(connection, 1), key=lambda job: (job.run_at, job.id))[:limit]
                if job.run_at <= now
            ]

        return await self.step(link, work)

    def _blocked(self, connection: ConnectionId) -> set[int | None]:
        return {job.subject for job in self.blocking.values() if job.connection == connection}

    async def probe_jobs(self, link: Link, connections: Sequence[ConnectionId]) -> list[Job]:
        def work() -> list[Job]:
            oldest = [
                min(
                    (
                        job
                        for job in self.jobs.values()
                        if job.connection == connection
                        and (job.subject is None or job.subject not in self._blocked(connection))
                    ),
                    key=lambda job: job.id,
                    default=None,
                )
                for connection in connections
            ]
            return [self._job(job) for job in oldest if job is not None]

        return await self.step(link, work)

    async def next_due(self, link: Link, connections: Sequence[ConnectionId]) -> dict[ConnectionId, float | None]:
        def work() -> dict[ConnectionId, float | None]:
            now = time.monotonic()
            return {
                connection: min(
                    (job.run_at - now for job in self._select(connection, 1) if job.run_at > now), default=None
                )
                for connection in connections
            }

        return await self.step(link, work)

    async def held_jobs(self, link: Link, subjects: Sequence[tuple[ConnectionId, int]], *, limit: int) -> list[Job]:
        def work() -> list[Job]:
            return [
                self._job(job)
                for connection, subject in subjects
                for job in [job for job in self._select(connection, 2) if job.subject == subject][:limit]
            ]

        return await self.step(link, work)

    async def load_events(self, link: Link, keys: Sequence[tuple[EventId, datetime]]) -> list[EventRow]:
        def work() -> list[EventRow]:
            return [
                EventRow(event, 0, at, TenantId("acme"), "ext.test.happened", "subject", self._data(event))
                for event, at in keys
            ]

        return await self.step(link, work)

    def _data(self, event: EventId) -> bytes | None:
        """Return an event's data unless it is large: then it is loaded when it is sent."""
        return None if self.large_events and event % 5 == 0 else b"{}"

    async def load_data(self, link: Link, event: EventId, at: datetime) -> bytes:
        return await self.step(link, lambda: b"{}")

    def _fence(self, session: SessionId) -> None:
        if session not in self.sessions:
            raise LeaseLostError(f"session {session} was taken")

    async def finish(self, link: Link, pool: PoolId, session: SessionId, delivered: Sequence[Success]) -> int:
        def work() -> int:
            self._fence(session)
            ours = [s for s in delivered if s.job in self.jobs and self.jobs[s.job].attempts == s.attempts_before]
            for success in ours:
                del self.jobs[success.job]
            return len(ours)

        return await self.step(link, work)

    async def settle(self, link: Link, pool: PoolId, session: SessionId, what: Settlement) -> Settled:
        return await self.step(link, lambda: self._settle(session, what))

    def _settle(self, session: SessionId, what: Settlement) -> Settled:
        self._fence(session)
        now = time.monotonic()
        moved: set[int] = set()
        changed: set[int] = set()
        for deferral in what.deferred:
            job = self.jobs.get(deferral.job)
            if job is not None and job.attempts == deferral.attempts_before:
                job.state, job.attempts, job.run_at = 1, deferral.attempts, now + deferral.delay_seconds
                moved.add(job.id)
        for letter in what.dead:
            job = self.jobs.get(letter.job)
            if job is not None and job.attempts == letter.attempts_before:
                del self.jobs[letter.job]
                if letter.blocks:
                    self.blocking[job.id] = job
                else:
                    self.dead[job.event] = letter.reason
                moved.add(job.id)
        for superseding in what.superseded:
            job = self.jobs.get(superseding.job)
            if job is not None and job.attempts == superseding.attempts_before:
                del self.jobs[job.id]
                self.superseded.add(job.event)
        for held in what.held:
            if held in self.jobs and self.jobs[held].state == 0:
                self.jobs[held].state = 2
        self.attempts.extend(what.attempts)
        for change in what.lanes:
            lane = self.lanes[change.connection]
            if lane.revision == change.revision and lane.owner == session:
                lane.revision += 1
                lane.state, lane.failures = change.state, change.consecutive_failures
                lane.reason, lane.probes = change.quarantine_reason, change.probes
                lane.probe_at = None if change.probe_in_seconds is None else now + change.probe_in_seconds
                lane.paused_until = None if change.paused_for_seconds is None else now + change.paused_for_seconds
                lane.asked_by, lane.ramp_percent = change.probe_asked_by, change.ramp_percent
                lane.effective_rps, lane.effective_concurrency = change.effective_rps, change.effective_concurrency
                changed.add(lane.connection)
        self.transitions.extend((lane, transition) for lane, transition in what.transitions if lane in changed)
        for connection in what.hasten:
            for job in self._select(connection, 1):
                job.run_at = min(job.run_at, now)
        return Settled(
            len(what.deferred) + len(what.dead) - len(moved),
            frozenset(change.connection for change in what.lanes if change.connection not in changed),
        )

    # store.collapsing

    async def supersede_waiting(
        self, link: Link, session: SessionId, subjects: Sequence[Waiting]
    ) -> list[tuple[ConnectionId, JobId]]:
        def work() -> list[tuple[ConnectionId, JobId]]:
            gone = []
            for connection, subject, due in subjects:
                if self.lanes[connection].owner != session:
                    continue
                waiting = [job for job in self._select(connection, 2) if job.subject == subject]
                if due is not None and due in self.jobs and self.jobs[due].state == 1:
                    waiting.append(self.jobs[due])
                for job in sorted(waiting, key=lambda job: job.id)[:-1]:
                    del self.jobs[job.id]
                    self.superseded.add(job.event)
                    gone.append((connection, job.id))
            return gone

        return await self.step(link, work)

    # store.deadlines

    async def expire_jobs(
        self, link: Link, session: SessionId, deadlines: Mapping[ConnectionId, tuple[timedelta, str]]
    ) -> dict[ConnectionId, int]:
        def work() -> dict[ConnectionId, int]:
            expired: Counter[ConnectionId] = Counter()
            for job in list(self.jobs.values()):
                lane = self.lanes[job.connection]
                stands_still = lane.suspended or lane.state == "Quarantined"
                if lane.owner != session or job.connection not in deadlines or not stands_still:
                    continue
                if time.monotonic() - job.emitted > deadlines[job.connection][0].total_seconds():
                    del self.jobs[job.id]
                    if lane.blocks and job.subject is not None:
                        self.blocking[job.id] = job
                    else:
                        self.dead[job.event] = "Expired"
                    expired[job.connection] += 1
            return expired

        return await self.step(link, work)

    # store.lanes

    async def find_pool(self, link: Link) -> tuple[PoolId, str]:
        return await self.step(link, lambda: (POOL, "pool"))

    async def open_session(self, link: Link, pool: PoolId, name: str, lease: timedelta) -> SessionId:
        def work() -> SessionId:
            for session, (former, _) in list(self.sessions.items()):
                if former == name:
                    self.end_session(session)
            self.last_session = SessionId(getattr(self, "last_session", 0) + 1)
            self.sessions[self.last_session] = (name, time.monotonic() + lease.total_seconds())
            return self.last_session

        return await self.step(link, work)

    async def close_session(self, link: Link, session: SessionId) -> None:
        await self.step(link, lambda: self.end_session(session))

    async def heartbeat(self, link: Link, session: SessionId, lease: timedelta) -> float:
        def work() -> float:
            self._fence(session)
            self.sessions[session] = (self.sessions[session][0], time.monotonic() + lease.total_seconds())
            return time.monotonic() + EPOCH

        return await self.step(link, work)

    async def reap_sessions(self, link: Link, pool: PoolId) -> list[str]:
        def work() -> list[str]:
            ended = [s for s, (_, until) in self.sessions.items() if until < time.monotonic()]
            names = [self.sessions[session][0] for session in ended]
            for session in ended:
                self.end_session(session)
            return names

        return await self.step(link, work)

    async def count_share(self, link: Link, pool: PoolId, session: SessionId) -> Share:
        def work() -> Share:
            owned = sum(lane.owner == session for lane in self.lanes.values())
            return Share(len(self.lanes), len(self.sessions), owned)

        return await self.step(link, work)

    async def acquire_lanes(self, link: Link, pool: PoolId, session: SessionId, *, limit: int) -> list[ConnectionId]:
        def work() -> list[ConnectionId]:
            self._fence(session)
            free = [lane for lane in self.lanes.values() if lane.owner is None][:limit]
            for lane in free:
                lane.owner = session
            return [lane.connection for lane in free]

        return await self.step(link, work)

    async def release_lanes(self, link: Link, session: SessionId, tokens: Sequence[tuple[ConnectionId, float]]) -> None:
        def work() -> None:
            for connection, left in tokens:
                lane = self.lanes[connection]
                if lane.owner == session:
                    lane.owner, lane.tokens, lane.tokens_at = None, left, time.monotonic()

        await self.step(link, work)

    async def take_tokens(self, link: Link, session: SessionId, connections: Sequence[ConnectionId]) -> None:
        def work() -> None:
            for connection in connections:
                if self.lanes[connection].owner == session:
                    self.lanes[connection].tokens = None

        await self.step(link, work)

    async def read_lanes(
        self, link: Link, session: SessionId, connections: Sequence[ConnectionId] | None = None
    ) -> list[LaneRow]:
        def work() -> list[LaneRow]:
            return [
                self._lane(lane)
                for lane in self.lanes.values()
                if lane.owner == session and (connections is None or lane.connection in connections)
            ]

        return await self.step(link, work)

    def _lane(self, lane: LaneState) -> LaneRow:
        now = time.monotonic()
        deferred = self._select(lane.connection, 1)
        return LaneRow(
            connection=lane.connection,
            uid=uuid5(NAMESPACE_UUID, str(lane.connection)),
            tenant=TenantId("acme"),
            namespace="acme",
            name=f"hook-{lane.connection}",
            generation=lane.generation,
            spec=lane.spec,
            revision=lane.revision,
            state=lane.state,
            suspended=lane.suspended,
            consecutive_failures=lane.failures,
            quarantine_reason=lane.reason,
            probes=lane.probes,
            probe_in_seconds=None if lane.probe_at is None else lane.probe_at - now,
            paused_for_seconds=None if lane.paused_until is None else lane.paused_until - now,
            tokens=lane.tokens,
            tokens_age_seconds=None if lane.tokens is None else now - lane.tokens_at,
            deferred_subjects=frozenset(
                subject
                for subject in {job.subject for job in deferred} | self._blocked(lane.connection)
                if subject is not None
            ),
            held_subjects=frozenset(job.subject for job in self._select(lane.connection, 2) if job.subject is not None),
            last_held=max((job.id for job in self._select(lane.connection, 2)), default=None),
            next_due_in_seconds=min((job.run_at - now for job in deferred), default=None),
            probe_asked_by=lane.asked_by,
            ramp_percent=lane.ramp_percent,
            effective_rps=lane.effective_rps,
            effective_concurrency=lane.effective_concurrency,
        )

    async def lane_versions(self, link: Link, session: SessionId) -> list[tuple[ConnectionId, int, int]]:
        return await self.step(
            link,
            lambda: [(x.connection, x.generation, x.revision) for x in self.lanes.values() if x.owner == session],
        )

    async def read_route_names(self, link: Link, session: SessionId) -> dict[RouteId, str]:
        return await self.step(link, lambda: {RouteId(1): "all"})

    async def read_epoch(self, link: Link) -> int:
        return await self.step(link, lambda: self.epoch)


# The partners -----------------------------------------------------------------------------------------------------


class Partners:
    """Receivers of all connections: they judge order and repetition where it matters, at the far end."""

    def __init__(self, tables: Tables, random: Random) -> None:
        self.tables = tables
        self.random = random
        self.failure_rate = 0.0
        self.subjects: dict[EventId, tuple[ConnectionId, int | None]] = {}
        self.in_flight: Counter[tuple[ConnectionId, int]] = Counter()
        self.accepted: Counter[EventId] = Counter()
        self.last_accepted: dict[tuple[ConnectionId, int], EventId] = defaultdict(lambda: EventId(0))
        self.arrivals: dict[ConnectionId, list[float]] = defaultdict(list)
        self.open_requests: Counter[ConnectionId] = Counter()
        self.may_overlap = False
        self.batch: BatchLimits | None = None
        self.largest_batch = 0
        self.wrongs: list[str] = []

    def open(self, connection: Connection, context: ConnectorContext) -> "Partner":
        return Partner(self) if self.batch is None else BatchingPartner(self, self.batch)

    async def receive(self, delivery: Delivery) -> Report:
        event = parse_event_id(delivery.event_id)
        connection, subject = self.subjects[event]
        with self._request(connection):
            return await self._receive(event, connection, subject)

    async def receive_many(self, deliveries: Sequence[Delivery]) -> list[Report]:
        """Take each item or not, as by chance; now and then refuse all of them in the same way."""
        events = [parse_event_id(delivery.event_id) for delivery in deliveries]
        places = [self.subjects[event] for event in events]
        connection = places[0][0]
        self.largest_batch = max(self.largest_batch, len(events))
        subjects = [subject for _, subject in places if subject is not None]
        if len(set(subjects)) < len(subjects) or {lane for lane, _ in places} != {connection}:
            self.wrongs.append(f"{places} in one request")
        with self._request(connection):
            if self.random.random() < self.failure_rate / 2:
                refused = TooManyAtOnce() if self.random.random() < 0.3 else self._outcome()
                if not isinstance(refused, Ambiguous):
                    return [Report(refused, detail="simulated")] * len(events)
            return await asyncio.gather(
                *(self._receive(event, *place) for event, place in zip(events, places, strict=True))
            )

    @contextmanager
    def _request(self, connection: ConnectionId) -> Iterator[None]:
        self.arrivals[connection].append(time.monotonic())
        self.open_requests[connection] += 1
        if self.open_requests[connection] > CONCURRENCY and not self.may_overlap:
            self.wrongs.append(f"{self.open_requests[connection]} requests to {connection} at once")
        try:
            yield
        finally:
            self.open_requests[connection] -= 1

    async def _receive(self, event: EventId, connection: ConnectionId, subject: int | None) -> Report:
        if subject is None:
            return await self._answer(event)
        key = (connection, subject)
        self._check(event, key)
        self.in_flight[key] += 1
        try:
            return await self._answer(event)
        finally:
            self.in_flight[key] -= 1

    def _check(self, event: EventId, key: tuple[ConnectionId, int]) -> None:
        if self.in_flight[key] and not self.may_overlap:
            self.wrongs.append(f"two jobs of subject {key} are under way at once")
        if self.last_accepted[key] > event:
            self.wrongs.append(f"event {event} of {key} came after {self.last_accepted[key]}")
        earlier = [e for e, k in self.subjects.items() if k == key and e < event]
        ended = self.tables.dead.keys() | self.tables.superseded
        open_ones = [e for e in earlier if not self.accepted[e] and e not in ended]
        if open_ones:
            self.wrongs.append(f"event {event} of {key} came before {open_ones}")

    def largest_burst(self) -> float:
        """Return by how many requests any span of time exceeded its length times the rate."""
        largest = 0.0
        for times in self.arrivals.values():
            lowest = float("inf")
            for number, at in enumerate(times):
                lowest = min(lowest, number - RATE * at)
                largest = max(largest, number + 1 - RATE * at - lowest)
        return largest

    async def _answer(self, event: EventId) -> Report:
        await asyncio.sleep(self.random.random() * 0.05)
        outcome = self._outcome() if self.random.random() < self.failure_rate else Delivered()
        taken = isinstance(outcome, Delivered) or (isinstance(outcome, Ambiguous) and self.random.random() < 0.5)
        if taken:
            self.accepted[event] += 1
            connection, subject = self.subjects[event]
            if subject is not None:
                key = (connection, subject)
                self.last_accepted[key] = max(self.last_accepted[key], event)
        return Report(outcome, detail="simulated")

    def _outcome(self) -> Outcome:
        random = self.random
        kinds: list[Callable[[], Outcome]] = [
            Transient,
            Transient,
            Transient,
            Ambiguous,
            Ambiguous,
            lambda: Transient(timedelta(seconds=random.random() * 3)),
            RateLimited,
            lambda: RateLimited(timedelta(seconds=random.random() * 3)),
            lambda: QuotaExhausted(datetime.fromtimestamp(time.monotonic() + EPOCH + 3, UTC)),
            lambda: Locked(timedelta(seconds=random.random() * 3)),
            Invalid,
            Misconfigured,
            Gone,
            AuthRevoked,
        ]
        return random.choice(kinds)()


class Partner:
    def __init__(self, partners: Partners) -> None:
        self._partners = partners

    async def send(self, delivery: Delivery) -> Report:
        return await self._partners.receive(delivery)

    async def close(self) -> None:
        pass


class BatchingPartner(Partner):
    """Takes many deliveries in one request."""

    def __init__(self, partners: Partners, batch: BatchLimits) -> None:
        super().__init__(partners)
        self.batch = batch

    async def send_many(self, deliveries: Sequence[Delivery]) -> list[Report]:
        return await self._partners.receive_many(deliveries)


# A run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weather:
    """What may go wrong in a run, and what is made of it."""

    partner_failures: float = 0.0
    database_failures: float = 0.0
    slowness: float = 0.002
    publications: bool = False
    rebalancing: bool = False
    kills: bool = False
    partitions: bool = False
    subjects: int = 4
    events: int = 150
    max_attempts: int = 6
    expire_after: str | None = None
    blocks: bool = False
    collapses: bool = False
    batch: BatchLimits | None = None
    large_events: bool = False


@dataclass
class World:
    """One database, its partners, and the workers that come and go."""

    weather: Weather
    seed: int
    patch: pytest.MonkeyPatch
    secrets: Path
    stops: dict[str, asyncio.Event] = field(default_factory=dict)
    tasks: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.tables = Tables(Random(self.seed + 1))
        self.partners = Partners(self.tables, Random(self.seed + 2))
        self.tables.slowness = self.weather.slowness
        self.partners.batch = self.weather.batch
        self.tables.large_events = self.weather.large_events
        self.partners.may_overlap = self.weather.kills or self.weather.partitions
        tables, setattr_ = self.tables, self.patch.setattr
        for module, names in {
            "delivery.intake": "last_job tail_jobs lane_jobs due_jobs probe_jobs next_due held_jobs load_events settle "
            "read_lanes expire_jobs supersede_waiting",
            "delivery.settling": "finish settle",
            "delivery.sending": "load_data",
            "delivery.worker": "find_pool open_session",
            "delivery.keeping": "read_epoch",
            "store.lanes": "heartbeat reap_sessions count_share acquire_lanes take_tokens release_lanes read_lanes "
            "lane_versions read_route_names close_session",
            "programs.reconnect": "connect",
        }.items():
            for name in names.split():
                setattr_(f"{module}.{name}", getattr(tables, name))
        seeds = Random(self.seed + 3)
        setattr_("delivery.worker.Random", lambda: Random(seeds.random()))

        class Listener:
            def __init__(self, dsn: str, program: str, wake: Callable[[str], None], **_: object) -> None:
                self.wake = wake

            async def run(self, channels: Sequence[str]) -> None:
                tables.listeners.append(self.wake)
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    tables.listeners.remove(self.wake)

        setattr_("delivery.worker.Listener", Listener)
        # Sets of lanes have the same order in every run of a seed.
        setattr_("delivery.lane.Lane.__hash__", lambda lane: int(lane.id), raising=False)
        for number in range(1, 4):
            self.tables.lanes[ConnectionId(number)] = LaneState(
                ConnectionId(number), self._spec(), blocks=self.weather.blocks
            )

    def _spec(self) -> dict[str, Any]:
        document = {
            "tenant": "acme",
            "provider": "Webhook",
            "routes": [
                {
                    "name": "all",
                    "events": ["*"],
                    "onDeadLetter": "Block" if self.weather.blocks else "Pass",
                    "collapse": self.weather.collapses,
                }
            ],
            "webhook": {"url": "https://example.com/", "signing": {"secretsFrom": [{"name": "hook", "key": "k"}]}},
            "delivery": {
                "throttle": {"requestsPerSecond": RATE, "burst": BURST, "concurrency": CONCURRENCY},
                "retry": {"maxAttempts": self.weather.max_attempts, "initialDelay": "200ms", "maxDelay": "2s"}
                | ({"expireAfter": self.weather.expire_after} if self.weather.expire_after else {}),
                "quarantine": {"consecutiveFailures": 4, "probeInterval": "1s"},
            },
        }
        return parse_connection_spec(document).model_dump(mode="json", by_alias=True, exclude_none=True)

    def start(self, name: str) -> None:
        settings = WorkerSettings(
            database_url=f"postgresql://{name}",
            worker_name=name,
            secrets_directory=self.secrets,
            senders=8,
            lease=LEASE,
            drain=timedelta(seconds=3),
        )
        self.stops[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(Worker(settings, self.partners.open).run(self.stops[name]))

    async def stop(self, name: str) -> None:
        self.stops[name].set()
        await self.tasks.pop(name)

    async def kill(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def emit(self) -> None:
        random = self.random
        connection = random.choice(list(self.tables.lanes))
        subject = random.choice([None, *range(self.weather.subjects)])
        event = EventId(self.tables.last_id + 101)
        self.partners.subjects[event] = (connection, subject)
        assert self.tables.dispatch(connection, subject) == event

    async def storm(self) -> None:
        """Let everything happen at once while events are emitted."""
        weather, random = self.weather, self.random
        self.partners.failure_rate = weather.partner_failures
        self.tables.failure_rate = weather.database_failures
        self.start("worker-0")
        for _ in range(weather.events):
            for _ in range(random.choice([1, 1, 1, 8])):
                self.emit()
            await asyncio.sleep(random.random() * 0.1)
            if weather.publications and random.random() < 0.1:
                self.tables.publish(random.choice(list(self.tables.lanes)), suspended=random.random() < 0.3)
            if weather.rebalancing and random.random() < 0.05:
                if "worker-1" in self.tasks:
                    await self.stop("worker-1")
                else:
                    self.start("worker-1")
            if weather.kills and random.random() < 0.03:
                await self.kill("worker-0")
                self.start("worker-0")
            if weather.partitions and random.random() < 0.02:
                self.tables.cut_off ^= {"worker-0"}
            self._raise_what_ended()

    async def heal(self) -> None:
        """Let everything be well again, then wait until nothing is left, or for so long that it is stuck."""
        self.tables.failure_rate = self.partners.failure_rate = 0.0
        for lane in self.tables.lanes.values():
            lane.spec["delivery"]["retry"].pop("expireAfter", None)  # or what is sent again would expire again
        self.tables.cut_off.clear()
        for connection in self.tables.lanes:
            self.tables.publish(connection, suspended=False)
        for _ in range(12):
            for _ in range(10):
                await asyncio.sleep(1)
                self._raise_what_ended()
            if not (self.tables.jobs or self.tables.blocking):
                break
            for job in list(self.tables.blocking):
                self.tables.resend(job)
            for connection in self.tables.lanes:
                self.tables.release(connection)
        for name in list(self.tasks):
            await self.stop(name)

    def _raise_what_ended(self) -> None:
        for name, task in self.tasks.items():
            if task.done():
                task.result()
                raise AssertionError(f"{name} ended by itself")


def run(weather: Weather, seed: int, secrets: Path) -> World:
    with virtual_time() as loop, pytest.MonkeyPatch.context() as patch:
        world = World(weather, seed, patch, secrets)

        async def both() -> None:
            await world.storm()
            await world.heal()

        task = loop.create_task(both())
        try:
            loop.run_until_complete(task)
        finally:
            rest = asyncio.all_tasks(loop)
            for left in rest:
                left.cancel()
            if rest:
                loop.run_until_complete(asyncio.wait(rest))
        return world


BATCH = BatchLimits(items=10, size=4_000, delay=timedelta(milliseconds=300))

WEATHERS = {
    "all is well": Weather(),
    "partners fail": Weather(partner_failures=0.4),
    "one subject in a flood": Weather(partner_failures=0.3, subjects=1, events=200),
    "every job has one attempt": Weather(partner_failures=0.4, max_attempts=1),
    "jobs have a deadline": Weather(partner_failures=0.5, expire_after="3s", slowness=0.02),
    "jobs have a deadline and specs change": Weather(partner_failures=0.5, expire_after="3s", publications=True),
    "jobs have a deadline and workers come and go": Weather(partner_failures=0.5, expire_after="2s", rebalancing=True),
    "dead letters block": Weather(partner_failures=0.4, max_attempts=2, blocks=True),
    "dead letters block and the house moves": Weather(
        partner_failures=0.4, max_attempts=2, blocks=True, publications=True, rebalancing=True, slowness=0.02
    ),
    "newer events supersede older ones": Weather(partner_failures=0.3, collapses=True, events=300),
    "newer events supersede older ones while the database breaks": Weather(
        partner_failures=0.3, collapses=True, database_failures=0.02, rebalancing=True
    ),
    "every rule at once": Weather(
        partner_failures=0.4,
        max_attempts=3,
        collapses=True,
        blocks=True,
        expire_after="5s",
        rebalancing=True,
        kills=True,
    ),
    "the database breaks": Weather(database_failures=0.02),
    "the database is slow and partners fail": Weather(partner_failures=0.4, slowness=0.05),
    "specs change": Weather(publications=True, slowness=0.02),
    "specs change while partners fail": Weather(partner_failures=0.4, publications=True, slowness=0.02),
    "workers come and go": Weather(rebalancing=True),
    "workers come and go while partners fail": Weather(partner_failures=0.3, rebalancing=True),
    "lanes change hands while they are read": Weather(
        partner_failures=0.3, rebalancing=True, slowness=0.08, events=300
    ),
    "workers are killed": Weather(kills=True, rebalancing=True),
    "a worker is cut off": Weather(partitions=True, rebalancing=True),
    "many are sent at once": Weather(batch=BATCH, subjects=20, events=300),
    "many are sent at once and partners fail": Weather(batch=BATCH, partner_failures=0.4, subjects=20),
    "many are sent at once by every rule": Weather(
        batch=BATCH,
        partner_failures=0.4,
        max_attempts=3,
        collapses=True,
        blocks=True,
        expire_after="5s",
        publications=True,
        rebalancing=True,
        subjects=20,
    ),
    "many are sent at once and some are large": Weather(
        batch=BATCH,
        partner_failures=0.3,
        database_failures=0.02,
        slowness=0.02,
        publications=True,
        rebalancing=True,
        subjects=20,
        large_events=True,
    ),
    "many are sent at once and everything breaks": Weather(
        batch=BATCH,
        partner_failures=0.3,
        database_failures=0.01,
        slowness=0.02,
        publications=True,
        rebalancing=True,
        kills=True,
        partitions=True,
        subjects=20,
    ),
    "everything at once": Weather(
        partner_failures=0.3,
        database_failures=0.01,
        slowness=0.02,
        publications=True,
        rebalancing=True,
        kills=True,
        partitions=True,
    ),
}
SEEDS = range(int(os.environ.get("SIMULATION_SEEDS", "4")))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("weather", WEATHERS.values(), ids=WEATHERS)
def test_nothing_is_lost_stuck_repeated_or_overtaken(weather: Weather, seed: int, tmp_path: Path) -> None:
    world = run(weather, seed, tmp_path)

    partners, tables = world.partners, world.tables
    assert partners.wrongs[:3] == []
    left = [(job.connection, job.subject, job.state, job.id) for job in tables.jobs.values()]
    assert left[:5] == []
    # A request whose event is loaded first comes later than its token, by as long as that takes.
    assert weather.large_events or partners.largest_burst() <= BURST
    for lane in tables.lanes.values():
        chain = [transition for connection, transition in tables.transitions if connection == lane.connection]
        assert [after.before for after in chain] == ["Open", *(before.after for before in chain)][: len(chain)]
    ended = tables.dead.keys() | tables.superseded
    missing = [event for event in partners.subjects if not partners.accepted[event] and event not in ended]
    assert missing == []
    newest = {key: event for event, key in partners.subjects.items()}
    assert [event for key, event in newest.items() if event in tables.superseded and key[1] is not None] == []
    assert weather.batch is None or 1 < partners.largest_batch <= weather.batch.items
