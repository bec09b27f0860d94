"""What claiming costs when the table is full of what must not be claimed.

The same work is timed twice: reading the next jobs of 100 lanes with their events, in an empty system and in one with
millions of jobs of backlog, half a million of them in quarantined lanes, and millions of dead rows that an open
transaction keeps from being removed. In both a worker is at work: its cursors are where its last jobs were.
"""

import asyncio
import time
from statistics import median

from benchmarks.bed import WORKER_ROLE, Bed
from benchmarks.result import Result
from contracts.ids import ConnectionId, JobId
from store.database import Database, connect
from store.jobs import lane_jobs, load_events

LANES = 100
ROUNDS = 40
JOBS_A_ROUND = 10
EVENTS = (
    "select integration.emit_events('t0', array_fill('ext.bench.event'::text, array[1000]), "
    "(select array_agg(i::text) from generate_series(1, 1000) i), "
    "(select array_agg(jsonb_build_object('id', i, 'name', repeat('x', 300))) from generate_series(1, 1000) i))"
)
JOBS = """
insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject)
select 1, nextval('integration.job_id'), {connection}, 1, id, at, i
from (
    select i, e.id, e.at from generate_series(1, {jobs}) i
    join (select id, at, row_number() over () as n from integration.event) e on e.n = 1 + i % 1000
    order by i
) numbered
"""


async def claim_seconds(bed: Bed, *, backlog: int, quarantined: int, dead: int) -> tuple[float, float]:
    """Return seconds a claimed job from known cursors, and seconds that a new owner's first read of all lanes takes."""
    bed.reset()
    await bed.publish(LANES * 2, url="http://127.0.0.1:9/", tenants=1)
    with bed.admin() as admin, bed.admin() as holder:
        admin.execute(EVENTS)
        admin.execute(
            "update integration.lane set state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'bench' "
            "where connection_id > %s",
            (LANES,),
        )
        admin.execute(JOBS.format(connection=f"{LANES + 1} + i % {LANES}", jobs=max(1, quarantined)))
        admin.execute(JOBS.format(connection=f"1 + i % {LANES}", jobs=max(1, dead)))
        row = admin.execute("select max(id) from integration.job").fetchone()
        cursor = JobId(row[0] if row else 0)
        needed = ROUNDS * JOBS_A_ROUND * LANES
        admin.execute(JOBS.format(connection=f"1 + i % {LANES}", jobs=max(needed, backlog)))
        admin.execute("analyze integration.job")
        holder.execute("begin isolation level repeatable read")
        holder.execute("select 1 from integration.job limit 1")
        admin.execute("delete from integration.job where id <= %s and connection_id <= %s", (cursor, LANES))
        async with await connect(bed.dsn(WORKER_ROLE), "bench", queue=True) as database:
            claims = [await _claim_round(database, cursor, number) for number in range(ROUNDS)]
            began = time.perf_counter()
            await lane_jobs(database, [(ConnectionId(lane), JobId(0), 1) for lane in range(1, LANES + 1)])
            first = time.perf_counter() - began
        holder.execute("rollback")
    return median(claims) / (LANES * JOBS_A_ROUND), first


async def _claim_round(database: Database, start: JobId, number: int) -> float:
    """Read the next ten jobs of each lane and their events; jobs were numbered round robin over the lanes."""
    cursor = JobId(start + number * LANES * JOBS_A_ROUND)
    began = time.perf_counter()
    jobs = await lane_jobs(database, [(ConnectionId(lane), cursor, JOBS_A_ROUND) for lane in range(1, LANES + 1)])
    await load_events(database, list({job.event: job.at for job in jobs}.items()))
    if len(jobs) != LANES * JOBS_A_ROUND:
        raise RuntimeError(f"{len(jobs)} jobs were found instead of {LANES * JOBS_A_ROUND}")
    return time.perf_counter() - began


def results(bed: Bed, scale: float) -> list[Result]:
    """Run it."""
    empty, first_empty = asyncio.run(claim_seconds(bed, backlog=0, quarantined=0, dead=0))
    full, first_full = asyncio.run(
        claim_seconds(
            bed, backlog=int(5_000_000 * scale), quarantined=int(500_000 * scale), dead=int(2_000_000 * scale)
        )
    )
    detail = (
        f"{full * 1e6:.2f} µs against {empty * 1e6:.2f} µs a job; a new owner's first read of {LANES} lanes: "
        f"{first_full * 1000:.0f} ms against {first_empty * 1000:.0f} ms"
    )
    return [Result.at_most("claim_backlog_ratio", full / empty, 1.5, "full / empty", detail)]
