"""What one worker session owns right now: its lanes, its lease, and which lanes want something from the database.

The parts of a worker (`intake`, `sending`, `settling`, `keeping`) share one desk. After whatever happens to a lane,
`review` sorts it: it may start jobs, or wants jobs read, held ones fetched, or its row loaded anew.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from contracts.ids import ConnectionId, PoolId, RouteId, SessionId
from delivery.clock import DatabaseClock
from delivery.lag import LoopLag
from delivery.lane import Lane
from delivery.permits import Permits
from delivery.scheduler import Scheduler
from delivery.window import Entry
from store.jobs import Job

ALARM_SLACK_SECONDS = 0.01
"""An alarm that is set need not be set anew for less."""


class Desk:
    """The lanes of one session."""

    def __init__(self, pool: PoolId, session: SessionId, clock: DatabaseClock) -> None:
        self.pool = pool
        self.session = session
        self.clock = clock
        self.lanes: dict[ConnectionId, Lane] = {}
        self.route_names: dict[RouteId, str] = {}
        self.scheduler = Scheduler()
        self.lag = LoopLag()
        self.draining = False
        self.lease_until = 0.0
        self.jobs_wanted = asyncio.Event()
        self.tail_grew = False
        self.holding: set[Lane] = set()
        self.hungry: dict[Lane, None] = {}
        self.unblocked: set[Lane] = set()
        self.reloading: set[Lane] = set()
        self.due: set[Lane] = set()
        self.probing: set[Lane] = set()
        self.probes: deque[Entry] = deque()
        self.permits_wanted = asyncio.Event()
        self.drawing: set[Lane] = set()
        self.crowded: set[Lane] = set()
        self._alarms: list[tuple[float, int, Lane]] = []
        self._alarm_number = 0
        self._timer: asyncio.TimerHandle | None = None
        self.start_jobs: Callable[[], None] = lambda: None
        self.note_lane: Callable[[Lane], None] = lambda _: None

    def may_send(self) -> bool:
        """Whether new attempts may begin: not draining, and the lease is surely still ours.

        The lease is judged by the monotonic clock, from before the heartbeat was sent: a worker that was stopped past
        its lease finds that out here, before it sends, however its wall clock compares with the database's.
        """
        return not self.draining and time.monotonic() < self.lease_until

    def route_name(self, job: Job) -> str:
        """Return the name of a job's route."""
        return self.route_names.get(job.route, str(job.route))

    def review(self, lane: Lane, now: float) -> None:
        """Sort a lane after something happened to it."""
        if self.lanes.get(lane.id) is not lane:
            return
        if lane.next_turn <= now:
            lane.turn(now)
            if lane.changed:
                self.note_lane(lane)
        self._note_wishes(lane, now)
        if lane.permits is not None:
            self._note_draw(lane, lane.permits, now)
        self.scheduler.offer(lane, now)
        if self.scheduler.holds(lane) or not (wait := lane.seconds_until_start(now)):
            return
        if not now < lane.start_alarm <= now + wait + ALARM_SLACK_SECONDS:
            lane.start_alarm = now + wait
            self.set_alarm(lane, lane.start_alarm)

    def _note_wishes(self, lane: Lane, now: float) -> None:
        """Note what the lane wants from the database."""
        if lane.jobs.to_hold:
            self.holding.add(lane)
        if lane.may_reload:
            self.reloading.add(lane)
        if lane.jobs.backlogged and lane.has_room:
            self.hungry[lane] = None
        if lane.jobs.held_wanted and lane.may_fetch_held:
            self.unblocked.add(lane)
        if lane.jobs.next_due is not None and lane.jobs.next_due <= now:
            self.due.add(lane)
        if lane.health.probe_at is not None and lane.health.probe_at <= now and lane.is_permitted(now):
            self.probing.add(lane)
        if self.holding or self.reloading or self.hungry or self.unblocked or self.due or self.probing:
            self.jobs_wanted.set()

    def _note_draw(self, lane: Lane, permits: Permits, now: float) -> None:
        """Note that the lane wants something of its scope, or have it looked at when it will."""
        at = permits.next_draw(0 if self.draining else lane.startable(now), lane.under_way, now)
        if at is None:
            return
        if at <= now:
            self.drawing.add(lane)
            self.permits_wanted.set()
        elif at < permits.alarm or permits.alarm <= now:
            permits.alarm = at
            self.set_alarm(lane, at)

    def ask_again(self) -> None:
        """Have all lanes under a scope ask, whatever they were told: its limits may have changed."""
        for lane in self.lanes.values():
            if lane.permits is not None:
                lane.permits.ask_at = 0.0

    def place_free(self) -> None:
        """Have lanes ask that wait until requests of others in their scope have ended."""
        if self.crowded:
            self.drawing |= self.crowded
            self.permits_wanted.set()

    def review_all(self) -> None:
        """Sort every lane anew: after a failure, and now and then, so that no lane can be forgotten for long."""
        now = time.monotonic()
        for lane in self.lanes.values():
            self.review(lane, now)
        self.start_jobs()

    def set_alarm(self, lane: Lane, at: float) -> None:
        """Have the lane looked at again at a time: a deferred job falls due, a probe, a pause or a token."""
        self._alarm_number += 1
        heappush(self._alarms, (at, self._alarm_number, lane))
        if self._alarms[0][1] == self._alarm_number:
            self._set_timer()

    def add(self, lane: Lane, now: float) -> None:
        """Take a lane."""
        self.lanes[lane.id] = lane
        self.arm(lane)
        self.review(lane, now)

    def remove(self, lane: Lane) -> None:
        """Give a lane up."""
        self.lanes.pop(lane.id, None)
        self.scheduler.forget(lane)
        self.hungry.pop(lane, None)
        reading = (self.holding, self.unblocked, self.reloading, self.due, self.probing)
        for wishes in (*reading, self.drawing, self.crowded):
            wishes.discard(lane)

    def arm(self, lane: Lane) -> None:
        """Set the alarms that a freshly loaded lane needs."""
        for at in (lane.jobs.next_due, lane.health.probe_at, lane.pace.paused_until):
            if at is not None:
                self.set_alarm(lane, at)

    def close(self) -> None:
        """Ring no more."""
        self._alarms.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, self._alarms[0][0] - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        now = time.monotonic()
        rung: set[Lane] = set()
        while self._alarms and self._alarms[0][0] <= now:
            rung.add(heappop(self._alarms)[2])
        for lane in rung:
            self.review(lane, now)
        if self._alarms:
            self._set_timer()
        self.start_jobs()
