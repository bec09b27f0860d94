"""A lane in its owner's memory: its jobs, its health and its pace, and whether a job may start.

No I/O and no clock of its own: `now` is always handed in, in seconds of the monotonic clock. The owner feeds jobs and
tells how attempts ended; the lane says what may start next and what must be written.
"""

import math

from connectors.connector import Connection, Connector, SendsMany
from contracts.delivery_spec import DeliverySpec, OnDeadLetter
from contracts.ids import ConnectionId
from delivery.gathering import Gathering
from delivery.health import Actor, Health, LaneState
from delivery.pace import Pace
from delivery.permits import Permits
from delivery.window import WINDOW, Entry, Window
from store.jobs import Job
from store.lanes import LaneRow
from store.settlement import LaneChange

TURN_SECONDS = 1.0
"""How often time alone may change something in a lane that has not all of its limits."""


class Lane:
    """One connection's jobs and runtime state, owned by this process."""

    def __init__(self, connection: Connection, connector: Connector, row: LaneRow, now: float) -> None:
        self.id: ConnectionId = row.connection
        self.connector = connector
        self.generation = row.generation
        self.jobs = Window(self)
        self._adopt(connection)
        self.health = Health(self.delivery.quarantine, row, now)
        self.pace = Pace(self.delivery.throttle, row, self.health.part, now)
        self.under_way = 0
        self.start_alarm = 0.0
        self.releasing = False
        self.being_written = False
        self.permits: Permits | None = None
        self.load(row, now)

    # The row in the database -----------------------------------------------------------------------------------------

    def load(self, row: LaneRow, now: float) -> None:
        """Take over what the database says and forget what has not started; it is read again from there."""
        self.health.load(row, now)
        self.pace.load(row, now)
        self.pace.allow(self.health.part, now)
        if row.scope != (self.permits and self.permits.scope):
            self.permits = None if row.scope is None else Permits(row.scope)
        self.next_turn = now
        self.revision = row.revision
        self.suspended = row.suspended
        self.changed = False
        self.reload_wanted = False
        self.jobs.load(row, now)
        if self.gathering is not None:
            self.gathering.restart()

    def reconfigure(self, connection: Connection, connector: Connector, generation: int, now: float) -> None:
        """Take over a changed spec."""
        self.connector = connector
        self.generation = generation
        self._adopt(connection)
        self.health.reconfigure(self.delivery.quarantine)
        self.pace.reconfigure(self.delivery.throttle, now)

    def _adopt(self, connection: Connection) -> None:
        routes = connection.spec.routes
        self.connection = connection
        self.delivery: DeliverySpec = connection.spec.delivery
        self.expire_after = connection.spec.delivery.retry.expire_after
        self.collapsing_routes = frozenset(route.name for route in routes if route.collapse)
        self.blocking_routes = frozenset(route.name for route in routes if route.on_dead_letter is OnDeadLetter.BLOCK)
        batch = self.connector.batch if isinstance(self.connector, SendsMany) else None
        self.gathering = None if batch is None else Gathering(batch)
        self.jobs.most = WINDOW if batch is None else max(WINDOW, 2 * batch.items)

    def change(self, now: float) -> LaneChange:
        """Return the runtime state, to be written."""
        health = self.health
        return LaneChange(
            self.id,
            self.revision,
            health.state.value,
            health.consecutive_failures,
            health.quarantine_reason,
            health.probes,
            None if health.probe_at is None else max(health.probe_at - now, 0.0),
            None if self.pace.paused_until <= now else self.pace.paused_until - now,
            None if health.asked_by is Actor.WORKER else health.asked_by.value,
            health.ramp_percent,
            *self.pace.tell(),
        )

    def turn(self, now: float) -> None:
        """Do what time alone brings; call when `next_turn` has come."""
        self.pace.rise(now)
        if self.health.pass_time(now):
            self._health_changed(now)
        self.changed = self.changed or self.pace.is_news
        unfinished = self.health.ramp_percent is not None or self.pace.is_lowered
        self.next_turn = now + TURN_SECONDS if unfinished else math.inf

    # Feeding and starting --------------------------------------------------------------------------------------------

    @property
    def delivers(self) -> bool:
        """Whether jobs may start at all."""
        return self.health.state is LaneState.OPEN and not (self.suspended or self.releasing or self.reload_wanted)

    @property
    def stands_still(self) -> bool:
        """Whether no job will start and none is under way: quarantined or suspended, and nothing is left to write."""
        stopped = self.suspended or self.health.state is LaneState.QUARANTINED
        return stopped and self.is_written and not (self.releasing or self.reload_wanted) and self.jobs.idle

    @property
    def may_reload(self) -> bool:
        """Whether its row should be read anew, and what is read will be no older than what was last written."""
        return self.reload_wanted and self.is_written

    @property
    def is_written(self) -> bool:
        """Whether the database knows all that was decided."""
        return not (self.changed or self.being_written)

    @property
    def can_change_hands(self) -> bool:
        """Whether nothing of it is under way, or waits to be written down, or to be told to its scope."""
        return self.jobs.idle and self.is_written and (self.permits is None or self.permits.all_told)

    @property
    def has_room(self) -> bool:
        """Whether more jobs should be read from the database."""
        return self.delivers and self.jobs.has_room

    @property
    def may_fetch_held(self) -> bool:
        """Whether held jobs can be fetched in order."""
        return self.delivers and self.jobs.in_order

    def feed_tail(self, job: Job) -> Entry | None:
        """Offer a job that is new in the database; a lane that has no room reads it from there later."""
        jobs = self.jobs
        if jobs.backlogged or job.id <= jobs.cursor:
            return None
        if not self.delivers or jobs.is_full:
            jobs.backlogged = True
            return None
        return jobs.feed(job)

    def feed_probe(self, job: Job, now: float) -> Entry | None:
        """Take the one job that tries whether the quarantined partner is back; it starts at once."""
        entry = self.jobs.feed_probe(job) if self.is_permitted(now) else None
        if entry is not None:
            self.pace.bucket.owe(now)
            if self.permits is not None:
                self.permits.use(now)
            self.under_way += 1
            self.health.probe_at = None
        return entry

    def may_start(self, now: float) -> bool:
        """Whether a job may start at `now`."""
        if not (self.jobs.is_ready and self.delivers):
            return False
        if self.gathering is not None and self.gathering.seconds_left(self.jobs, now):
            return False
        return self.pace.may_start(self.under_way, now) and self.is_permitted(now)

    def is_permitted(self, now: float) -> bool:
        """Whether the lane's scope, if it has one, lets a request start."""
        return self.permits is None or self.permits.usable(now)

    def startable(self, now: float) -> int:
        """Return how many requests could start now if the scope permits."""
        if self.health.probe_at is not None and self.health.probe_at <= now:
            return 0 if self.suspended or self.releasing else 1
        if not (self.jobs.is_ready and self.delivers):
            return 0
        requests = self.jobs.ready if self.gathering is None else self.gathering.requests(self.jobs, now)
        return min(requests, self.pace.room(self.under_way, now))

    def seconds_until_start(self, now: float) -> float | None:
        """Return how long until time alone lets a job start; None if something else has to happen first."""
        if not self.jobs.has_ready or not self.delivers:
            return None
        wait = self.pace.seconds_until_start(self.under_way, now)
        if wait is None or self.gathering is None:
            return wait
        return max(wait, self.gathering.seconds_left(self.jobs, now))

    def start(self, now: float) -> Entry:
        """Start the next job; call only when `may_start`."""
        pace = self.pace
        pace.bucket.take(now)
        if self.permits is not None:
            self.permits.use(now)
        if not self.under_way:
            pace.silent_since = now
        self.under_way += 1
        return self.jobs.start()

    def not_sent(self, entry: Entry, now: float) -> None:
        """Take back what starting a job cost, since it was not sent; another probe may start in the place of one."""
        self.request_saved(now)
        if entry.probe:
            self.health.probe_at = now

    def request_saved(self, now: float) -> None:
        """Take back what a request cost that was not made."""
        self.under_way -= 1
        self.pace.bucket.give_back(now)
        if self.permits is not None:
            self.permits.not_used()

    # Ending ----------------------------------------------------------------------------------------------------------

    def put_back(self, entry: Entry) -> None:
        """Return a started job to the front: it has not been tried, or the lane pauses."""
        if self.health.state is LaneState.QUARANTINED or self.reload_wanted:
            self.jobs.drop(entry)
        else:
            self.jobs.put_back(entry)

    def succeeded(self, now: float) -> None:
        """Note a success for the lane's health."""
        self.pace.throttled_in_a_row = 0
        if self.health.succeeded(now):
            self._health_changed(now)

    def failed(self, now: float, detail: str) -> None:
        """Note a failure for the lane's health; enough of them quarantine it."""
        self.changed = True
        reason = self.health.failed(now, detail)
        if reason is not None:
            self.quarantine(now, reason, probing=True)

    def answered(self, seconds: float, now: float) -> None:
        """Note that an attempt has ended, and how long it took."""
        self.under_way -= 1
        if self.pace.answered(seconds, now):
            self.next_turn = now

    def paused(self, until: float, now: float) -> None:
        """Note that the partner refused for its limits and asked for silence."""
        self.pace.refused(until, now)
        if self.permits is not None:
            self.permits.rest(until)
        self.next_turn = now
        self.changed = True

    def rest(self, until: float) -> None:
        """Note that the partner's budget is used up until then, although nothing was refused."""
        if self.permits is not None:
            self.permits.rest(until)
        if self.pace.rest(until):
            self.changed = True

    def quarantine(self, now: float, reason: str, *, probing: bool) -> None:
        """Stop the lane; its backlog stays in the database."""
        self.health.quarantine(now, reason, probing=probing)
        self.jobs.forget_waiting()
        self._health_changed(now)

    def probe_failed(self, now: float, reason: str, *, probing: bool) -> None:
        """Note that the partner is not back; try again after an interval that grows to an hour."""
        self.health.probe_failed(now, reason, probing=probing)
        self.changed = True

    def reopen(self, now: float, reason: str) -> None:
        """Leave quarantine; the lane delivers again once this is written and its jobs have been read anew."""
        self.health.reopen(now, reason)
        self._health_changed(now)
        self.reload_wanted = True

    def _health_changed(self, now: float) -> None:
        self.pace.allow(self.health.part, now)
        self.next_turn = now
        self.changed = True
