"""What a delivery costs where there are many connections, and what a backlog costs a worker's memory."""

import asyncio
import time

from benchmarks.bed import Bed, Endpoint, Sink, cpu_of
from benchmarks.claims import JOBS
from benchmarks.isolation import until
from benchmarks.load import SCRIPT, arrived_all, programs
from benchmarks.result import Result

FAN_OUT = 10
PRODUCERS = 16
RATE = 100
"""Events a second: a thousand deliveries, which two cores do in either case without being short of CPU."""

BACKLOGGED = 100
SLOW = {"throttle": {"requestsPerSecond": 1, "burst": 1, "concurrency": 1}}
SETTLE_SECONDS = 10


def cpu_per_delivery(bed: Bed, connections: int, events: int) -> float:
    """Return CPU seconds a delivery of all programs and PostgreSQL, every event going to ten of the connections."""
    bed.reset()
    sink = Sink(bed.directory)
    tenants = connections // FAN_OUT
    script = f"\\set tenant (:client_id + {PRODUCERS} * :n) % {tenants}\n" + SCRIPT.replace("'t0'", "'t' || :tenant")
    try:
        asyncio.run(bed.publish(connections, url=sink.url, tenants=tenants))
        with programs(bed) as running:
            until(lambda: _owned(bed) == connections)
            time.sleep(SETTLE_SECONDS / 2)
            before = bed.postgres_cpu() + cpu_of(*running)
            options = ("-c", str(PRODUCERS), "-j", "1", "-t", str(events // PRODUCERS), "-R", str(RATE), "-D", "n=0")
            bed.pgbench(script, *options).communicate()
            deliveries = events // PRODUCERS * PRODUCERS * FAN_OUT
            arrived_all(sink, deliveries)
            return (bed.postgres_cpu() + cpu_of(*running) - before) / deliveries
    finally:
        sink.close()


def worker_memory(bed: Bed, backlog: int) -> float:
    """Return bytes that a worker holds for itself with so many jobs queued in a hundred slow lanes."""
    bed.reset()
    asyncio.run(bed.publish_each([Endpoint("t0", "http://127.0.0.1:9/", SLOW) for _ in range(BACKLOGGED)]))
    with bed.admin() as admin:
        admin.execute(
            "select integration.emit_events('t0', array_fill('ext.bench.event'::text, array[1000]), "
            "(select array_agg(i::text) from generate_series(1, 1000) i), "
            "(select array_agg(jsonb_build_object('id', i, 'name', repeat('x', 300))) from generate_series(1, 1000) i))"
        )
        if backlog:
            admin.execute(JOBS.format(connection=f"1 + i % {BACKLOGGED}", jobs=backlog))
        admin.execute("analyze integration.job")
    with bed.program("noop-worker") as worker:
        until(lambda: _owned(bed) == BACKLOGGED)
        time.sleep(SETTLE_SECONDS)
        return float(worker.memory_full_info().uss)


def results(bed: Bed, scale: float) -> list[Result]:
    """Run all of it."""
    events = max(160, int(3_000 * scale))
    few, many = 10, max(100, int(5_000 * min(1, 4 * scale)))
    at_few, at_many = cpu_per_delivery(bed, few, events), cpu_per_delivery(bed, many, events)
    detail = f"{at_many * 1e6:.0f} µs at {many:,} connections, {at_few * 1e6:.0f} µs at {few}"
    found = [Result.at_most("connections_cost_ratio", at_many / at_few, 1.2, "many / few", detail)]
    jobs = max(50_000, int(10_000_000 * scale))
    none, full = worker_memory(bed, 0), worker_memory(bed, jobs)
    detail = f"{full / 1e6:.1f} MB with {jobs:,} jobs, {none / 1e6:.1f} MB with none"
    found.append(Result.at_most("worker_backlog_mb", (full - none) / 1e6, 5, "MB", detail))
    return found


def _owned(bed: Bed) -> int:
    with bed.admin() as admin:
        row = admin.execute("select count(*) from integration.lane where owner is not null").fetchone()
    return row[0] if row else 0
