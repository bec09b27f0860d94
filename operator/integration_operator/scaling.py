"""How many workers a pool should have: pure arithmetic over what its connections wait for.

A connection belongs to one worker at a time, and its throttle bounds what any worker can do for it. So more workers
than connections with something to deliver do not help, nor do they help a connection that waits for its throttle:
only what the throttles let through within the target time counts as work.
"""

import math
from typing import Final

from store.pools import PoolDemand

WORKER_RATE: Final = 1_000.0
"""Deliveries a second that one worker is counted with; measured: over 3,000 on one core (`docs/performance.md`)."""

TARGET_SECONDS: Final = 30.0
"""The time in which a backlog should be gone."""


def wanted_workers(demand: PoolDemand | None, least: int, most: int) -> int:
    """Return the number of workers for a pool, within its bounds; no demand needs no worker."""
    if demand is None or not demand.lanes:
        return least
    work = sum(min(float(lane.backlog), lane.requests_per_second * TARGET_SECONDS) for lane in demand.lanes)
    workers = math.ceil(work / (WORKER_RATE * TARGET_SECONDS))
    return max(least, min(max(workers, 1), len(demand.lanes), most))
