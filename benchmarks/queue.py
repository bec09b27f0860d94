"""The queue without HTTP: what our rules cost beside the bare lease transactions that any such queue needs."""

import asyncio
import threading
import time

from benchmarks.bed import Bed
from benchmarks.result import Result, percentile

BATCH = 500
# The least a queue with leases does: take jobs in one transaction, delete them in another. The row holds what a worker
# must know, payload included, one index finds ready jobs, one the expired leases. No fairness, limits, order per
# subject or history.
BARE = """
create table bare_job (
    id bigint primary key, seq bigint not null, tenant_id int not null, connection_id int not null,
    event_id bigint not null, state smallint not null default 0, attempt smallint not null default 0,
    run_at timestamptz not null default now(), lease_until timestamptz, worker int, payload jsonb not null
) with (fillfactor = 80);
insert into bare_job (id, seq, tenant_id, connection_id, event_id, payload)
    select i, i, i % 100, i % 100, i, jsonb_build_object('id', i::text, 'name', 'Kestrel Instruments GmbH',
        'country', 'DE', 'city', 'Kiel', 'employees', 412, 'industry', 'Measuring instruments')
    from generate_series(1, {jobs}) i;

create index bare_first on bare_job (seq) where state = 0;
create index bare_lease on bare_job (lease_until) where state = 1;
"""
CLAIM = (
    "update bare_job set state = 1, attempt = attempt + 1, lease_until = now() + interval '60 s', worker = %s "
    "where id = any (array(select id from bare_job where state = 0 order by seq limit 500 for update skip locked)) "
    "returning *"
)
UNDISPATCHED = (
    "(select c.upper is not null or exists (select from integration.event e where e.xid >= pg_snapshot_xmax(c.lower)) "
    "from integration.dispatch_cursor c)"
)
FILL = """\\set tenant random(0, {last_tenant})
select integration.emit_events('t' || :tenant, array_fill('company.updated'::text, array[500]),
  (select array_agg((:client_id * 100000000 + :n * 500 + i)::text) from generate_series(1, 500) i),
  (select array_agg(jsonb_build_object('id', i::text, 'name', 'Kestrel Instruments GmbH', 'country', 'DE',
    'city', 'Kiel', 'employees', 412, 'industry', 'Measuring instruments')) from generate_series(1, 500) i));
\\set n :n + 1
"""


def lease_limit(bed: Bed, jobs: int) -> float:
    """Return jobs per second of the bare lease transaction pair, with one or two clients, whichever is more."""
    return max(_bare(bed, jobs, clients) for clients in (1, 2))


def noop_rate(bed: Bed, jobs: int) -> float:
    """Return no-op jobs per second of one worker with every rule in force, from a backlog."""
    bed.reset()
    asyncio.run(bed.publish(100, url="http://127.0.0.1:9/", tenants=100))
    fill(bed, jobs, tenants=100)
    with bed.program("noop-worker", senders="64"):
        drained(bed)
    return _attempts_per_second(bed)


def whole_life_rate(bed: Bed, events: int) -> float:
    """Return events per second emitted in batches, dispatched, claimed, completed and recorded, all at once."""
    bed.reset()
    asyncio.run(bed.publish(10, url="http://127.0.0.1:9/", tenants=10))
    with bed.program("dispatcher"), bed.program("noop-worker", senders="64"):
        time.sleep(2)
        began = time.time()
        _emit(bed, events, tenants=10)
        drained(bed)
    with bed.admin() as admin:
        row = admin.execute("select extract(epoch from max(at))::float8, count(*) from integration.attempt").fetchone()
    ended, done = row or (began, 0)
    return float(done / (ended - began))


def fairness(bed: Bed, big: int, small: int) -> tuple[float, float]:
    """Return the p99 wait (s) of jobs of 1,000 small connections alone, and beside one with `big` jobs queued first."""
    waits = []
    for queued_first in (0, big):
        bed.reset()
        sizes = [10] * 100 + [1]
        asyncio.run(bed.publish(0, url="http://127.0.0.1:9/", tenant_sizes=sizes))
        if queued_first:
            fill(bed, queued_first, tenants=1, first_tenant=100)
        fill(bed, small // 10, tenants=100)
        with bed.program("noop-worker", senders="64"):
            drained(bed, "where connection_id <= 1000")
        with bed.admin() as admin:
            rows = admin.execute(
                "select extract(epoch from at - (select min(at) from integration.attempt))::float8 "
                "from integration.attempt where connection_id <= 1000"
            ).fetchall()
        waits.append(percentile([row[0] for row in rows], 0.99))
    return waits[0], waits[1]


def results(bed: Bed, scale: float) -> list[Result]:
    """Run all of it."""
    jobs = max(20_000, int(400_000 * scale))
    limit = lease_limit(bed, jobs)
    found = [Result.at_least("lease_limit", limit, None, "jobs/s", "the denominator: bare claim + complete, batch 500")]
    noop = noop_rate(bed, jobs)
    found.append(Result.at_least("worker_noop_ratio", noop / limit, 0.6, "of the limit", f"{noop:,.0f} jobs/s"))
    whole = whole_life_rate(bed, jobs)
    found.append(Result.at_least("whole_life_ratio", whole / limit, 0.6, "of the limit", f"{whole:,.0f} events/s"))
    alone, beside = fairness(bed, max(20_000, int(1_000_000 * scale)), max(10_000, int(100_000 * scale)))
    detail = f"p99 wait {alone:.3f} s alone, {beside:.3f} s beside"
    found.append(Result.at_most("fairness_p99_ratio", beside / alone, 1.05, "beside / alone", detail))
    return found


def _bare(bed: Bed, jobs: int, clients: int) -> float:
    with bed.admin("postgres") as admin:
        admin.execute("drop table if exists bare_job")
        admin.execute(BARE.format(jobs=jobs))
        admin.execute("vacuum analyze bare_job")
    began = time.monotonic()
    threads = [threading.Thread(target=_claim_and_complete, args=(bed, number)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return jobs / (time.monotonic() - began)


def _claim_and_complete(bed: Bed, number: int) -> None:
    with bed.admin("postgres") as client:
        while ids := [row[0] for row in client.execute(CLAIM, (number,), prepare=True, binary=True).fetchall()]:
            client.execute("delete from bare_job where id = any (%s)", (ids,), prepare=True)


def _emit(bed: Bed, events: int, *, tenants: int, first_tenant: int = 0) -> None:
    script = FILL.format(last_tenant=tenants - 1).replace("'t' || :tenant", f"'t' || (:tenant + {first_tenant})")
    transactions = max(1, events // 500 // 2)
    output, _ = bed.pgbench(script, "-c", "2", "-j", "1", "-t", str(transactions), "-D", "n=0").communicate()
    if f"processed: {transactions * 2}/" not in output:
        raise RuntimeError(f"producers failed: {output}")


def fill(bed: Bed, events: int, *, tenants: int, first_tenant: int = 0) -> None:
    """Emit events and dispatch them, with no worker running."""
    _emit(bed, events, tenants=tenants, first_tenant=first_tenant)
    with bed.program("dispatcher"), bed.admin() as admin:
        while admin.execute(f"select {UNDISPATCHED}").fetchone() == (True,):
            time.sleep(0.2)
        admin.execute("vacuum analyze integration.job")


def drained(bed: Bed, which: str = "") -> None:
    """Wait until every event is dispatched and no job, or none of those in question, is left."""
    with bed.admin() as admin:
        while admin.execute(f"select {UNDISPATCHED} or exists (select from integration.job {which})").fetchone() == (
            True,
        ):
            time.sleep(0.25)


def _attempts_per_second(bed: Bed) -> float:
    with bed.admin() as admin:
        row = admin.execute(
            "select count(*) / extract(epoch from max(at) - min(at))::float8 from integration.attempt"
        ).fetchone()
    return float(row[0]) if row else 0.0
