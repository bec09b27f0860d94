"""A lane in its owner's memory: which of its jobs may start, in what order, and what became of them.

No I/O and no clock of its own: `now` is always handed in, in seconds of the monotonic clock. The owner feeds jobs in
the order of their ids and tells how attempts ended; the lane says what may start next and what must be written.

Order per subject. At most one job of a subject is *active* (ready, under way, or waiting for its result to be written
down); later ones stand behind it. The active job gives way only when its result has been committed: a worker that is
killed in between sends it again before anything later of that subject, so a repeat never follows a later event.
A deferred job sets its subject aside: what stands behind it, and what comes later, is *held* in the database, costs
no memory, and is fetched when the deferred job has ended. So a failing subject delays nobody but itself.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from connectors.connector import Connection, Connector
from contracts.connection import DeliverySpec
from contracts.ids import ConnectionId, JobId
from delivery.throttle import TokenBucket
from store.jobs import EventRow, Job, LaneChange
from store.lanes import LaneRow

WINDOW = 200
"""Jobs that a lane keeps in memory at most; more stay in the database until there is room."""

BEHIND_LIMIT = 16
"""Jobs of one subject that wait in memory; more are held in the database: one subject must not fill the window."""

HELD_AHEAD_LIMIT = 10_000
"""Held jobs that a lane looks past in search of other subjects; at more it waits for its subjects to move."""

LONGEST_PROBE_INTERVAL_SECONDS = 3600.0


class LaneState(StrEnum):
    """What a lane's row says."""

    OPEN = "Open"
    QUARANTINED = "Quarantined"


class Entry:
    """A job in memory. Once `loaded`, `event` is there unless it cannot be read any more."""

    __slots__ = ("event", "job", "lane", "loaded", "probe", "started")

    def __init__(self, job: Job, lane: "Lane") -> None:
        self.job = job
        self.lane = lane
        self.event: EventRow | None = None
        self.loaded = False
        self.started = False
        self.probe = False


class Lane:
    """One connection's jobs and runtime state, owned by this process."""

    def __init__(self, connection: Connection, connector: Connector, row: LaneRow, now: float) -> None:
        self.id: ConnectionId = row.connection
        self.connection = connection
        self.connector = connector
        self.generation = row.generation
        throttle = connection.spec.delivery.throttle
        # No tokens in the row: its last owner died with them in hand and may have spent them all.
        tokens = 0.0
        if row.tokens is not None:
            tokens = row.tokens + (row.tokens_age_seconds or 0.0) * throttle.requests_per_second
        self.bucket = TokenBucket(throttle.requests_per_second, float(throttle.burst), now, tokens)
        self.under_way = 0
        self.throttled_in_a_row = 0
        self.window = WINDOW
        self.in_ring = False
        self.start_alarm = 0.0
        self.releasing = False
        self.waiting = 0
        self.backlogged = True
        self.held_wanted: set[int] = set()
        self._entries: dict[JobId, Entry] = {}
        self._ready: deque[Entry] = deque()
        self._behind: dict[int, deque[Entry]] = {}
        self.to_hold: list[JobId] = []
        self.next_due: float | None = None
        self._being_read = False
        self._ended: set[JobId] = set()
        self._set_aside: set[int] = set()
        self._freed: set[int] = set()
        self.load(row, now)

    # The row in the database -----------------------------------------------------------------------------------------

    def load(self, row: LaneRow, now: float) -> None:
        """Take over what the database says and forget what has not started; it is read again from there."""
        self.state = LaneState(row.state)
        self.revision = row.revision
        self.suspended = row.suspended
        self.consecutive_failures = row.consecutive_failures
        self.quarantine_reason = row.quarantine_reason
        self.probes = row.probes
        self.probe_at = None if row.probe_in_seconds is None else now + row.probe_in_seconds
        self.paused_until = now + (row.paused_for_seconds or 0.0)
        if row.next_due_in_seconds is not None:
            self.next_due = min(now + row.next_due_in_seconds, self.next_due or now + row.next_due_in_seconds)
        self.cursor = JobId(0)
        self.changed = False
        self.reload_wanted = False
        self.held_ahead = 0
        self._forget_waiting()
        # The deferred job of a subject under way is the one under way; what ended since the row was read is not in it.
        self.deferred_subjects = (set(row.deferred_subjects) - self._behind.keys() - self._freed) | self._set_aside
        self.held_subjects = set(row.held_subjects)
        # Ready jobs that stood in memory before held ones of their subject are read again first: see `may_fetch_held`.
        self.held_gate = row.last_held or JobId(0)
        self.held_wanted = self.held_subjects - self.deferred_subjects - self._behind.keys()

    def reconfigure(self, connection: Connection, connector: Connector, generation: int, now: float) -> None:
        """Take over a changed spec."""
        self.connection = connection
        self.connector = connector
        self.generation = generation
        throttle = connection.spec.delivery.throttle
        self.bucket.resize(throttle.requests_per_second, float(throttle.burst), now)

    @property
    def delivery(self) -> DeliverySpec:
        """The delivery part of the spec in force."""
        return self.connection.spec.delivery

    def change(self, now: float) -> LaneChange:
        """Return the runtime state, to be written."""
        return LaneChange(
            self.id,
            self.revision,
            self.state.value,
            self.consecutive_failures,
            self.quarantine_reason,
            self.probes,
            None if self.probe_at is None else max(self.probe_at - now, 0.0),
            None if self.paused_until <= now else self.paused_until - now,
        )

    @contextmanager
    def being_read(self) -> Iterator[None]:
        """Read and feed jobs, or load the row, within this: what ends meanwhile may be in the answer, out of date."""
        self._being_read = True
        try:
            yield
        finally:
            self._being_read = False
            self._ended.clear()
            self._set_aside.clear()
            self._freed.clear()

    def _note_end(self, entry: Entry) -> None:
        self._entries.pop(entry.job.id, None)
        if self._being_read:
            self._ended.add(entry.job.id)

    def _knows(self, job: Job) -> bool:
        return job.id in self._entries or job.id in self._ended

    # Feeding ---------------------------------------------------------------------------------------------------------

    @property
    def delivers(self) -> bool:
        """Whether jobs may start at all."""
        return self.state is LaneState.OPEN and not (self.suspended or self.releasing or self.reload_wanted)

    @property
    def has_room(self) -> bool:
        """Whether more jobs should be read from the database."""
        looks_ahead = self.held_ahead < HELD_AHEAD_LIMIT or self.cursor < self.held_gate
        return self.delivers and self.waiting <= self.window // 2 and looks_ahead

    @property
    def may_fetch_held(self) -> bool:
        """Whether held jobs can be fetched in order.

        A lane just loaded may have ready jobs of a subject that are older than its held ones. Read in order, they are
        held as well; once the last held job's id is passed, the held ones of a subject are all there is of it.
        """
        return self.delivers and (self.cursor >= self.held_gate or not self.backlogged)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits to be written down: the lane can change hands.

        Jobs being held count: written after the next owner has read the lane, they would be held from it, too.
        """
        return len(self._entries) == self.waiting and not self.to_hold

    def feed_tail(self, job: Job) -> Entry | None:
        """Offer a job that is new in the database; a lane that has no room reads it from there later."""
        if self.backlogged or job.id <= self.cursor:
            return None
        if not self.delivers or self.waiting >= self.window or self.held_ahead >= HELD_AHEAD_LIMIT:
            self.backlogged = True
            return None
        return self.feed(job)

    def feed(self, job: Job) -> Entry | None:
        """Take the next ready job in order; None if it is known already or must be held (see `to_hold`)."""
        self.cursor = job.id
        if self._knows(job):
            return None
        subject = job.subject
        if subject is not None:
            queue = self._behind.get(subject)
            aside = subject in self.deferred_subjects or subject in self.held_subjects
            if aside or (queue is not None and len(queue) >= BEHIND_LIMIT):
                self._hold(job)
                return None
        return self._accept(job)

    def feed_due(self, job: Job) -> Entry | None:
        """Take a deferred job whose time has come; None if it is known already."""
        if self._knows(job):
            return None
        if job.subject is not None:
            self.deferred_subjects.discard(job.subject)
        return self._accept(job)

    def feed_held(self, subject: int, jobs: Sequence[Job], *, all_of_them: bool) -> list[Entry]:
        """Take held jobs of a subject whose earlier ones have ended, in order."""
        self.held_wanted.discard(subject)
        if all_of_them:
            self.held_subjects.discard(subject)
        accepted = [self._accept(job) for job in jobs if not self._knows(job)]
        self.held_ahead = max(0, self.held_ahead - len(accepted))
        return accepted

    def feed_probe(self, job: Job) -> Entry | None:
        """Take the one job that tries whether a quarantined partner is back; it starts at once."""
        if self._knows(job):
            return None
        entry = Entry(job, self)
        entry.started = entry.probe = True
        self._entries[job.id] = entry
        if job.subject is not None:
            self._behind.setdefault(job.subject, deque())
        self.under_way += 1
        self.probe_at = None
        return entry

    def held(self, jobs: Sequence[JobId]) -> None:
        """Note that ready jobs were set aside in the database."""
        written = set(jobs)
        self.to_hold = [job for job in self.to_hold if job not in written]

    # Starting --------------------------------------------------------------------------------------------------------

    def may_start(self, now: float) -> bool:
        """Whether a job may start at `now`."""
        return (
            bool(self._ready)
            and self._ready[0].loaded
            and self.delivers
            and self.under_way < self.delivery.throttle.concurrency
            and now >= self.paused_until
            and self.bucket.available(now) >= 1
        )

    def seconds_until_start(self, now: float) -> float | None:
        """Return how long until time alone lets a job start; None if something else has to happen first."""
        if not self._ready or not self.delivers or self.under_way >= self.delivery.throttle.concurrency:
            return None
        return max(self.paused_until - now, self.bucket.seconds_until_next(now), 0.0)

    def start(self, now: float) -> Entry:
        """Start the next job; call only when `may_start`."""
        self.bucket.take(now)
        entry = self._ready.popleft()
        entry.started = True
        self.waiting -= 1
        self.under_way += 1
        return entry

    # Ending ----------------------------------------------------------------------------------------------------------

    def put_back(self, entry: Entry) -> None:
        """Return a started job to the front: it has not been tried, or the lane pauses."""
        entry.started = False
        if self.state is LaneState.QUARANTINED or self.reload_wanted:
            self.drop(entry)
        else:
            self._ready.appendleft(entry)
            self.waiting += 1

    def drop(self, entry: Entry) -> None:
        """Forget a started job of a lane that is about to be loaded anew; it is still in the database."""
        self._entries.pop(entry.job.id, None)
        if entry.job.subject is not None:
            self._behind.pop(entry.job.subject, None)

    def settled(self, entry: Entry) -> None:
        """Note that a job's end is committed; the next of its subject may go."""
        self._note_end(entry)
        subject = entry.job.subject
        if subject is None:
            return
        # Was a deferral what held the subject up, it was this job's own: the row may have been read while it ran.
        self.deferred_subjects.discard(subject)
        if self._being_read:
            self._freed.add(subject)
            self._set_aside.discard(subject)
        queue = self._behind.get(subject)
        if queue:
            self._ready.appendleft(queue.popleft())
        else:
            self._behind.pop(subject, None)
            if subject in self.held_subjects:
                self.held_wanted.add(subject)

    def deferred(self, entry: Entry, due: float) -> None:
        """Note that a job's deferral until `due` is committed; its subject stands aside."""
        self._note_end(entry)
        self.next_due = due if self.next_due is None else min(self.next_due, due)
        subject = entry.job.subject
        if subject is None:
            return
        self.deferred_subjects.add(subject)
        if self._being_read:
            self._set_aside.add(subject)
            self._freed.discard(subject)
        for behind in self._behind.pop(subject, ()):
            self._entries.pop(behind.job.id, None)
            self.waiting -= 1
            self._hold(behind.job)

    def succeeded(self) -> None:
        """Note a success for the lane's health."""
        self.throttled_in_a_row = 0
        if self.consecutive_failures:
            self.consecutive_failures = 0
            self.changed = True

    def failed(self, now: float, detail: str) -> None:
        """Note a failure for the lane's health; enough of them in a row quarantine it."""
        self.consecutive_failures += 1
        self.changed = True
        limit = self.delivery.quarantine.consecutive_failures
        if self.state is LaneState.OPEN and self.consecutive_failures >= limit:
            self.quarantine(now, f"ConsecutiveFailures: {limit}; the last: {detail}", probing=True)

    def paused(self, until: float) -> None:
        """Note that the partner asked for silence."""
        self.throttled_in_a_row += 1
        self.paused_until = max(self.paused_until, until)
        self.changed = True

    def quarantine(self, now: float, reason: str, *, probing: bool) -> None:
        """Stop the lane; its backlog stays in the database."""
        self.state = LaneState.QUARANTINED
        self.quarantine_reason = reason[:500]
        self.probes = 0
        self.probe_at = now + self.delivery.quarantine.probe_interval.total_seconds() if probing else None
        self.changed = True
        self._forget_waiting()

    def probe_failed(self, now: float, reason: str, *, probing: bool) -> None:
        """Note that the partner is not back; try again after an interval that grows to an hour."""
        self.probes += 1
        interval = self.delivery.quarantine.probe_interval.total_seconds()
        longest = max(interval, LONGEST_PROBE_INTERVAL_SECONDS)
        self.probe_at = now + min(interval * 2 ** min(self.probes, 30), longest) if probing else None
        self.quarantine_reason = reason[:500]
        self.changed = True

    def reopen(self) -> None:
        """Leave quarantine; the lane delivers again once this is written and its jobs have been read anew."""
        self.state = LaneState.OPEN
        self.consecutive_failures = 0
        self.quarantine_reason = None
        self.probes = 0
        self.probe_at = None
        self.changed = True
        self.reload_wanted = True

    # Within ----------------------------------------------------------------------------------------------------------

    def _accept(self, job: Job) -> Entry:
        entry = Entry(job, self)
        self._entries[job.id] = entry
        self.waiting += 1
        subject = job.subject
        if subject is None:
            self._ready.append(entry)
        elif subject in self._behind:
            self._behind[subject].append(entry)
        else:
            self._behind[subject] = deque()
            self._ready.append(entry)
        return entry

    def _hold(self, job: Job) -> None:
        self.to_hold.append(job.id)
        self.held_ahead += 1
        if job.subject is not None:
            self.held_subjects.add(job.subject)

    def _forget_waiting(self) -> None:
        self._entries = {job: entry for job, entry in self._entries.items() if entry.started}
        self._ready = deque()
        self._behind = {entry.job.subject: deque() for entry in self._entries.values() if entry.job.subject is not None}
        self.to_hold = []
        self.held_wanted = set()
        self.waiting = 0
        self.backlogged = True
