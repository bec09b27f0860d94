"""Real HTTP: closed loop (deliveries per second, CPU, statements, WAL) and open loop (latency by rate)."""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.bed import Bed, Sink, cpu_of
from benchmarks.result import Result, percentile

PRODUCERS = 32
# pgbench has no strings: a number names the subject, and the payload is made of constants, 300 bytes like a real one.
SCRIPT = """\\set n :n + 1
\\set subject :client_id * 10000000 + :n
select integration.emit_event('t0', 'company.updated', :subject::text,
  ('{"id":"' || :subject || '","name":"Kestrel Instruments GmbH","domains":["kestrel.example"],"country":"DE",\
"city":"Kiel","employees":412,"industry":"Measuring instruments","website":"https://www.kestrel.example",\
"note":"Publishes a catalogue of instruments for coastal weather stations and buoys."}')::jsonb);
"""


def closed_loop(bed: Bed, fan_out: int, seconds: int) -> dict[str, float]:
    """Let 32 producers commit single events as fast as they can; measure until everything has arrived."""
    bed.reset()
    with Sink(bed.directory) as sink:
        asyncio.run(bed.publish(fan_out, url=sink.url))
        with programs(bed) as running:
            warm_up(bed, sink, fan_out)
            with bed.admin() as admin:
                admin.execute("select pg_stat_statements_reset()")
                wal_before = admin.execute("select pg_current_wal_lsn()").fetchone()
            before = bed.postgres_cpu(), cpu_of(*running), cpu_of(sink.process)
            began = time.monotonic()
            producers = bed.pgbench(SCRIPT, "-c", str(PRODUCERS), "-j", "1", "-T", str(seconds), "-D", "n=0")
            in_time = _count_in(sink, seconds)
            output, _ = producers.communicate()
            events = int(_number(output, r"number of transactions actually processed: (\d+)"))
            arrived_all(sink, events * fan_out)
            took = time.monotonic() - began
            after = bed.postgres_cpu(), cpu_of(*running), cpu_of(sink.process)
            with bed.admin() as admin:
                statements = admin.execute(
                    "select coalesce(sum(calls), 0) from pg_stat_statements where query not like '%emit_event%' "
                    "and query !~* '^(begin|commit)' and query not like '%pg_stat%' and toplevel"
                ).fetchone()
                wal = admin.execute("select pg_current_wal_lsn() - %s::pg_lsn", wal_before or ("0/0",)).fetchone()
            deliveries = events * fan_out
            postgres, ours, sinks = (b - a for a, b in zip(before, after, strict=True))
            return {
                "deliveries": deliveries,
                "accepted_per_second": events / seconds,
                "per_second": deliveries / took,
                "per_second_while_producing": in_time / seconds,
                "postgres_us": postgres / deliveries * 1e6,
                "programs_us": ours / deliveries * 1e6,
                "sink_us": sinks / deliveries * 1e6,
                "statements": float((statements or (0,))[0]) / deliveries,
                "wal_bytes": float((wal or (0,))[0]) / deliveries,
            }


def open_loop(bed: Bed, rate: int, seconds: int) -> list[float]:
    """Emit at a fixed rate; return milliseconds from each producer's commit to the arrival at the sink."""
    bed.reset()
    with Sink(bed.directory) as sink:
        asyncio.run(bed.publish(1, url=sink.url))
        with programs(bed):
            warm_up(bed, sink, 1)
            return latencies(bed, sink, SCRIPT, rate, seconds)


def latencies(
    bed: Bed,
    sink: Sink,
    script: str,
    rate: int,
    seconds: int,
    *,
    first: int = 0,
    arrives: Callable[[int], bool] = lambda _: True,
) -> list[float]:
    """Run a script at a rate; return milliseconds from each commit to the arrival.

    The script counts its transactions in `n`, from `first`; `arrives` says of such a number whether its event will be
    remembered by the sink.
    """
    for old in bed.directory.glob("latency*"):
        old.unlink()
    sink.take()
    options = ("-c", "16", "-j", "1", "-T", str(seconds), "-R", str(rate), "-D", f"n={first}")
    output, _ = bed.pgbench(script, *options, "-l", "--log-prefix=latency").communicate()
    _number(output, r"number of transactions actually processed: (\d+)")
    committed = {
        str(client * 10_000_000 + first + transaction): at
        for client, transaction, at in _commits(bed.directory)
        if arrives(first + transaction)
    }
    arrived: dict[str, float] = {}
    deadline = time.monotonic() + 120
    while not committed.keys() <= arrived.keys():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(committed.keys() - arrived.keys())} of {len(committed)} events did not arrive")
        for arrival in sink.take():
            arrived.setdefault(subject_of(arrival.body), arrival.at)
        time.sleep(0.1)
    return [max(0.0, arrived[subject] - at) * 1000 for subject, at in committed.items()]


def results(bed: Bed, scale: float) -> list[Result]:
    """Run all of it; figures of one name differ in what their detail begins with."""
    found: list[Result] = []
    for fan_out, rate_goal, cpu_goal in ((1, 3600, 400), (10, 6700, 250)):
        # Each event is ten deliveries there, and all of them are waited for.
        run = closed_loop(bed, fan_out, max(2, int(30 * scale) if fan_out == 1 else int(10 * scale)))
        begin = f"fan-out {fan_out}: "
        detail = f"{begin}{run['deliveries']:,.0f} deliveries, producers committed {run['accepted_per_second']:,.0f}/s"
        found.append(Result.at_least("deliveries_per_second", run["per_second"], rate_goal, "1/s", detail))
        cpu = run["postgres_us"] + run["programs_us"]
        detail = (
            f"{begin}PostgreSQL {run['postgres_us']:.0f}, dispatcher and worker {run['programs_us']:.0f}; "
            f"the sink's {run['sink_us']:.0f} not counted"
        )
        found.append(Result.at_most("cpu_us_per_delivery", cpu, cpu_goal, "µs", detail))
        statements, wal = run["statements"], run["wal_bytes"]
        found.append(Result.at_most("sql_per_delivery", statements, 0.2, "statements", f"{begin}without emit_event"))
        wal_goal = 2000 if fan_out == 1 else None
        found.append(Result.at_most("wal_bytes_per_delivery", wal, wal_goal, "bytes", f"{begin}emit_event included"))
    goals = {200: (5, 25), 1000: (10, 50)}
    for rate in (50, 200, 500, 1000):
        waits = open_loop(bed, rate, max(2, int(20 * scale)))
        detail = f"{rate}/s: {len(waits)} events, the slowest {max(waits):.1f} ms"
        for name, share, goal in zip(("p50", "p99"), (0.5, 0.99), goals.get(rate, (None, None)), strict=True):
            found.append(Result.at_most(f"latency_{name}_ms", percentile(waits, share), goal, "ms", detail))
    return found


@contextmanager
def programs(bed: Bed) -> Iterator[tuple[psutil.Process, ...]]:
    """Run a dispatcher and a worker."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(bed.program(name)) for name in ("dispatcher", "worker"))


def warm_up(bed: Bed, sink: Sink, fan_out: int) -> None:
    """Send some events through before measuring: connections open, statements planned."""
    output, _ = bed.pgbench(SCRIPT, "-c", "4", "-t", "100", "-D", "n=9000000").communicate()
    if "processed: 400/400" not in output:
        raise RuntimeError(f"producers failed: {output}")
    arrived_all(sink, 400 * fan_out)
    sink.take()
    time.sleep(1.5)


def arrived_all(sink: Sink, expected: int) -> None:
    """Wait until so many requests have come."""
    deadline = time.monotonic() + 120
    while sink.count() < expected:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{sink.count()} of {expected} deliveries arrived")
        time.sleep(0.05)


def _count_in(sink: Sink, seconds: int) -> int:
    time.sleep(seconds)
    return sink.count()


def _number(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"pgbench said: {text}")
    return found.group(1)


def _commits(directory: Path) -> Iterator[tuple[int, int, float]]:
    """Read client, transaction and moment of each commit from pgbench's log."""
    for file in directory.glob("latency*"):
        for line in file.read_text().splitlines():
            client, transaction, _, _, seconds, micros = line.split()[:6]
            yield int(client), int(transaction), int(seconds) + int(micros) / 1e6


def subject_of(body: bytes) -> str:
    """Return the subject of an event that has arrived."""
    found = re.search(rb'"subject":"(\d+)"', body)
    return found.group(1).decode() if found else ""
