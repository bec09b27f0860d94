"""What others must not notice: partners that misbehave, tenants with many connections, replays."""

import asyncio
import os
import subprocess
import sys
from collections import Counter

from benchmarks.bed import Bed, Endpoint, Sink
from benchmarks.load import SCRIPT, latencies, programs, warm_up
from benchmarks.queue import drained, fill
from benchmarks.result import Result, percentile
from benchmarks.waiting import until

HEALTHY = 49
ILL = ("hang", "drip", "limit")
HEALTHY_RATE = 160
"""Events a second to the healthy partners; the ill ones get a quarter of that besides, 20 % of all."""

TENANTS_OF_ONE = 20
CONNECTIONS_OF_MANY = 500
LIVE_RATE = 200
FIRST_LIVE = 5_000_000
"""Where live events begin to count, so that no replayed event has one of their subjects."""


def dead_partner(bed: Bed, seconds: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return latencies (ms) of 49 healthy partners alone, and beside one that hangs, one that drips and one with 429.

    All have the limits of a spec that says nothing of them, and a tenant of their own.
    """
    alone: list[float] = []
    beside: list[float] = []
    tenant = "'t' || :tenant"
    healthy_only = f"\\set tenant :n % {HEALTHY}\n" + SCRIPT.replace("'t0'", tenant)
    with_ill = (
        f"\\set tenant case when :n % 5 = 0 then {HEALTHY} + (:n / 5) % {len(ILL)} else :n % {HEALTHY} end\n"
        + SCRIPT.replace("'t0'", tenant)
    )
    for _ in range(rounds):
        bed.reset()
        with Sink(bed.directory) as sink:
            endpoints = [Endpoint(f"t{number}", sink.url, {}) for number in range(HEALTHY)]
            endpoints += [Endpoint(f"t{HEALTHY + i}", f"{sink.base_url}/{how}", {}) for i, how in enumerate(ILL)]
            asyncio.run(bed.publish_each(endpoints))
            with programs(bed):
                warm_up(bed, sink, 1)
                alone += latencies(bed, sink, healthy_only, HEALTHY_RATE, seconds)
                # The tenant is chosen before the script counts on: the number is one less there.
                beside += latencies(
                    bed,
                    sink,
                    with_ill,
                    HEALTHY_RATE * 5 // 4,
                    seconds,
                    first=1_000_000,
                    arrives=lambda number: (number - 1) % 5 != 0,
                )
    return alone, beside


def tenant_shares(bed: Bed, events: int) -> Counter[str]:
    """Return how much each tenant got while all had a backlog: one has 500 connections, 20 have one each."""
    bed.reset()
    with Sink(bed.directory) as sink:
        endpoints = [Endpoint("t0", f"{sink.url}/t0") for _ in range(CONNECTIONS_OF_MANY)]
        endpoints += [Endpoint(f"t{i}", f"{sink.url}/t{i}") for i in range(1, TENANTS_OF_ONE + 1)]
        asyncio.run(bed.publish_each(endpoints))
        of_many = -(-events // CONNECTIONS_OF_MANY) + 1
        for number in range(TENANTS_OF_ONE + 1):
            bed.emit(f"t{number}", events if number else of_many)
        jobs = events * TENANTS_OF_ONE + of_many * CONNECTIONS_OF_MANY
        with bed.program("dispatcher"):
            until(lambda: bed.count("count(*) from integration.job") == jobs, "everything is dispatched")
        with bed.program("worker"):
            until(lambda: sink.count() == jobs, "everything has arrived")
        arrivals = [arrival.path.removeprefix("/hook/") for arrival in sorted(sink.take())]
    return _while_all_wait(arrivals)


def _while_all_wait(arrivals: list[str]) -> Counter[str]:
    """Count arrivals by tenant, from when everybody has got something until somebody has got nine tenths of all."""
    queued, seen = Counter(arrivals), Counter[str]()
    begin: Counter[str] | None = None
    for tenant in arrivals:
        seen[tenant] += 1
        if begin is None and len(seen) == len(queued):
            begin = seen.copy()
        if begin is not None and seen[tenant] >= queued[tenant] * 9 // 10:
            break
    return seen - (begin or Counter())


def replay_beside_live(bed: Bed, history: int, seconds: int) -> tuple[list[float], list[float], int]:
    """Return latencies (ms) of live events alone and beside a replay to the same connection, and what it delivered."""
    bed.reset()
    with Sink(bed.directory) as sink:
        asyncio.run(bed.publish(1, url=sink.url))
        fill(bed, history, tenants=1)
        with bed.program("noop-worker"):
            drained(bed)
        with programs(bed):
            warm_up(bed, sink, 1)
            alone = latencies(bed, sink, SCRIPT, LIVE_RATE, seconds, first=FIRST_LIVE)
            _start_replay(bed)
            beside = latencies(bed, sink, SCRIPT, LIVE_RATE, seconds, first=2 * FIRST_LIVE)
        return alone, beside, bed.count("count(*) from integration.attempt where replay_id is not null")


def _start_replay(bed: Bed) -> None:
    command = [sys.executable, "-m", "integrations", "replays", "start", "--connection", "bench/hook-0"]
    environment = {**os.environ, "INTEGRATIONS_DATABASE_URL": bed.server.dsn("bench")}
    command += ["--since", "24h", "--requested-by", "bench", "--reason", "bench"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def results(bed: Bed, scale: float) -> list[Result]:
    """Run all of it."""
    seconds = max(2, int(20 * scale))
    found = [_compared("dead_partner_p99_ratio", *dead_partner(bed, seconds, max(1, int(3 * scale))), 1.05)]
    shares = tenant_shares(bed, max(200, int(2_000 * scale)))
    fair = shares.total() / (TENANTS_OF_ONE + 1)
    furthest = max(abs(shares[f"t{i}"] / fair - 1) for i in range(TENANTS_OF_ONE + 1))
    detail = f"{shares['t0']} for the tenant with {CONNECTIONS_OF_MANY} connections, {fair:.0f} would be an equal share"
    found.append(Result.at_most("tenant_share_error", furthest, 0.05, "of a share", detail))
    alone, beside, replayed = replay_beside_live(bed, max(5_000, int(100_000 * scale)), seconds)
    found.append(_compared("replay_live_p99_ratio", alone, beside, 1.10, f", {replayed:,} replayed meanwhile"))
    return found


def _compared(name: str, alone: list[float], beside: list[float], goal: float, more: str = "") -> Result:
    before, after = percentile(alone, 0.99), percentile(beside, 0.99)
    detail = f"p99 {before:.1f} ms of {len(alone):,} alone, {after:.1f} ms of {len(beside):,} beside{more}"
    return Result.at_most(name, after / before, goal, "beside / alone", detail)
