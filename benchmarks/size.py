"""What a delivery costs where there are many connections, and what a backlog costs a worker's memory."""

import asyncio
import time

from benchmarks.bed import Bed, Endpoint, Sink, cpu_of
from benchmarks.claims import EVENTS, JOBS
from benchmarks.load import SCRIPT, arrived_all, programs
from benchmarks.result import Result
from benchmarks.waiting import until

FAN_OUT = 10
PRODUCERS = 16
RATE = 100
"""Events a second: a thousand deliveries, which two cores do in either case without being short of CPU."""

BACKLOGGED = 100
OWNED = "count(*) from integration.lane where owner is not null"
SLOW = {"throttle": {"requestsPerSecond": 1, "burst": 1, "concurrency": 1}}


def cpu_per_delivery(bed: Bed, connections: int, events: int, settle_seconds: float) -> float:
    """Return CPU seconds a delivery of all programs and PostgreSQL, every event going to ten of the connections."""
    bed.reset()
    tenants = connections // FAN_OUT
    script = f"\\set tenant (:client_id + {PRODUCERS} * :n) % {tenants}\n" + SCRIPT.replace("'t0'", "'t' || :tenant")
    with Sink(bed.directory) as sink:
        asyncio.run(bed.publish(connections, url=sink.url, tenants=tenants))
        with programs(bed) as running:
            until(lambda: bed.count(OWNED) == connections, "every connection has a worker")
            time.sleep(settle_seconds)
            before = bed.postgres_cpu() + cpu_of(*running)
            options = ("-c", str(PRODUCERS), "-j", "1", "-t", str(events // PRODUCERS), "-R", str(RATE), "-D", "n=0")
            bed.pgbench(script, *options).communicate()
            deliveries = events // PRODUCERS * PRODUCERS * FAN_OUT
            arrived_all(sink, deliveries)
            return (bed.postgres_cpu() + cpu_of(*running) - before) / deliveries


def worker_memory(bed: Bed, backlog: int, settle_seconds: float) -> float:
    """Return bytes that a worker holds for itself with so many jobs queued in a hundred slow lanes."""
    bed.reset()
    asyncio.run(bed.publish_each([Endpoint("t0", "http://127.0.0.1:9/", SLOW) for _ in range(BACKLOGGED)]))
    with bed.admin() as admin:
        admin.execute(EVENTS)
        if backlog:
            admin.execute(JOBS.format(connection=f"1 + i % {BACKLOGGED}", jobs=backlog))
        admin.execute("analyze integration.job")
    with bed.program("noop-worker") as worker:
        until(lambda: bed.count(OWNED) == BACKLOGGED, "every connection has a worker")
        time.sleep(settle_seconds)
        return float(worker.memory_full_info().uss)


def results(bed: Bed, scale: float) -> list[Result]:
    """Run all of it."""
    events = max(160, int(3_000 * scale))
    few, many = 10, max(100, int(5_000 * min(1, 4 * scale)))
    settle = min(10, 2 + 40 * scale)
    at_few, at_many = (cpu_per_delivery(bed, number, events, settle) for number in (few, many))
    detail = f"{at_many * 1e6:.0f} µs at {many:,} connections, {at_few * 1e6:.0f} µs at {few}"
    found = [Result.at_most("connections_cost_ratio", at_many / at_few, 1.2, "many / few", detail)]
    jobs = max(50_000, int(10_000_000 * scale))
    none, full = (worker_memory(bed, number, settle) for number in (0, jobs))
    detail = f"{full / 1e6:.1f} MB with {jobs:,} jobs, {none / 1e6:.1f} MB with none"
    found.append(Result.at_most("worker_backlog_mb", (full - none) / 1e6, 5, "MB", detail))
    return found
