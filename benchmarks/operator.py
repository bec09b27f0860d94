"""The operator with many connections: how long it takes to start, and what it costs when nothing changes.

Two sizes of one shape: ten connections to a tenant and so to a pool, each with its own Secret, in twenty namespaces.
"""

import signal
import time
from collections import Counter

from benchmarks.bed import Bed
from benchmarks.operator_bed import OperatorBed, open_operator_bed
from benchmarks.result import Result, percentile
from benchmarks.waiting import until

SIZES = (500, 5000)
SMALLEST = 40
SAMPLES = 40
SAMPLE_EVERY_SECONDS = 0.05


def results(bed: Bed, scale: float) -> list[Result]:
    """Run all of it for each size; figures of one name differ in what their detail begins with."""
    found: list[Result] = []
    for size in sorted({max(SMALLEST, int(size * scale)) for size in SIZES}):
        with open_operator_bed(bed, size) as operators:
            found += _results_at(operators, idle_seconds=max(10.0, min(120.0, 120.0 * scale)))
    return found


def _results_at(bed: OperatorBed, idle_seconds: float) -> list[Result]:
    begin = f"{bed.size} connections: "
    empty = _memory_when_empty(bed)
    bed.fill()
    return [
        *_cold_start(bed, begin, idle_seconds),
        *_warm_start(bed, begin, empty),
        *_news(bed, begin),
    ]


def _memory_when_empty(bed: OperatorBed) -> int:
    with bed.replica("empty") as replica:
        until(replica.is_ready, "the operator is ready")
        bed.wait_for_quiet()
        return replica.resident_bytes


def _cold_start(bed: OperatorBed, begin: str, idle_seconds: float) -> list[Result]:
    """Have an operator find everything new, then nothing to do."""
    mark, began = bed.mark(), time.monotonic()
    with bed.replica("cold"):
        bed.wait_for_readiness()
        took = time.monotonic() - began
        bed.wait_for_quiet()
        asked, written = len(bed.requests(mark)), len(bed.writes(mark))
        mark = bed.mark()
        time.sleep(idle_seconds)
        idle, idle_writes = bed.requests(mark), bed.writes(mark)
    detail = f"{begin}{bed.tenants} pools with children; {asked / bed.size:.1f} requests a connection"
    detail += f", {written / bed.size:.1f} of them writes"
    window = f"{begin}in {idle_seconds:.0f} s, all but the Lease"
    verbs = sorted({f"{record.verb} {record.resource}" for record in idle})
    return [
        Result.at_most("operator_cold_start_s", took, 60 if bed.size >= SIZES[-1] else None, "s", detail),
        Result.at_most("operator_idle_writes_per_minute", len(idle_writes) / idle_seconds * 60, 0, "1/min", window),
        Result.at_most(
            "operator_idle_requests_per_minute",
            len(idle) / idle_seconds * 60,
            6,
            "1/min",
            f"{window}: {', '.join(verbs) or 'none'}",
        ),
    ]


def _warm_start(bed: OperatorBed, begin: str, empty: int) -> list[Result]:
    """Have another operator find everything done."""
    mark, began = bed.mark(), time.monotonic()
    with bed.replica("warm") as replica:
        everything = Counter(connection=bed.size, pool=bed.tenants)
        # A page of metrics has a line for each connection: asking often would be part of what is measured.
        until(lambda: replica.reconciled() >= everything, "everything is reconciled", every_seconds=0.5)
        took = time.monotonic() - began
        bed.wait_for_quiet()
        written, asked = len(bed.writes(mark)), len(bed.requests(mark))
        full = replica.resident_bytes
    detail = f"{begin}{asked} requests"
    memory = f"{begin}{full / 2**20:.0f} MiB once started, and {empty / 2**20:.0f} without any"
    return [
        Result.at_most("operator_warm_start_s", took, None, "s", detail),
        Result.at_most("operator_warm_start_writes", written, 0, "writes", f"{begin}all but the Lease"),
        Result.at_most("operator_mb_per_1000", (full - empty) / 1e6 / bed.size * 1000, 25, "MB", memory),
    ]


def _news(bed: OperatorBed, begin: str) -> list[Result]:
    """Apply new connections to an operator that has everything else to look at again; then kill it."""
    with bed.replica("leader") as leader:
        until(lambda: leader.reconciled()["connection"] > 0, "the operator is at work")
        waits = bed.publish_new([f"new-{number}" for number in range(SAMPLES)], SAMPLE_EVERY_SECONDS)
        with bed.replica("standby") as standby:
            until(standby.is_ready, "the second replica is ready")
            bed.wait_for_quiet()
            began = time.monotonic()
            leader.process.send(signal.SIGKILL)
            bed.publish_new(["after-failover"], 0)
            took = time.monotonic() - began
    detail = f"{begin}{SAMPLES} new ones, from the request to the routing; median {percentile(waits, 0.5):.2f} s"
    failover = f"{begin}from kill -9 to the next publication"
    return [
        Result.at_most("operator_new_connection_p99_s", percentile(waits, 0.99), 2, "s", detail),
        Result.at_most("operator_failover_s", took, 20, "s", failover),
    ]
