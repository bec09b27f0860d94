"""How many jobs of which lanes are read at once, and how many may be in memory: tenants get the same.

What is in memory is what can be sent. If lanes were served alike, a tenant with 500 of them would have 500 times as
much to send as one with a single one until the next reading, whatever the scheduler does.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest

from contracts.ids import TenantId
from delivery.lane import Lane

LANES_AT_ONCE = 200
JOBS_AT_ONCE = 4_000
MEMORY_JOBS = 6_000
"""Jobs in memory over all lanes, give or take: with many backlogged lanes each gets a smaller window."""

WINDOW_AT_LEAST = 8
"""Jobs that a lane may have in memory, however many others are backlogged."""


def portions(hungry: Iterable[Lane], owned: Iterable[Lane], now: float) -> dict[Lane, int]:
    """Return how many jobs to read of which lanes, those first that come first, and give all of them their windows.

    Call with at least one hungry lane. A tenant that has something in memory has its share, although nothing may have
    to be read for it now; and one that has its share in memory, ready to be sent, can wait.
    """
    ready: Counter[TenantId] = Counter()
    for lane in owned:
        if lane.jobs.waiting:
            is_ready = lane.may_start(now) and not lane.pace.is_slow(lane.under_way, now)
            ready[lane.connection.tenant] += lane.jobs.waiting if is_ready else 0
    by_tenant: dict[TenantId, list[Lane]] = {}
    for lane in hungry:
        by_tenant.setdefault(lane.connection.tenant, []).append(lane)
    tenants = len(by_tenant.keys() | ready.keys())
    in_memory, at_once = MEMORY_JOBS // tenants, JOBS_AT_ONCE // tenants
    for lanes in by_tenant.values():
        for lane in lanes:
            lane.jobs.size = max(WINDOW_AT_LEAST, min(lane.jobs.most, in_memory // len(lanes)))
    queues = [
        _portions_of_tenant(lanes, min(at_once, max(WINDOW_AT_LEAST, in_memory) - ready[tenant]))
        for tenant, lanes in by_tenant.items()
    ]
    by_turns = (portion for turn in zip_longest(*queues) for portion in turn if portion is not None)
    return dict(islice(by_turns, LANES_AT_ONCE))


def _portions_of_tenant(lanes: list[Lane], jobs: int) -> Iterator[tuple[Lane, int]]:
    """Divide a tenant's jobs between its lanes, as far as they go."""
    part = max(WINDOW_AT_LEAST // 2, jobs // len(lanes))
    for lane in lanes:
        if jobs <= 0:
            return
        portion = min(part, max(1, lane.jobs.size - lane.jobs.waiting))
        jobs -= portion
        yield lane, portion
