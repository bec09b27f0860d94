"""Who goes next: first fair between tenants, then between a tenant's connections by their weights.

Round robin over tenants that can start something, and within a tenant over its lanes, each of which has as many turns
in a row as its weight says: a tenant with 500 connections gets one tenant's share, and a connection with a million jobs
one connection's. Only lanes that can start are in the ring, so quarantined, paused, throttled and empty ones cost
nothing.

A worker's senders are shared likewise: a lane that occupies as many as are free waits beside the ring until there are
more. So partners that hang, however many, never take the last sender from one that answers.
"""

from collections import deque

from contracts.ids import TenantId
from delivery.lane import Lane
from delivery.window import Entry


class Scheduler:
    """The ring of lanes that can start a job."""

    def __init__(self) -> None:
        self.reserve = 0
        self._tenants: deque[TenantId] = deque()
        self._lanes: dict[TenantId, deque[Lane]] = {}
        self._crowded: list[Lane] = []

    @property
    def has_lanes(self) -> bool:
        """Whether some lane may have a job to start."""
        return bool(self._tenants or self._crowded)

    def offer(self, lane: Lane, now: float) -> None:
        """Put a lane into the ring if it can start and is not in it."""
        if lane.in_ring or not lane.may_start(now):
            return
        lane.in_ring = True
        self._enter(lane)

    def next(self, now: float, free: int) -> tuple[Entry | None, list[Lane]]:
        """Start the next job, with so many senders free; also return the lanes that left because they cannot start."""
        left: list[Lane] = []
        if self._crowded:
            self._readmit(now, free)
        while self._tenants:
            tenant = self._tenants.popleft()
            lanes = self._lanes[tenant]
            lane = lanes[0]
            able = lane.may_start(now)
            entry = lane.start(now) if able and lane.may_take_sender(free, self.reserve, now) else None
            if entry is not None:
                able = lane.may_start(now)
                lane.turns_left -= 1
            if not able:
                lanes.popleft()
                lane.in_ring = False
                left.append(lane)
            elif entry is None:
                self._crowded.append(lanes.popleft())
            elif lane.turns_left <= 0:
                lanes.rotate(-1)
                lane.turns_left = lane.delivery.weight
            if not lanes:
                del self._lanes[tenant]
            elif entry is None:
                self._tenants.appendleft(tenant)  # it has not had its turn
            else:
                self._tenants.append(tenant)
            if entry is not None:
                return entry, left
        return None, left

    def _enter(self, lane: Lane) -> None:
        lane.turns_left = lane.delivery.weight
        tenant = lane.connection.tenant
        lanes = self._lanes.get(tenant)
        if lanes is None:
            self._lanes[tenant] = deque((lane,))
            self._tenants.append(tenant)
        else:
            lanes.append(lane)

    def _readmit(self, now: float, free: int) -> None:
        """Let those back in that may occupy another sender, and those that will find that they cannot start."""
        crowded, self._crowded = self._crowded, []
        for lane in crowded:
            if lane.may_take_sender(free, self.reserve, now) or not lane.may_start(now):
                self._enter(lane)
            else:
                self._crowded.append(lane)
