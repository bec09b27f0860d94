"""Events emitted in PostgreSQL arrive at the partner: once, in order, as fast as allowed, whatever goes wrong."""

import asyncio
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tenacity import AsyncRetrying, stop_after_delay, wait_fixed

from connectors.simulation_faults import Delay, Status
from connectors.webhook.simulator import WebhookSimulator
from connectors.webhook.simulator_records import Stats
from contracts.connection import parse_connection_spec
from delivery.dispatcher import Dispatcher
from delivery.settings import DispatcherSettings, WorkerSettings
from delivery.worker import NoPoolError, Worker

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

NEXT_SECRET = "whsec_" + b64encode(b"the key that follows that one").decode()
ATTEMPTS = "select number, outcome, status_code from integration.attempt order by job_id, at, number"
ONE_AT_A_TIME = {"requestsPerSecond": 10_000, "burst": 10_000, "concurrency": 1}


SECRET = "whsec_bm90aGluZyBpcyBsb3N0LCBub3RoaW5nIGlzIG1hZGUgdXA="
PATIENCE_SECONDS = 30.0
QUICK_DELIVERY = {
    "throttle": {"requestsPerSecond": 10_000, "burst": 10_000, "concurrency": 16},
    "retry": {"initialDelay": "100ms", "maxDelay": "100ms", "maxAttempts": 50},
    "quarantine": {"consecutiveFailures": 1_000, "probeInterval": "1s"},
}


class Program:
    def __init__(self, run: Callable[[asyncio.Event], Coroutine[Any, Any, None]], name: str) -> None:
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(run(self._stop), name=name)

    async def stop(self) -> None:
        self._stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.task


@dataclass
class Running:
    """The layer at work."""

    layer: "Layer"
    partner: WebhookSimulator
    secrets: Path
    programs: list[Program] = field(default_factory=list)

    def dispatcher(self, health_port: int | None = None) -> Program:
        dsn = self.layer.dsn("dispatcher")
        settings = DispatcherSettings(database_url=dsn, health_port=health_port, health_host="127.0.0.1")
        return self._start(Dispatcher(settings).run, "dispatcher")

    def worker(self, name: str = "worker-0", health_port: int | None = None) -> Program:
        settings = WorkerSettings(
            database_url=self.layer.dsn("pool_a"),
            worker_name=name,
            secrets_directory=self.secrets,
            senders=64,
            lease=timedelta(seconds=5),
            drain=timedelta(seconds=10),
            egress_allow=(ip_network("127.0.0.0/8"),),
            health_port=health_port,
            health_host="127.0.0.1",
        )
        return self._start(Worker(settings).run, name)

    async def publish(self, name: str = "hook", *, content_format: str = "Standard", **spec: Any) -> int:
        """Publish a connection to the partner's path of its name, quick unless told otherwise; return its id."""
        written = self.layer.spec(spec.pop("url", self.partner.url(f"/{name}")), **(QUICK_DELIVERY | spec))
        document = written.model_dump(mode="json", by_alias=True, exclude_none=True)
        document["webhook"]["format"] = content_format
        return (await self.layer.publish(parse_connection_spec(document), name=name)).id

    def write_secret(self, value: str = SECRET, name: str = "hook") -> None:
        """Write a Secret as the kubelet does: a folder for each version, and one atomic swap of `..data`."""
        folder = self.secrets / "acme" / name
        version = folder / f"..{time.monotonic_ns()}"
        version.mkdir(parents=True)
        (version / "signing").write_text(value)
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").rename(folder / "..data")
        if not (folder / "signing").is_symlink():
            (folder / "signing").symlink_to("..data/signing")

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until the condition holds; fail if a program ends by itself or it takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            for program in self.programs:
                if program.task.done():
                    program.task.result()
            if time.monotonic() > deadline:
                pytest.fail(f"this did not come to pass within {PATIENCE_SECONDS:.0f} s: {what}")
            await asyncio.sleep(0.01)

    async def two_heartbeats(self) -> None:
        """Wait until every session was renewed twice: whatever a worker does each second, it has done."""
        query = "select id, lease_until from integration.worker_session"
        for _ in range(2):
            before = set(self.layer.rows(query))
            await self.until(lambda before=before: before.isdisjoint(self.layer.rows(query)), "sessions are renewed")

    async def until_delivered(self, events: int, *names: str) -> None:
        """Wait until so many events were accepted at each path and no job is left."""
        for name in names or ("hook",):
            await self.until(lambda name=name: self.accepted(name) >= events, f"{events} are accepted at {name}")
        await self.until(lambda: self.jobs() == 0, "every job is settled")

    def stats(self, name: str = "hook") -> Stats:
        return self.partner.change(f"/{name}").records.stats()

    def accepted(self, name: str = "hook") -> int:
        return self.stats(name).accepted

    def order(self, name: str = "hook") -> dict[str, list[str]]:
        return self.partner.change(f"/{name}").records.order

    def received_at(self, name: str = "hook") -> list[float]:
        return sorted(at for a in self.partner.change(f"/{name}").records.arrivals.values() for at in a.received_at)

    def jobs(self) -> int:
        return int(self.layer.value("select count(*) from integration.job"))

    def lane(self, columns: str, connection: int) -> tuple[Any, ...]:
        return self.layer.rows(f"select {columns} from integration.lane where connection_id = %s", (connection,))[0]

    def owned(self) -> list[int]:
        """Return how many lanes each session owns, fewest first."""
        return sorted(
            self.layer.column(
                "select count(l.connection_id) from integration.worker_session s "
                "left join integration.lane l on l.owner = s.id group by s.id"
            )
        )

    def emit(self, number: int, subjects: int) -> dict[str, list[str]]:
        """Emit events over subjects in turn; return their ids by subject, in order."""
        emitted: dict[str, list[str]] = {}
        for each in range(number):
            subject = f"company-{each % subjects}"
            emitted.setdefault(subject, []).append(self.layer.emit(subject, number=each))
        return emitted

    def _start(self, run: Callable[[asyncio.Event], Coroutine[Any, Any, None]], name: str) -> Program:
        self.programs.append(Program(run, name))
        return self.programs[-1]


@pytest.fixture
async def running(layer: "Layer", tmp_path: Path) -> AsyncIterator[Running]:
    """Give a partner, its Secret, and ways to start programs; the end of the test stops them."""
    async with WebhookSimulator([SECRET]) as partner:
        running = Running(layer, partner, tmp_path / "secrets")
        running.write_secret()
        yield running
        for program in running.programs:
            await program.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


async def get(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


async def until_answered(port: int, path: str, status: int, text: str = "") -> str:
    """Ask until the answer has this status and contains this text; return it."""
    async for attempt in AsyncRetrying(stop=stop_after_delay(15), wait=wait_fixed(0.02), reraise=True):
        with attempt:
            answer = await get(port, path)
            assert (answer.status_code, text in answer.text) == (status, True)
    return answer.text


# Delivered --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_format", ["Standard", "CloudEvents", "CloudEventsBinary"])
async def test_every_event_arrives_once_signed_and_in_order_of_its_subject(
    running: Running, content_format: str
) -> None:
    await running.publish(content_format=content_format)
    running.dispatcher()
    running.worker()
    emitted = running.emit(40, subjects=4)
    await running.until_delivered(40)

    stats = running.stats()
    assert (stats.received, stats.refused, stats.accepted, stats.repeats) == (40, 0, 40, 0)
    assert running.order() == emitted
    assert running.layer.rows(ATTEMPTS) == [(1, "Delivered", 200)] * 40


async def test_a_large_payload_arrives_byte_for_byte(running: Running) -> None:
    await running.publish(content_format="CloudEventsBinary")
    running.dispatcher()
    running.worker()
    running.layer.emit(text='Grüße, "quoted" \\ 🐘\n' * 4_000)
    await running.until_delivered(1)

    data = str(running.layer.value("select data::text from integration.event")).encode()
    (arrival,) = running.partner.records("/hook").arrivals.values()
    assert len(data) > 100_000
    assert arrival.digest == sha256(data).hexdigest()


# What the partner answers -----------------------------------------------------------------------------------------


async def test_a_failing_partner_is_tried_again_and_every_attempt_is_recorded(running: Running) -> None:
    await running.publish()
    running.partner.change("/hook", script=[Status(status=503, body="out of order", times=3)])
    running.dispatcher()
    running.worker()
    running.layer.emit()
    await running.until_delivered(1)

    failed = [(number, "Transient", 503) for number in (1, 2, 3)]
    assert running.layer.rows(ATTEMPTS) == [*failed, (4, "Delivered", 200)]
    assert running.layer.column("select distinct detail from integration.attempt where number < 4") == ["out of order"]
    assert running.stats().received == 4


async def test_a_rate_limit_costs_no_attempt_and_silences_the_whole_lane_as_long_as_asked(running: Running) -> None:
    await running.publish(throttle=ONE_AT_A_TIME)
    running.partner.change("/hook", script=[Status(status=429, retry_after_seconds=1)])
    running.dispatcher()
    emitted = running.emit(6, subjects=6)
    await running.until(lambda: running.jobs() == 6, "all jobs are there")
    running.worker()
    await running.until_delivered(6)

    first, second, *_ = running.received_at()
    assert second - first >= 0.99
    assert sorted(running.layer.rows(ATTEMPTS)) == [(1, "Delivered", 200)] * 6 + [(1, "RateLimited", 429)]
    assert running.order() == emitted


async def test_gone_quarantines_at_once_without_probes_and_keeps_the_backlog(running: Running) -> None:
    connection = await running.publish(throttle=ONE_AT_A_TIME)
    running.partner.change("/hook", script=[Status(status=410, times=None)])
    running.dispatcher()
    running.emit(10, subjects=10)
    await running.until(lambda: running.jobs() == 10, "all jobs are there")
    running.worker()
    await running.until(lambda: running.lane("state", connection) == ("Quarantined",), "it is quarantined")
    running.layer.emit("later")
    await running.until(lambda: running.jobs() == 11, "the later job is there, too")
    await running.two_heartbeats()

    reason, probe_at = running.lane("quarantine_reason, probe_at", connection)
    assert reason.startswith("Gone")
    assert probe_at is None
    assert running.stats().received == 1
    assert running.jobs() == 11
    assert running.layer.value("select count(*) from integration.dead_letter") == 0


async def test_failures_in_a_row_quarantine_and_a_probe_heals_without_disturbing_the_order(running: Running) -> None:
    connection = await running.publish(quarantine={"consecutiveFailures": 5, "probeInterval": "1s"})
    running.partner.change("/hook", script=[Status(status=500, times=None)])
    running.dispatcher()
    running.worker()
    emitted = running.emit(30, subjects=3)
    await running.until(lambda: running.lane("state", connection) == ("Quarantined",), "it is quarantined")
    (reason,) = running.lane("quarantine_reason", connection)
    failed = running.stats().received
    running.partner.change("/hook", script=[])
    await running.until_delivered(30)

    assert reason.startswith("ConsecutiveFailures: 5; the last: HTTP 500")
    assert 5 <= failed <= 5 + 2  # three subjects may be under way at once
    assert running.order() == emitted
    assert running.stats().repeats == 0
    await running.until(lambda: running.lane("state, quarantine_reason", connection) == ("Open", None), "it is open")


async def test_what_can_never_be_accepted_is_a_dead_letter_and_holds_nobody_up(running: Running) -> None:
    connection = await running.publish(throttle=ONE_AT_A_TIME)
    running.partner.change("/hook", script=[Status(status=413, body="too large")])
    running.dispatcher()
    refused, *others = [running.layer.emit("company-1", number=number) for number in range(5)]
    running.worker()
    await running.until_delivered(4)

    assert running.order() == {"company-1": others}
    assert running.layer.rows("select reason, attempts, detail from integration.dead_letter") == [
        ("Invalid", 1, "too large")
    ]
    assert next(iter(running.partner.records("/hook").arrivals.values())).event.event_id == refused
    assert running.lane("state, consecutive_failures", connection) == ("Open", 0)


# Configuration ----------------------------------------------------------------------------------------------------


async def test_a_missing_secret_quarantines_and_its_appearance_heals(running: Running) -> None:
    connection = await running.publish(
        secret="forgotten", quarantine={"consecutiveFailures": 5, "probeInterval": "24h"}
    )
    running.dispatcher()
    running.worker()
    emitted = running.emit(10, subjects=2)
    await running.until(lambda: running.lane("state", connection) == ("Quarantined",), "it is quarantined")
    (reason,) = running.lane("quarantine_reason", connection)
    received = running.stats().received
    running.write_secret(name="forgotten")
    await running.until_delivered(10)

    assert reason.startswith("Misconfigured: Secret acme/forgotten does not exist")
    assert received == 0
    assert running.order() == emitted
    assert running.lane("state, quarantine_reason", connection) == ("Open", None)


async def test_a_rotated_secret_is_used_without_a_restart(running: Running) -> None:
    await running.publish()
    running.dispatcher()
    running.worker()
    running.layer.emit("before")
    await running.until_delivered(1)
    sessions = running.layer.column("select id from integration.worker_session")
    running.partner.change("/hook", secrets=[NEXT_SECRET])
    running.write_secret(NEXT_SECRET)
    running.layer.emit("after")
    await running.until_delivered(2)

    assert running.stats().accepted == 2
    assert running.layer.column("select id from integration.worker_session") == sessions


async def test_what_is_published_meanwhile_is_picked_up(running: Running) -> None:
    await running.publish("one")
    running.dispatcher()
    running.worker()
    running.layer.emit("before")
    await running.until_delivered(1, "one")
    await running.publish("two")
    after = running.layer.emit("after")
    await running.until_delivered(1, "two")
    await running.until_delivered(2, "one")

    assert running.order("two") == {"after": [after]}
    assert (running.stats("one").received, running.stats("two").received) == (2, 1)


async def test_a_changed_address_is_used_while_running_and_nothing_goes_to_both(running: Running) -> None:
    await running.publish(url=running.partner.url("/old"))
    running.dispatcher()
    running.worker()
    running.layer.emit()
    await running.until_delivered(1, "old")
    await running.publish(url=running.partner.url("/new"))
    emitted = 1
    while running.accepted("new") == 0:
        running.layer.emit()
        emitted += 1
        await running.until(
            lambda wanted=emitted: running.accepted("old") + running.accepted("new") >= wanted, "it has arrived"
        )

    assert running.stats("old").received + running.stats("new").received == emitted


async def test_suspension_stops_delivery_and_its_end_resumes_it_in_order(running: Running) -> None:
    port = free_port()
    connection = await running.publish()
    running.dispatcher()
    running.worker(health_port=port)
    running.layer.emit("before")
    await running.until_delivered(1)
    await running.publish(suspend=True)
    await until_answered(port, "/metrics", 200, 'integrations_owned_lanes{state="Suspended"} 1.0')
    emitted = running.emit(20, subjects=2)
    await running.until(lambda: running.jobs() == 20, "events become jobs all the same")
    await running.two_heartbeats()
    received = running.stats().received
    await running.publish(suspend=False)
    await running.until_delivered(21)

    assert received == 1
    assert {subject: ids for subject, ids in running.order().items() if subject != "before"} == emitted
    assert running.lane("suspended", connection) == (False,)


async def test_a_filter_that_fails_on_one_event_costs_that_job_only(running: Running) -> None:
    large = {"name": "large", "events": ["*"], "filter": "event.data.employees > 10"}
    filtered = await running.publish("filtered", routes=[large])
    await running.publish("unfiltered")
    running.dispatcher()
    running.worker()
    first = running.layer.emit(employees=20)
    failing = running.layer.emit(name="of unknown size")
    small = running.layer.emit(employees=5)
    last = running.layer.emit(employees=30)
    await running.until_delivered(2, "filtered")
    await running.until_delivered(4, "unfiltered")

    assert running.order("filtered") == {"company-1": [first, last]}
    assert running.order("unfiltered") == {"company-1": [first, failing, small, last]}
    assert running.layer.rows(
        "select d.connection_id, d.reason, d.attempts, e.data ->> 'name' "
        "from integration.dead_letter d join integration.event e on e.id = d.event_id"
    ) == [(filtered, "FilterFailed", 0, "of unknown size")]


async def test_a_worker_whose_role_has_no_pool_says_so_and_ends(running: Running) -> None:
    worker = running.worker()
    with pytest.raises(NoPoolError, match="belongs to no pool"):
        await asyncio.wait_for(worker.task, 10)
    running.programs.clear()


# Many workers -----------------------------------------------------------------------------------------------------


async def test_lanes_divide_evenly_and_order_holds_while_a_worker_joins_and_leaves(running: Running) -> None:
    names = [f"hook-{number}" for number in range(8)]
    for name in names:
        await running.publish(name)
        running.partner.change(f"/{name}", script=[Delay(seconds=0.005, times=None)])
    emitted: dict[str, list[str]] = {}
    running.dispatcher()
    running.worker("worker-0")
    running.worker("worker-1")
    loaded = asyncio.Event()

    async def load() -> None:
        number = 0
        while not loaded.is_set():
            subject = f"company-{number % 5}"
            emitted.setdefault(subject, []).append(running.layer.emit(subject))
            number += 1
            await asyncio.sleep(0.02)

    loading = asyncio.create_task(load())
    await running.until(lambda: running.owned() == [4, 4], "two workers have four lanes each")
    third = running.worker("worker-2")
    await running.until(lambda: running.owned() == [2, 3, 3], "three workers have two or three lanes each")
    await running.until(lambda: running.accepted(names[0]) > 20, "events flow")
    await third.stop()
    await running.until(lambda: running.owned() == [4, 4], "two workers have four lanes each again")
    loaded.set()
    await loading
    await running.until_delivered(sum(map(len, emitted.values())), *names)

    assert [running.order(name) == emitted for name in names] == [True] * 8
    assert [running.stats(name).repeats for name in names] == [0] * 8


async def test_a_draining_worker_gives_its_lanes_back_with_their_tokens_and_nothing_is_repeated(
    running: Running,
) -> None:
    throttle = {"requestsPerSecond": 1_000, "burst": 1_000, "concurrency": 4}
    names = ("one", "two")
    for name in names:
        await running.publish(name, throttle=throttle)
        running.partner.change(f"/{name}", script=[Delay(seconds=0.03, times=None)])
    running.dispatcher()
    emitted = running.emit(150, subjects=10)
    await running.until(lambda: running.jobs() == 300, "all jobs are there")
    worker = running.worker()
    await running.until(lambda: all(running.accepted(name) >= 12 for name in names), "it is at work")
    await worker.stop()

    done = sum(map(running.accepted, names))
    assert 24 <= done < 300
    assert running.jobs() == 300 - done
    assert running.layer.rows("select owner, tokens between 0 and 1000 from integration.lane") == [(None, True)] * 2
    assert running.layer.value("select count(*) from integration.worker_session") == 0
    running.worker("worker-1")
    await running.until_delivered(150, *names)
    assert [running.order(name) for name in names] == [emitted, emitted]
    assert [running.stats(name).received for name in names] == [150, 150]


async def test_nothing_is_lost_when_the_database_ends_every_connection(running: Running) -> None:
    names = ("one", "two")
    for name in names:
        await running.publish(name, throttle={"requestsPerSecond": 10_000, "burst": 10_000, "concurrency": 8})
        running.partner.change(f"/{name}", script=[Delay(seconds=0.01, times=None)])
    running.dispatcher()
    running.worker("worker-0")
    running.worker("worker-1")
    emitted: dict[str, list[str]] = {}
    ended = 0
    for each in range(3):
        for subject, ids in running.emit(100, subjects=10).items():
            emitted.setdefault(subject, []).extend(ids)
        goal = each * 100 + 10
        await running.until(lambda goal=goal: running.accepted("one") >= goal, "it is at work")
        ended += running.layer.value(
            "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()) t"
        )
    await running.until_delivered(300, *names)

    assert ended >= 3 * 5
    assert [running.order(name) for name in names] == [emitted, emitted]
    assert [running.stats(name).changed for name in names] == [0, 0]
    assert [running.stats(name).repeats for name in names] == [0, 0]


# The throttle -----------------------------------------------------------------------------------------------------


def most_in_a_window(times: list[float], seconds: float) -> int:
    return max(sum(start <= at < start + seconds for at in times) for start in times)


@pytest.mark.parametrize("hand_over", [False, True], ids=["one worker", "the lane changes hands"])
async def test_the_partner_is_called_no_faster_than_allowed(running: Running, hand_over: bool) -> None:
    await running.publish(throttle={"requestsPerSecond": 20, "burst": 5, "concurrency": 16})
    running.dispatcher()
    running.emit(50, subjects=50)
    await running.until(lambda: running.jobs() == 50, "all jobs are there")
    worker = running.worker()
    if hand_over:
        await running.until(lambda: running.accepted() >= 15, "it is at work")
        await worker.stop()
        running.worker("worker-1")
    await running.until_delivered(50)

    times = running.received_at()
    assert len(times) == 50
    for seconds in (0.25, 0.5, 1.0, 2.0):
        assert most_in_a_window(times, seconds) <= 5 + 20 * seconds + 1
    assert hand_over or times[-1] - times[0] < 45 / 20 * 1.5  # the bucket is used up, too


async def test_no_more_requests_are_under_way_than_allowed(running: Running) -> None:
    await running.publish(throttle={"requestsPerSecond": 10_000, "burst": 10_000, "concurrency": 3})
    running.partner.change("/hook", script=[Delay(seconds=0.1, times=None)])
    running.dispatcher()
    running.emit(30, subjects=30)
    await running.until(lambda: running.jobs() == 30, "all jobs are there")
    running.worker()
    await running.until_delivered(30)

    assert most_in_a_window(running.received_at(), 0.095) == 3


# Health -----------------------------------------------------------------------------------------------------------


async def test_health_and_metrics_are_served(running: Running) -> None:
    await running.publish()
    ports = {"dispatcher": free_port(), "worker": free_port()}
    running.dispatcher(health_port=ports["dispatcher"])
    running.worker(health_port=ports["worker"])
    running.layer.emit()
    await running.until_delivered(1)

    for port in ports.values():
        answers = [await get(port, path) for path in ("/healthz", "/readyz", "/nothing")]
        assert [answer.status_code for answer in answers] == [200, 200, 404]
    async with asyncio.timeout(60):  # looked at now and then
        while "integrations_undispatched_oldest_seconds 0.0" not in (await get(ports["dispatcher"], "/metrics")).text:
            await asyncio.sleep(0.1)
    delivered = 'integrations_attempts_total{connection="hook",namespace="acme",outcome="Delivered"} 1.0'
    worker, dispatcher = [(await get(ports[name], "/metrics")).text for name in ("worker", "dispatcher")]
    assert delivered in worker
    assert "integrations_database_up 1.0" in worker
    assert "integrations_events_dispatched_total 1.0" in dispatcher
    assert "integrations_jobs_created_total 1.0" in dispatcher
    assert 'integrations_partitions_ahead_days{table="attempt"} 7.0' in dispatcher


async def test_a_worker_without_a_session_is_not_ready(running: Running) -> None:
    await running.publish()
    port = free_port()
    with running.layer.admin.transaction():
        running.layer.admin.execute("lock table integration.worker_session in access exclusive mode")
        running.worker(health_port=port)
        before = await until_answered(port, "/readyz", 503)
    after = await until_answered(port, "/readyz", 200)

    assert (before, after) == ("no session yet\n", "ok\n")
