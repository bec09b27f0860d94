"""Whether a limit that connections share holds, and is used, however many workers draw on it."""

import asyncio
from contextlib import ExitStack

from benchmarks.bed import Bed, Endpoint, Sink
from benchmarks.result import Result
from benchmarks.waiting import until

REPLICAS = 4
CONNECTIONS = 8
RATE = 100
BURST = 10
BUSY_WORKERS = "count(distinct owner) from integration.lane"


def deliveries_in(bed: Bed, seconds: int) -> int:
    """Return how many requests four workers send in so many seconds under one limit, from a backlog, when all run."""
    bed.reset()
    throttle = {"scope": "account", "requestsPerSecond": RATE, "burst": BURST, "concurrency": 64}
    events = RATE * (seconds + 30)
    with Sink(bed.directory) as sink:
        asyncio.run(bed.publish_each([Endpoint("t0", sink.url, {"throttle": throttle}) for _ in range(CONNECTIONS)]))
        bed.emit("t0", -(-events // CONNECTIONS))
        with ExitStack() as stack:
            stack.enter_context(bed.program("dispatcher"))
            for _ in range(REPLICAS):
                stack.enter_context(bed.program("worker"))
            until(
                lambda: bed.count("count(distinct owner) from integration.lane") == REPLICAS,
                "every worker has connections",
            )
            until(lambda: sink.count() > 2 * RATE, "requests flow")
            sink.take()
            until(lambda: sink.count() > RATE * (seconds + 2), f"{seconds} s have passed")
            arrivals = sorted(arrival.at for arrival in sink.take())
    begin = arrivals[0]
    return sum(at < begin + seconds for at in arrivals)


def results(bed: Bed, scale: float) -> list[Result]:
    """Run it."""
    seconds = max(5, int(60 * scale))
    delivered = deliveries_in(bed, seconds)
    allowed = RATE * seconds
    detail = f"{delivered:,} in {seconds} s by {REPLICAS} workers, {allowed:,} allowed"
    return [Result.at_most("throttle_error", abs(delivered / allowed - 1), 0.02, "of the limit", detail)]
