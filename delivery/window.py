"""The jobs of a lane in its owner's memory: which of them may start next, and in what order.

No I/O. The owner feeds jobs in the order of their ids and tells how their attempts ended.

Order per subject. At most one job of a subject is *active* (ready, under way, or waiting for its result to be written
down); later ones stand behind it. The active job gives way only when its result has been committed: a worker that is
killed in between sends it again before anything later of that subject, so a repeat never follows a later event.
A deferred job sets its subject aside: what stands behind it, and what comes later, is *held* in the database, costs
no memory, and is fetched when the deferred job has ended. So a failing subject delays nobody but itself. A dead letter
that blocks sets its subject aside as well, until the lane is loaded without it.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from contracts.ids import JobId
from store.jobs import EventRow, Job
from store.lanes import LaneRow

if TYPE_CHECKING:
    from delivery.lane import Lane

WINDOW = 500
"""Jobs that a lane keeps in memory at most, but for one that sends more at once; more stay in the database until there
is room."""

BEHIND_LIMIT = 16
"""Jobs of one subject that wait in memory; more are held in the database: one subject must not fill the window."""

HELD_AHEAD_LIMIT = 10_000
"""Held jobs that a lane looks past in search of other subjects; at more it waits for its subjects to move."""


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


class Window:
    """The jobs of one lane that are in memory, and what is known of those that are not."""

    def __init__(self, lane: "Lane") -> None:
        self._lane = lane
        self.most = WINDOW
        self.size = WINDOW
        self.waiting = 0
        self.backlogged = True
        self.cursor = JobId(0)
        self.held_ahead = 0
        self.held_gate = JobId(0)
        self.held_wanted: set[int] = set()
        self.held_subjects: set[int] = set()
        self.deferred_subjects: set[int] = set()
        self.to_hold: list[JobId] = []
        self.next_due: float | None = None
        self._entries: dict[JobId, Entry] = {}
        self._ready: deque[Entry] = deque()
        self._behind: dict[int, deque[Entry]] = {}
        self._being_read = False
        self._ended: set[JobId] = set()
        self._set_aside: set[int] = set()
        self._freed: set[int] = set()

    def load(self, row: LaneRow, now: float) -> None:
        """Take over what the database says waits, and forget what has not started; it is read again from there."""
        if row.next_due_in_seconds is not None:
            self.next_due = min(now + row.next_due_in_seconds, self.next_due or now + row.next_due_in_seconds)
        self.cursor = JobId(0)
        self.held_ahead = 0
        self.forget_waiting()
        # The deferred job of a subject under way is the one under way; what ended since the row was read is not in it.
        self.deferred_subjects = (set(row.deferred_subjects) - self._behind.keys() - self._freed) | self._set_aside
        self.held_subjects = set(row.held_subjects)
        # Ready jobs that stood in memory before held ones of their subject are read again first: see `in_order`.
        self.held_gate = row.last_held or JobId(0)
        self.held_wanted = self.held_subjects - self.deferred_subjects - self._behind.keys()

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

    # Feeding ---------------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether more jobs should be read from the database."""
        looks_ahead = self.held_ahead < HELD_AHEAD_LIMIT or self.cursor < self.held_gate
        return self.waiting <= self.size // 2 and looks_ahead

    @property
    def is_full(self) -> bool:
        """Whether no new job can be taken."""
        return self.waiting >= self.size or self.held_ahead >= HELD_AHEAD_LIMIT

    @property
    def in_order(self) -> bool:
        """Whether held jobs can be fetched in order.

        A lane just loaded may have ready jobs of a subject that are older than its held ones. Read in order, they are
        held as well; once the last held job's id is passed, the held ones of a subject are all there is of it.
        """
        return self.cursor >= self.held_gate or not self.backlogged

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits to be written down: the lane can change hands.

        Jobs being held count: written after the next owner has read the lane, they would be held from it, too.
        """
        return len(self._entries) == self.waiting and not self.to_hold

    def feed(self, job: Job) -> Entry | None:
        """Take the next ready job in order; None if it is known already or must be held (see `to_hold`)."""
        self.cursor = job.id
        if self.knows(job):
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
        if self.knows(job):
            return None
        if job.subject is not None:
            self.deferred_subjects.discard(job.subject)
        return self._accept(job)

    def knows(self, job: Job) -> bool:
        """Whether a job is in memory, or has just left it."""
        return job.id in self._entries or job.id in self._ended

    def due_superseded(self, subject: int) -> None:
        """Note that the deferred job of a subject is gone, superseded by one of those held behind it."""
        self.deferred_subjects.discard(subject)
        if subject in self.held_subjects:
            self.held_wanted.add(subject)

    def superseder(self, entry: Entry) -> Entry | None:
        """Return the newest job in memory that says the same as a started one and more lately."""
        subject, event = entry.job.subject, entry.event
        if subject is None or event is None:
            return None
        for later in reversed(self._behind.get(subject, ())):
            if later.event is not None and (later.job.route, later.event.type) == (entry.job.route, event.type):
                return later
        return None

    def feed_held(self, subject: int, jobs: Sequence[Job], *, all_of_them: bool) -> list[Entry]:
        """Take held jobs of a subject whose earlier ones have ended, in order."""
        self.held_wanted.discard(subject)
        if all_of_them:
            self.held_subjects.discard(subject)
        accepted = [self._accept(job) for job in jobs if not self.knows(job)]
        self.held_ahead = max(0, self.held_ahead - len(accepted))
        return accepted

    def feed_probe(self, job: Job) -> Entry | None:
        """Take the one job that tries whether a quarantined partner is back; it starts at once."""
        if self.knows(job):
            return None
        entry = self._new_entry(job)
        entry.started = entry.probe = True
        if job.subject is not None:
            self._behind.setdefault(job.subject, deque())
        return entry

    def held(self, jobs: Sequence[JobId]) -> None:
        """Note that ready jobs were set aside in the database."""
        written = set(jobs)
        self.to_hold = [job for job in self.to_hold if job not in written]

    # Starting and ending ---------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether there is a job that may start."""
        return bool(self._ready) and self._ready[0].loaded

    @property
    def ready(self) -> int:
        """How many jobs may start once their events are loaded."""
        return len(self._ready)

    @property
    def has_ready(self) -> bool:
        """Whether there is a job that may start once its event is loaded."""
        return bool(self._ready)

    def start(self) -> Entry:
        """Take the next job; call only when `is_ready`."""
        entry = self._ready.popleft()
        entry.started = True
        self.waiting -= 1
        return entry

    def put_back(self, entry: Entry) -> None:
        """Return a started job to the front."""
        entry.started = False
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
        self.next_due = due if self.next_due is None else min(self.next_due, due)
        self.set_aside(entry)

    def set_aside(self, entry: Entry) -> None:
        """Note that a job's end is committed and that its subject waits: for its next attempt, or for a person."""
        self._note_end(entry)
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

    def forget_waiting(self) -> None:
        """Forget what has not started; it is read again from the database."""
        self._entries = {job: entry for job, entry in self._entries.items() if entry.started}
        self._ready = deque()
        self._behind = {entry.job.subject: deque() for entry in self._entries.values() if entry.job.subject is not None}
        self.to_hold = []
        self.held_wanted = set()
        self.waiting = 0
        self.backlogged = True

    # Within ----------------------------------------------------------------------------------------------------------

    def _new_entry(self, job: Job) -> Entry:
        entry = self._entries[job.id] = Entry(job, self._lane)
        return entry

    def _accept(self, job: Job) -> Entry:
        entry = self._new_entry(job)
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
