"""Who goes next: first fair between tenants, then between a tenant's connections by their weights.

Round robin over tenants that can start something, and within a tenant over its lanes, each of which has as many turns
in a row as its weight says: a tenant with 500 connections gets one tenant's share, and a connection with a million jobs
one connection's. Only lanes that can start are in the ring, so quarantined, paused, throttled and empty ones cost
nothing.

A worker's senders are shared likewise, so that partners that hang leave some to those that answer. One of eight is a
reserve. A tenant may occupy its share of the others; beyond that it takes another of the reserve only if as many as it
occupies would be left for each that has something to send. What a tenant may occupy is divided between its lanes by
their weights, with a reserve of one of sixteen that a lane does not touch beyond what it leaves, and one whose partner
is slow not at all. Who needs more free senders than there are waits beside the ring, in a crowd, until so many are free
or one of its own requests has ended.
"""

from collections import deque
from dataclasses import dataclass, field

from contracts.ids import ConnectionId, TenantId
from delivery.crowd import Crowd
from delivery.lane import Lane
from delivery.window import Entry

RESERVED_PART = 8
"""One of so many senders is kept for tenants that occupy few."""

RESERVED_PART_OF_TENANT = 16
"""One of so many that a tenant may occupy is kept for lanes that occupy few."""


@dataclass(slots=True)
class _Tenant:
    """What a tenant may start, in the order of its turns; what waits for senders; and what it has under way."""

    lanes: "deque[_Place]" = field(default_factory=deque)
    crowd: "Crowd[_Place]" = field(default_factory=Crowd)
    places: int = 0
    under_way: int = 0
    weight: int = 0
    in_ring: bool = False
    ticket: int = 0

    @property
    def needed(self) -> int | None:
        """How many senders must be left to it for one of its lanes to have a turn; None if none could start."""
        return 1 if self.lanes else self.crowd.needed


@dataclass(slots=True)
class _Place:
    """A lane with its tenant; `under_way` and `weight` are what of it is in the sums."""

    lane: Lane
    tenant: _Tenant
    turns_left: int = 0
    under_way: int = 0
    weight: int = 0
    entered: bool = False
    ticket: int = 0


class Scheduler:
    """The ring of tenants with lanes that can start a job, and the crowd beside it."""

    def __init__(self) -> None:
        self._tenants: dict[TenantId, _Tenant] = {}
        self._places: dict[ConnectionId, _Place] = {}
        self._ring: deque[_Tenant] = deque()
        self._crowd = Crowd[_Tenant]()
        self._under_way = 0
        self._active_tenants = 0

    def may_start(self, free: int) -> bool:
        """Whether some lane may have a job to start with so many senders free."""
        if self._ring:
            return True
        needed = self._crowd.needed
        return needed is not None and needed <= free

    def holds(self, lane: Lane) -> bool:
        """Whether the lane is in the ring or in the crowd."""
        place = self._places.get(lane.id)
        return place is not None and place.entered

    def offer(self, lane: Lane, now: float) -> None:
        """Take note of what a lane has under way, and put it into the ring if it can start and is not in it."""
        place = self._places.get(lane.id)
        if place is None:
            tenant = self._tenants.setdefault(lane.connection.tenant, _Tenant())
            tenant.places += 1
            place = self._places[lane.id] = _Place(lane, tenant)
        if not place.entered and lane.may_start(now):
            place.entered = True
            self._enter(place)
            self._enter_ring(place.tenant)
        self._note(place)

    def forget(self, lane: Lane) -> None:
        """Let a lane go that is no longer owned, with whatever it has under way."""
        place = self._places.pop(lane.id, None)
        if place is None:
            return
        tenant = place.tenant
        if place.entered and not place.ticket:
            tenant.lanes.remove(place)
        place.entered, place.ticket = False, 0
        self._count(place, under_way=0, weight=0)
        tenant.places -= 1
        if not tenant.places:
            del self._tenants[lane.connection.tenant]

    def next(self, now: float, free: int) -> tuple[Entry | None, list[Lane]]:
        """Start the next job, with so many senders free; also return the lanes that left because they cannot start."""
        left: list[Lane] = []
        while self._ring or self._readmit(free):
            tenant = self._ring.popleft()
            tenant.in_ring = False
            allowance = self._allowance(tenant, free)
            if tenant.crowd:
                for place in tenant.crowd.leave(allowance.left):
                    self._enter(place)
            if tenant.lanes and allowance.left:
                entry = self._take_turn(tenant, allowance, now, left)
                if entry is not None:
                    if tenant.needed is not None:
                        self._enter_ring(tenant)
                    return entry, left
                self._ring.appendleft(tenant)  # it has not had its turn
                tenant.in_ring = True
            elif (needed := tenant.needed) is not None:
                self._crowd.add(tenant, allowance.free_for(needed))
        return None, left

    def _take_turn(self, tenant: _Tenant, allowance: "_Allowance", now: float, left: list[Lane]) -> Entry | None:
        """Start a job of the tenant's first lane; without one, the lane has left the tenant's queue."""
        place = tenant.lanes[0]
        lane = place.lane
        entry: Entry | None = None
        if lane.may_start(now):
            needed = allowance.needed_by(lane, tenant.weight, now)
            if needed > allowance.left:
                tenant.crowd.add(tenant.lanes.popleft(), needed)
                return None
            entry = lane.start(now)
            place.turns_left -= 1
        if entry is None or not lane.may_start(now):
            tenant.lanes.popleft()
            place.entered = False
            left.append(lane)
        elif place.turns_left <= 0:
            tenant.lanes.rotate(-1)
            place.turns_left = lane.delivery.weight
        self._note(place)
        return entry

    def _allowance(self, tenant: _Tenant, free: int) -> "_Allowance":
        senders = free + self._under_way
        reserve = senders // RESERVED_PART
        return _Allowance(free, tenant.under_way, reserve, senders - reserve, max(1, self._active_tenants))

    # Ring and crowd --------------------------------------------------------------------------------------------------

    def _enter(self, place: _Place) -> None:
        place.ticket = 0
        place.turns_left = place.lane.delivery.weight
        place.tenant.lanes.append(place)

    def _enter_ring(self, tenant: _Tenant) -> None:
        tenant.ticket = 0
        if not tenant.in_ring:
            tenant.in_ring = True
            self._ring.append(tenant)

    def _readmit(self, free: int) -> bool:
        """Let those back into the ring for whom enough senders are free; return whether it has somebody."""
        for tenant in self._crowd.leave(free):
            self._enter_ring(tenant)
        return bool(self._ring)

    def _note(self, place: _Place) -> None:
        """Take note of what a lane has under way; with less than before, it or its tenant may have another turn."""
        under_way = place.lane.under_way
        has_less = under_way < place.under_way
        self._count(place, under_way, place.lane.delivery.weight if place.entered or under_way else 0)
        if has_less:
            following = place if place.ticket else place.tenant.crowd.let_one_out()
            if following is not None:
                self._enter(following)
            if place.tenant.needed is not None:
                self._enter_ring(place.tenant)

    def _count(self, place: _Place, under_way: int, weight: int) -> None:
        tenant = place.tenant
        was_active = tenant.weight > 0
        more = under_way - place.under_way
        tenant.under_way += more
        self._under_way += more
        tenant.weight += weight - place.weight
        self._active_tenants += (tenant.weight > 0) - was_active
        place.under_way, place.weight = under_way, weight


class _Allowance:
    """What a tenant that occupies so many senders may occupy besides, out of so many free ones."""

    __slots__ = ("_occupied", "_reserve", "_share", "_tenants", "left")

    def __init__(self, free: int, occupied: int, reserve: int, shared: int, tenants: int) -> None:
        self._occupied = occupied
        self._reserve = reserve
        self._share = shared // tenants
        self._tenants = tenants
        of_reserve = (free - occupied * tenants + tenants) // (tenants + 1)
        self.left = max(0, min(self._share - occupied, free - reserve), of_reserve)

    def needed_by(self, lane: Lane, weights: int, now: float) -> int:
        """Return how many senders must be left for a lane to take one; the tenant's active lanes weigh so much."""
        whole = self._occupied + self.left
        reserve = whole // RESERVED_PART_OF_TENANT
        if lane.pace.is_slow(lane.under_way, now):
            return lane.under_way + reserve + 1
        # A fraction is one more for whoever comes first.
        if lane.under_way < (whole - reserve) * lane.delivery.weight / max(1, weights):
            return min(lane.under_way, reserve) + 1
        return lane.under_way + 1

    def free_for(self, left: int) -> int:
        """Return how many senders must be free for so many to be left."""
        beyond_the_share = left * (self._tenants + 1) + (self._occupied - 1) * self._tenants
        return min(self._reserve + left, beyond_the_share) if self._share - self._occupied >= left else beyond_the_share
