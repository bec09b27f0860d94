"""Workers that open, acquire, settle, lose, release and come too late in any order never break the queue's promises.

A model of the protocol stands beside a real database; whatever a step does, both must agree: a lane has one owner, a
job ends once, a session that was taken writes nothing, nothing vanishes.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from contracts.ids import ConnectionId, JobId, PoolId, SessionId, TenantId
from store.database import Database
from store.errors import LeaseLostError
from store.jobs import Job, due_jobs, lane_jobs
from store.lanes import acquire_lanes, close_session, heartbeat, open_session, reap_sessions, release_lanes
from store.settlement import AttemptRow, DeadLetter, Deferral, Settlement, Success, finish, settle

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

T = TypeVar("T")

LEASE = timedelta(minutes=5)
WORKERS = ("first", "second", "third")
LANES = 3
READY, DEFERRED, HELD = 0, 1, 2
FATES = ("defer", "bury", "hold")
PLACES = st.integers(0, 5)

PUT_JOB = """
insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject)
select l.pool_id, nextval('integration.job_id'), l.connection_id, r.id, 1, now(), %s
from integration.lane l join integration.route r using (connection_id) where l.connection_id = %s returning id
"""


@dataclass
class Worker:
    """A process with a session, which may have been taken without its knowledge, and the jobs it has read."""

    database: Database
    session: SessionId | None = None
    jobs: dict[JobId, Job] = field(default_factory=dict)


@dataclass(frozen=True)
class JobState:
    """A job that has not ended."""

    lane: ConnectionId
    state: int = READY
    attempts: int = 0


class Protocol(RuleBasedStateMachine):
    """The model, and the steps that both it and the database take."""

    def __init__(self, layer: "Layer", run: Callable[[Coroutine[Any, Any, Any]], Any], pool: PoolId) -> None:
        super().__init__()
        self.layer = layer
        self.run = run
        self.pool = pool
        self.lanes = [ConnectionId(id) for id in layer.column("select connection_id from integration.lane order by 1")]

    @initialize()
    def begin(self) -> None:
        """Begin with workers that each have a lane and jobs in hand: from there it is not far to any trouble."""
        self.layer.rows("truncate integration.job, integration.attempt, integration.dead_letter")
        self.layer.rows("delete from integration.worker_session")
        self.workers = {name: Worker(self.layer.opened[number]) for number, name in enumerate(WORKERS)}
        self.sessions: dict[SessionId, str] = {}
        self.overdue: set[SessionId] = set()
        self.owners: dict[ConnectionId, SessionId | None] = dict.fromkeys(self.lanes)
        self.jobs: dict[JobId, JobState] = {}
        self.delivered: dict[JobId, SessionId] = {}
        self.dead: set[JobId] = set()
        self.attempts: list[tuple[JobId, SessionId, int]] = []
        for name in WORKERS:
            self.open(name)
            self.acquire(name, 1)
        for number in range(LANES):
            self.put(number, 0)
            self.put(number, None)
        for name in WORKERS:
            self.read(name)

    # Sessions ------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(WORKERS))
    def open(self, name: str) -> None:
        """A worker starts, for the first time or again; its former session is over."""
        worker = self.workers[name]
        for session in [session for session, owner in self.sessions.items() if owner == name]:
            self.end(session)
        worker.session = self.run(open_session(worker.database, self.pool, name, LEASE))
        worker.jobs = {}
        self.sessions[worker.session] = name

    @rule(name=st.sampled_from(WORKERS))
    def stop(self, name: str) -> None:
        """A worker ends its session, which may not be its own any more."""
        worker = self.workers[name]
        if worker.session is not None:
            self.run(close_session(worker.database, worker.session))
            self.end(worker.session)
            worker.session, worker.jobs = None, {}

    @rule(name=st.sampled_from(WORKERS))
    def beat(self, name: str) -> None:
        """A worker renews its lease."""
        worker = self.workers[name]
        session = worker.session
        if session is not None and self.told(worker, heartbeat(worker.database, session, LEASE)) is not None:
            self.overdue.discard(session)

    @rule(name=st.sampled_from(WORKERS))
    def oversleep(self, name: str) -> None:
        """Time passes, and a worker does not renew its lease in it."""
        session = self.workers[name].session
        if session in self.sessions:
            late = "update integration.worker_session set lease_until = now() - interval '1 s' where id = %s"
            self.layer.rows(late, (session,))
            self.overdue.add(session)

    @rule(name=st.sampled_from(WORKERS))
    def reap(self, name: str) -> None:
        """Somebody ends the sessions whose lease ran out."""
        ended = self.run(reap_sessions(self.workers[name].database, self.pool))

        assert sorted(ended) == sorted(self.sessions[session] for session in self.overdue)
        for session in list(self.overdue):
            self.end(session)

    # Lanes ---------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(WORKERS), limit=st.integers(1, LANES))
    def acquire(self, name: str, limit: int) -> None:
        """A worker takes lanes that nobody owns."""
        worker = self.workers[name]
        if worker.session is None:
            return
        free = {lane for lane, owner in self.owners.items() if owner is None}
        taking = acquire_lanes(worker.database, self.pool, worker.session, limit=limit)
        taken = self.told(worker, taking) if free else self.run(taking)

        if taken is not None:
            assert len(taken) == min(limit, len(free))
            assert set(taken) <= free
            self.owners.update(dict.fromkeys(taken, worker.session))

    @rule(name=st.sampled_from(WORKERS), number=st.integers(0, LANES - 1))
    def release(self, name: str, number: int) -> None:
        """A worker gives a lane back, of which it has nothing under way; it may have lost it before."""
        worker, lane = self.workers[name], self.lanes[number]
        if worker.session is not None and all(job.connection != lane for job in worker.jobs.values()):
            self.run(release_lanes(worker.database, worker.session, [(lane, 1.0)]))
            if self.owners[lane] == worker.session:
                self.owners[lane] = None

    # Jobs ----------------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, LANES - 1), subject=st.none() | st.integers(0, 2))
    def put(self, number: int, subject: int | None) -> None:
        """A job is made."""
        lane = self.lanes[number]
        self.jobs[JobId(self.layer.value(PUT_JOB, (subject, lane)))] = JobState(lane)

    @rule(name=st.sampled_from(WORKERS))
    def read(self, name: str) -> None:
        """A worker reads what is ready or due in its lanes."""
        worker = self.workers[name]
        mine = [lane for lane, owner in self.owners.items() if owner is not None and owner == worker.session]
        if mine:
            ready = self.run(lane_jobs(worker.database, [(lane, JobId(0), 100) for lane in mine]))
            due = self.run(due_jobs(worker.database, mine, limit=100))
            worker.jobs = {job.id: job for job in (*ready, *due)}

            expected = {id for id, job in self.jobs.items() if job.lane in mine and job.state != HELD}
            assert worker.jobs.keys() == expected

    @rule(name=st.sampled_from(WORKERS), places=st.sets(PLACES, min_size=1, max_size=4))
    def finish(self, name: str, places: set[int]) -> None:
        """A worker writes deliveries down, some of them for the second time, or too late."""
        worker = self.workers[name]
        jobs = self.in_hand(worker, places)
        if not jobs:
            return
        done = [Success(job.id, job.attempts, TenantId("acme"), 204, 1, 1) for job in jobs]
        kept = self.told(worker, finish(worker.database, self.pool, self.session_of(worker), done))

        if kept is not None:
            ours = [job for job in jobs if self.knows(job)]
            assert kept == len(ours)
            for job in ours:
                self.delivered[job.id] = self.session_of(worker)
                self.tried(worker, job)
                del self.jobs[job.id]

    @rule(name=st.sampled_from(WORKERS), fates=st.dictionaries(PLACES, st.sampled_from(FATES), min_size=1, max_size=4))
    def settle(self, name: str, fates: dict[int, str]) -> None:
        """A worker defers, buries and holds, some of it for the second time, or too late."""
        worker = self.workers[name]
        fated = {fate: self.in_hand(worker, {place for place in fates if fates[place] == fate}) for fate in FATES}
        deferred, dead, held = fated["defer"], fated["bury"], fated["hold"]
        if not (deferred or dead or held):
            return
        what = Settlement(
            deferred=[Deferral(job.id, job.attempts, job.attempts + 1, 0.0) for job in deferred],
            dead=[DeadLetter(job.id, job.attempts, job.attempts + 1, "Invalid", "") for job in dead],
            attempts=[attempt(job) for job in (*deferred, *dead)],
            held=[job.id for job in held],
        )
        settled = self.told(worker, settle(worker.database, self.pool, self.session_of(worker), what))

        if settled is not None:
            ours = [job for job in (*deferred, *dead) if self.knows(job)]
            assert settled.fenced == len(deferred) + len(dead) - len(ours)
            for job in ours:
                self.tried(worker, job)
                if job in deferred:
                    self.jobs[job.id] = replace(self.jobs[job.id], state=DEFERRED, attempts=job.attempts + 1)
                else:
                    del self.jobs[job.id]
                    self.dead.add(job.id)
            for job in held:
                if job.id in self.jobs and self.jobs[job.id].state == READY:
                    self.jobs[job.id] = replace(self.jobs[job.id], state=HELD)

    # What must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def a_lane_has_the_one_owner_that_took_it(self) -> None:
        assert dict(self.layer.rows("select connection_id, owner from integration.lane")) == self.owners
        assert set(self.layer.column("select id from integration.worker_session")) == self.sessions.keys()

    @invariant()
    def nothing_vanishes_and_a_job_ends_once(self) -> None:
        rows = self.layer.rows("select id, connection_id, state, attempts from integration.job")
        delivered = self.layer.rows("select job_id, worker from integration.attempt where outcome = 'Delivered'")

        assert {id: JobState(*job) for id, *job in rows} == self.jobs
        assert sorted(delivered) == sorted(self.delivered.items())
        assert set(self.layer.column("select job_id from integration.dead_letter")) == self.dead

    @invariant()
    def only_living_sessions_have_written(self) -> None:
        rows = self.layer.rows("select job_id, worker, number from integration.attempt")

        assert sorted(rows) == sorted(self.attempts)

    # Within --------------------------------------------------------------------------------------------------------

    def end(self, session: SessionId) -> None:
        self.sessions.pop(session, None)
        self.overdue.discard(session)
        self.owners = {lane: None if owner == session else owner for lane, owner in self.owners.items()}

    def told(self, worker: Worker, step: Coroutine[Any, Any, T]) -> T | None:
        """Take a step; None if the worker was told that its session is gone, which must be so exactly if it is."""
        try:
            answer: T = self.run(step)
        except LeaseLostError:
            assert worker.session not in self.sessions
            return None
        assert worker.session in self.sessions
        return answer

    def in_hand(self, worker: Worker, places: set[int]) -> list[Job]:
        """Return the jobs at these places of what a worker has read; what is drawn must not depend on ids."""
        return [worker.jobs[job] for place, job in enumerate(sorted(worker.jobs)) if place in places]

    def knows(self, job: Job) -> bool:
        return job.id in self.jobs and self.jobs[job.id].attempts == job.attempts

    def tried(self, worker: Worker, job: Job) -> None:
        self.attempts.append((job.id, self.session_of(worker), job.attempts + 1))

    def session_of(self, worker: Worker) -> SessionId:
        assert worker.session is not None
        return worker.session


def attempt(job: Job) -> AttemptRow:
    number = job.attempts + 1
    return AttemptRow(job.id, job.event, TenantId("acme"), job.connection, job.route, number, "Tried", 503, 1, 1, None)


def test_the_database_agrees_with_the_model_whatever_workers_do(layer: "Layer") -> None:
    with asyncio.Runner() as runner:
        for number in range(LANES):
            runner.run(layer.publish(name=f"hook-{number}"))
        layer.opened.clear()
        for _ in WORKERS:
            runner.run(layer.connect("pool_a"))
        pool = layer.published["acme/hook-0"].pool
        run_state_machine_as_test(
            lambda: Protocol(layer, runner.run, pool),
            settings=settings(
                max_examples=30,
                stateful_step_count=40,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
