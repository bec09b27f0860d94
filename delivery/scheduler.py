"""Who goes next: first fair between tenants, then between a tenant's connections.

Round robin over tenants that can start something, and within a tenant over its lanes: a tenant with 500 connections
gets one tenant's share, and a connection with a million jobs one connection's. Only lanes that can start are in the
ring, so quarantined, paused, throttled and empty ones cost nothing.
"""

from collections import deque

from contracts.ids import TenantId
from delivery.lane import Lane
from delivery.window import Entry


class Scheduler:
    """The ring of lanes that can start a job."""

    def __init__(self) -> None:
        self._tenants: deque[TenantId] = deque()
        self._lanes: dict[TenantId, deque[Lane]] = {}

    @property
    def has_lanes(self) -> bool:
        """Whether some lane may have a job to start."""
        return bool(self._tenants)

    def offer(self, lane: Lane, now: float) -> None:
        """Put a lane into the ring if it can start and is not in it."""
        if lane.in_ring or not lane.may_start(now):
            return
        lane.in_ring = True
        tenant = lane.connection.tenant
        lanes = self._lanes.get(tenant)
        if lanes is None:
            self._lanes[tenant] = deque((lane,))
            self._tenants.append(tenant)
        else:
            lanes.append(lane)

    def next(self, now: float) -> tuple[Entry | None, list[Lane]]:
        """Start the next job; also return the lanes that left the ring because they cannot start now."""
        left: list[Lane] = []
        while self._tenants:
            tenant = self._tenants.popleft()
            lanes = self._lanes[tenant]
            lane = lanes.popleft()
            entry = lane.start(now) if lane.may_start(now) else None
            if lane.may_start(now):
                lanes.append(lane)
            else:
                lane.in_ring = False
                left.append(lane)
            if not lanes:
                del self._lanes[tenant]
            elif entry is None:
                self._tenants.appendleft(tenant)  # it has not had its turn
            else:
                self._tenants.append(tenant)
            if entry is not None:
                return entry, left
        return None, left
