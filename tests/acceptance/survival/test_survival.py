"""Nothing is lost, nothing is turned round, and nothing is repeated without a reason, whatever is killed meanwhile.

Producers count events up per subject and emit them in their own transactions, while a seeded sequence of misfortunes
befalls every part: producers, dispatchers and workers are killed with SIGKILL, workers are stopped past their lease,
PostgreSQL crashes, connections are cut in the middle of statements, partners answer badly, late or not at all, and
routing is published anew. Some workers' clocks are wrong throughout. Then everything heals, and what arrived at the
partner is held against what was committed.

Only a request that was given up may still be seen behind a later event, under the same webhook-id: after a time-out it
can lie unread at a busy receiver while its repetition and the next event, on other connections, are read. No sender can
call it back. Each such case must be one of the attempts that were recorded, and counted.

`SURVIVAL_EVENTS` is the number of events, `SURVIVAL_SEED` the sequence of misfortunes.
"""

import logging
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from contracts.ids import EventId, parse_event_id, public_event_id
from local.postgres import StopMode

if TYPE_CHECKING:
    from tests.acceptance.survival.conftest import Bed

pytestmark = pytest.mark.serial

log = logging.getLogger(__name__)

EVENTS = int(os.environ.get("SURVIVAL_EVENTS", "3000"))
SEED = int(os.environ.get("SURVIVAL_SEED", "1"))
EVENTS_PER_SECOND = 300.0
SUBJECTS = 100
"""Of each tenant."""

PRODUCERS = {"producer-1": "acme", "producer-2": "acme", "producer-3": "globex", "producer-4": "globex"}
SKEWS = {"worker-2": 150.0, "worker-3": -150.0}
"""Seconds by which workers' clocks are wrong; receivers accept five minutes."""

LEASE_SECONDS = 3.0
UNSETTLED_SECONDS = 2.0
"""How long before a misfortune an accepted request can have been whose result was not yet written."""

EXPLAINS_REPEATS = ("worker", "database")
"""Beginnings of the misfortunes that may cost an accepted request its result; all others must cost nothing."""

FAULTS: tuple[tuple[dict[str, object], ...], ...] = (
    ({"kind": "status", "status": 503, "times": 30},),
    ({"kind": "delay", "seconds": 3, "times": 3},),
    ({"kind": "reset-in-body", "times": 5}, {"kind": "reset", "times": 5}),
    ({"kind": "status", "status": 429, "retry_after_seconds": 1, "times": 2},),
    ({"kind": "hang", "times": 3}, {"kind": "status", "status": 500, "times": 5}),
)


FENCED = "integrations_fenced_results_total"


class Fact(NamedTuple):
    """A committed event."""

    tenant: str
    subject: str
    n: int


class Route(NamedTuple):
    """A connection, and which of its tenant's events it wants."""

    tenant: str
    wants: Callable[[int], bool] = lambda _: True
    ordered: bool = True


CONNECTIONS = {
    "everything": Route("acme"),
    "even": Route("acme", lambda n: n % 2 == 0),
    "touchy": Route("acme", lambda n: n % 3 == 0),
    "whole": Route("globex"),
    "loose": Route("globex", ordered=False),
}
LATE = "late"
"""A connection of globex that is published on the way."""


def publish_all(bed: "Bed", **throttle: float) -> None:
    """Publish the connections; called again with another throttle, it is an edit of every one."""
    limits = {"requestsPerSecond": 1000.0, "burst": 100, "concurrency": 16, **throttle}
    even = {"name": "even", "events": ["ext.survival.*"], "filter": 'event.data.parity == "even"'}
    third = {"name": "third", "events": ["*"], "filter": "event.data.third"}
    bed.publish("everything", throttle=limits)
    bed.publish("even", routes=[even], form="CloudEvents", throttle=limits)
    quarantine = {"consecutiveFailures": 5, "probeInterval": "1s"}
    bed.publish("touchy", routes=[third], throttle=limits, quarantine=quarantine)
    bed.publish("whole", tenant="globex", throttle=limits)
    unordered = {"name": "all", "events": ["*"], "ordering": "Unordered"}
    bed.publish("loose", tenant="globex", routes=[unordered], form="CloudEventsBinary", throttle=limits)


# Misfortune -------------------------------------------------------------------------------------------------------


@dataclass
class Misfortunes:
    """What happens to the layer, and when it happened."""

    bed: "Bed"
    random: Random
    happened: list[tuple[float, str]] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)
    stopped: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=lambda: {f"worker-{n}": f"worker-{n}" for n in range(1, 5)})
    replaced: int = 0

    def actions(self, rounds: int) -> list[Callable[[], None]]:
        """Return `rounds` of every kind, in random order."""
        once = (
            self.kill_producer,
            self.kill_dispatcher,
            self.kill_worker,
            self.kill_worker,
            self.lose_worker,
            self.stop_worker,
            self.crash_database,
            self.cut_connections,
            self.cut_connections,
            self.edit_routing,
            *(lambda faults=faults: self.misbehave(faults) for faults in FAULTS),
        )
        actions: list[Callable[[], None]] = [*once * rounds, self.lose_database_past_leases]
        self.random.shuffle(actions)
        return actions

    def note(self, what: str) -> None:
        """Remember what happens now."""
        self.happened.append((time.time(), what))

    def tend(self) -> None:
        """Start producers again that were killed, and let stopped workers go on when another took their lanes."""
        ended = [
            program.name
            for name, program in self.bed.programs.items()
            if name.startswith(("worker", "dispatcher")) and program.ended()
        ]
        assert ended == [], f"ended by themselves: {self.bed.defects()}"
        for worker, session in list(self.stopped.items()):
            if not self.bed.rows("select from integration.worker_session where id = %s", session):
                self.resume(worker)

    def resume(self, worker: str) -> None:
        """Let a stopped worker go on."""
        del self.stopped[worker]
        self.resumed.append(time.time())
        self.bed.programs[worker].send(signal.SIGCONT)

    def kill_producer(self) -> None:
        """Kill one that is not done yet; it is started again at once."""
        left = [name for name in PRODUCERS if not self.bed.programs[name].ended()]
        if left:
            name = self.random.choice(left)
            self.note("producer killed")
            self.bed.programs[name].kill()
            start_producer(self.bed, name)

    def kill_dispatcher(self) -> None:
        """Kill a dispatcher; it is started again at once."""
        name = self.random.choice(["dispatcher-1", "dispatcher-2"])
        self.note("dispatcher killed")
        self.bed.programs[name].kill()
        self.bed.start_dispatcher(name)

    def kill_worker(self) -> None:
        """Kill a worker; a supervisor starts it again at once, under its name."""
        slot = self._running_worker()
        self.note(f"worker killed: {slot}")
        self.bed.programs[slot].kill()
        self.start_worker(slot)

    def lose_worker(self) -> None:
        """Kill a worker whose place another takes, under a name of its own: the lease must run out."""
        slot = self._running_worker()
        self.note(f"worker lost: {slot}")
        self.bed.programs[slot].kill()
        self.replaced += 1
        self.names[slot] = f"replacement-{self.replaced}"
        self.start_worker(slot)

    def start_worker(self, slot: str) -> None:
        """Start the worker of a slot."""
        self.bed.start_worker(self.names[slot], slot=slot, skew_seconds=SKEWS.get(slot, 0.0))

    def stop_worker(self) -> None:
        """Stop a worker that has a session; it goes on once its lease was taken."""
        slot = self._running_worker()
        session = self.bed.session(self.names[slot])
        if session is not None:
            self.note(f"worker stopped: {slot}")
            self.bed.programs[slot].send(signal.SIGSTOP)
            self.stopped[slot] = session

    def crash_database(self) -> None:
        """Crash PostgreSQL and start it again at once."""
        self.note("database crashed")
        self.bed.server.stop(StopMode.IMMEDIATE)
        self.bed.server.start()
        self.note("database back")

    def lose_database_past_leases(self) -> None:
        """Crash PostgreSQL and start it again when every lease has run out."""
        self.note("database lost")
        self.bed.server.stop(StopMode.IMMEDIATE)
        time.sleep(LEASE_SECONDS + 1)
        self.bed.server.start()
        self.note("database back")

    def cut_connections(self) -> None:
        """Cut a third of all connections, whatever they are doing."""
        self.note("connections cut")
        pids = self.bed.rows("select pid from pg_stat_activity where usename like 'survival_%%' order by pid")
        for (pid,) in self.random.sample(pids, -(-len(pids) // 3)):
            self.bed.rows("select pg_terminate_backend(%s)", pid)

    def edit_routing(self) -> None:
        """Change every connection's throttle, and publish the late connection if it is not yet."""
        self.note("routing published")
        publish_all(self.bed, concurrency=self.random.randint(8, 32))
        self.bed.publish(LATE, tenant="globex")

    def misbehave(self, faults: Sequence[dict[str, object]]) -> None:
        """Have some partner fail for a while."""
        name = self.random.choice(list(CONNECTIONS))
        self.note(f"partner fails: {name} {faults[0]['kind']}")
        self.bed.partner.misbehave(name, *faults)

    def heal(self) -> None:
        """Let everything be well from now on."""
        for name in CONNECTIONS:
            self.bed.partner.misbehave(name)
            self.bed.release(name)
        for worker in list(self.stopped):
            self.resume(worker)

    def _running_worker(self) -> str:
        return self.random.choice([slot for slot in self.names if slot not in self.stopped])


def start_producer(bed: "Bed", name: str) -> None:
    bed.start_producer(name, PRODUCERS[name], EVENTS_PER_SECOND / len(PRODUCERS))


def prepare_workload(bed: "Bed", events: int) -> None:
    shares = [events // len(PRODUCERS)] * len(PRODUCERS)
    shares[0] += events - sum(shares)
    with bed.admin() as admin, admin.cursor() as cursor:
        subjects = [(tenant, f"{tenant}-{n}") for tenant in ("acme", "globex") for n in range(SUBJECTS)]
        cursor.executemany("insert into workload.subject (tenant, name) values (%s, %s)", subjects)
        insert = "insert into workload.producer (name, quota) values (%s, %s)"
        cursor.executemany(insert, list(zip(PRODUCERS, shares, strict=True)))


def committed(bed: "Bed") -> int:
    return int(bed.value("select sum(emitted) from workload.producer"))


# The verdict ------------------------------------------------------------------------------------------------------


class Overtaking(NamedTuple):
    """A repeat that came behind a later event of its subject."""

    connection: str
    earlier: dict[str, Any]
    later: dict[str, Any]


class Tries(NamedTuple):
    """How many attempts of one delivery were recorded, and of how many of them nobody knows what came."""

    all: int
    ambiguous: int


NO_TRIES = Tries(0, 0)


@dataclass
class Verdict:
    """What arrived, held against what was committed; every list is of what should not be."""

    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    overtaken: list[Overtaking] = field(default_factory=list)
    given_up: list[Overtaking] = field(default_factory=list)
    second_ids: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    refused: int = 0
    unexplained: list[str] = field(default_factory=list)
    wanted: int = 0
    accepted: int = 0
    repeats: int = 0
    requests: int = 0


def facts_of(bed: "Bed") -> dict[str, Fact]:
    """Return the committed events by public id."""
    query = "select id, nonce, tenant_id, subject, (data->>'n')::int from integration.event order by id"
    return {
        public_event_id(EventId(number), nonce): Fact(tenant, subject, n)
        for number, nonce, tenant, subject, n in bed.rows(query)
    }


def judge(bed: "Bed", misfortunes: Misfortunes) -> Verdict:
    """Compare what the partner has seen with what the database has committed."""
    verdict = Verdict()
    facts = facts_of(bed)
    tries = {
        (name, number): Tries(count, ambiguous)
        for name, number, count, ambiguous in bed.rows(
            "select c.name, a.event_id, count(*), count(*) filter (where a.outcome = 'Ambiguous') "
            "from integration.attempt a join integration.connection c on c.id = a.connection_id group by 1, 2"
        )
    }
    for name, route in {**CONNECTIONS, LATE: Route("globex")}.items():
        arrivals = arrivals_of(bed, name, verdict)
        wanted = {event for event, fact in facts.items() if fact.tenant == route.tenant and route.wants(fact.n)}
        if name == LATE:
            wanted = since_first_arrival(facts, wanted, arrivals)
        verdict.lost += [f"{name} {facts[event]}" for event in wanted if not arrivals.get(event, {}).get("accepted")]
        verdict.invented += [f"{name} {event}" for event in arrivals.keys() - wanted]
        verdict.wanted += len(wanted)
        if route.ordered:
            judge_order(name, facts, arrivals, tries, verdict)
        judge_repeats(name, arrivals, tries, misfortunes, verdict)
    return verdict


def since_first_arrival(facts: dict[str, Fact], wanted: set[str], arrivals: dict[str, dict[str, Any]]) -> set[str]:
    """Return what a connection published on the way wants: of each subject, everything from its first arrival on."""
    first: dict[str, int] = {}
    for event in arrivals.keys() & wanted:
        fact = facts[event]
        first[fact.subject] = min(first.get(fact.subject, fact.n), fact.n)
    return {event for event in wanted if facts[event].n >= first.get(facts[event].subject, facts[event].n + 1)}


def arrivals_of(bed: "Bed", name: str, verdict: Verdict) -> dict[str, dict[str, Any]]:
    """Return an endpoint's arrivals by event, in the order of the first request."""
    found: dict[str, dict[str, Any]] = {}
    for arrival in bed.partner.deliveries(name):
        event = arrival["event"]["event_id"]
        if event in found:
            verdict.second_ids.append(f"{name} {event}")
        if not arrival["same_body"]:
            verdict.changed.append(f"{name} {event}")
        found[event] = arrival
    stats = bed.partner.stats(name)
    verdict.refused += stats["refused"]
    verdict.accepted += stats["accepted"]
    verdict.repeats += stats["repeats"]
    verdict.requests += stats["received"]
    return found


def judge_order(
    name: str,
    facts: dict[str, Fact],
    arrivals: dict[str, dict[str, Any]],
    tries: dict[tuple[str, int], Tries],
    verdict: Verdict,
) -> None:
    """Compare the order of first requests with that of the commits, and look for repeats behind a later event."""
    seen: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for event, arrival in arrivals.items():
        if event in facts:
            seen[facts[event].subject].append((facts[event].n, arrival))
    for subject, arrived in seen.items():
        numbers = [n for n, _ in arrived]
        if numbers != sorted(numbers):
            verdict.out_of_order.append(f"{name} {subject} {numbers}")
        for (_, earlier), (_, later) in pairwise(arrived):
            if earlier["received_at"][-1] > later["received_at"][0]:
                made = tries.get((name, parse_event_id(earlier["event"]["event_id"])), NO_TRIES)
                given_up = made.ambiguous > 0 and len(earlier["received_at"]) <= made.all
                where = verdict.given_up if given_up else verdict.overtaken
                where.append(Overtaking(name, earlier, later))


def judge_repeats(
    name: str,
    arrivals: dict[str, dict[str, Any]],
    tries: dict[tuple[str, int], Tries],
    misfortunes: Misfortunes,
    verdict: Verdict,
) -> None:
    """Find requests that followed an accepted one though neither a misfortune nor a missing answer explains them."""
    causes = [at for at, what in misfortunes.happened if what.startswith(EXPLAINS_REPEATS)]
    for event, arrival in arrivals.items():
        unanswered = tries.get((name, parse_event_id(event)), NO_TRIES).ambiguous
        for at, following, status in zip(
            arrival["received_at"], arrival["received_at"][1:], arrival["statuses"], strict=False
        ):
            if status != 200:
                continue
            if any(at - UNSETTLED_SECONDS <= when <= following for when in causes):
                continue
            unanswered -= 1
            if unanswered < 0:
                verdict.unexplained.append(f"{name} {event} {at:.3f} {following:.3f}")


def history(bed: "Bed", overtaking: Overtaking, misfortunes: Misfortunes) -> str:
    """Tell, in order, all that is known of two deliveries of which one overtook the other."""
    told: list[tuple[float, str]] = []
    for which, arrival in (("earlier", overtaking.earlier), ("later", overtaking.later)):
        requests = zip(arrival["received_at"], arrival["statuses"], strict=True)
        told += [(at, f"the {which} is requested, and answered with {status}") for at, status in requests]
        attempts = bed.rows(
            "select extract(epoch from at)::float8, number, outcome, worker, duration_ms from integration.attempt "
            "a join integration.connection c on c.id = a.connection_id where c.name = %s and event_id = %s",
            overtaking.connection,
            parse_event_id(arrival["event"]["event_id"]),
        )
        told += [
            (at, f"attempt {number} of the {which} ended by session {worker}: {outcome} after {duration:.0f} ms")
            for at, number, outcome, worker, duration in attempts
        ]
    first, last = min(told)[0] - 10, max(told)[0] + 1
    told += [event for event in misfortunes.happened if first < event[0] < last]
    told += [(at, "a stopped worker resumes") for at in misfortunes.resumed if first < at < last]
    return "\n".join(f"{at:.3f} {what}" for at, what in sorted(told))


def attempts_that_contradict(bed: "Bed") -> list[tuple[Any, ...]]:
    """Return jobs whose attempts say anything but: delivered once, in the last of the attempts that count."""
    return bed.rows(
        "select connection_id, event_id, route_id, array_agg((number, outcome) order by at) from integration.attempt "
        "group by 1, 2, 3 having count(*) filter (where outcome = 'Delivered') <> 1 "
        "or max(number) > 1 + count(*) filter (where outcome in ('Transient', 'Ambiguous')) "
        "or max(number) <> max(number) filter (where outcome = 'Delivered')"
    )


# The proof --------------------------------------------------------------------------------------------------------


def run_programs(bed: "Bed", misfortunes: Misfortunes) -> None:
    """Run two dispatchers and four workers, two of which have wrong clocks, and wait until all takes part."""
    publish_all(bed)
    for name in ("dispatcher-1", "dispatcher-2"):
        bed.start_dispatcher(name)
    for slot in misfortunes.names:
        misfortunes.start_worker(slot)
    bed.until(lambda: all(bed.owner(name) for name in CONNECTIONS), "every connection has a worker")


def let_it_happen(bed: "Bed", misfortunes: Misfortunes, events: int, rounds: int) -> None:
    """Emit all events while misfortunes come about, spread evenly over the emission."""
    actions = misfortunes.actions(rounds)
    for name in PRODUCERS:
        start_producer(bed, name)
    for number, action in enumerate(actions, start=1):
        due = events * number // (len(actions) + 1)

        def is_due(due: int = due) -> bool:
            misfortunes.tend()
            return committed(bed) >= due

        bed.until(is_due, f"{due} events are committed", seconds=90)
        action()
    misfortunes.heal()
    bed.until(lambda: all(bed.programs[name].ended() for name in PRODUCERS), "all producers are done", seconds=90)


def end_programs(bed: "Bed") -> list[tuple[str, int]]:
    """Ask dispatchers and workers to end; return those of all that ended otherwise than so or by our SIGKILL."""
    programs = [*bed.former, *bed.programs.values()]
    lasting = [program for program in programs if program.name.startswith(("worker", "dispatcher"))]
    for program in lasting:
        program.send(signal.SIGTERM)
    codes = [(program.name, program.process.wait(30)) for program in lasting]
    return [(name, code) for name, code in codes if code not in (0, -signal.SIGKILL)]


@pytest.mark.timeout(600)
def test_nothing_is_lost_turned_round_or_repeated_without_reason(bed: "Bed", caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    prepare_workload(bed, EVENTS)
    misfortunes = Misfortunes(bed, Random(SEED))
    run_programs(bed, misfortunes)

    began = time.monotonic()
    let_it_happen(bed, misfortunes, EVENTS, rounds=max(1, round(EVENTS / 5_000)))
    emitted = time.monotonic()
    bed.until(bed.is_done, "everything is delivered", seconds=120)
    drained = time.monotonic()
    fenced = sum(program.metric(FENCED) for name, program in bed.programs.items() if name.startswith("worker"))
    unexpected_ends = end_programs(bed)
    verdict = judge(bed, misfortunes)
    log.info("seed %d: %d events in %.0f s, drained %.1f s later", SEED, EVENTS, emitted - began, drained - emitted)
    log.info("%d of %d deliveries, by %d requests", verdict.accepted, verdict.wanted, verdict.requests)
    log.info("%d accepted requests repeated; %.0f results fenced", verdict.repeats, fenced)
    log.info("%s", Counter(what.partition(":")[0] for _, what in misfortunes.happened))
    log.info("%d requests that were given up came behind a later event", len(verdict.given_up))
    for overtaking in verdict.overtaken:
        log.info("%s", history(bed, overtaking, misfortunes))

    assert committed(bed) == EVENTS == len(facts_of(bed))
    assert set(bed.acknowledged.read_text().split()) <= facts_of(bed).keys()
    assert counters_with_gaps(bed) == []
    assert (verdict.lost, verdict.invented) == ([], [])
    assert verdict.out_of_order == []
    assert verdict.second_ids == []
    assert verdict.changed == []
    assert verdict.refused == 0
    assert verdict.unexplained == []
    assert verdict.overtaken == []
    assert bed.value("select count(*) from integration.dead_letter") == 0
    assert attempts_that_contradict(bed) == []
    assert bed.value("select count(*) from integration.attempt where outcome = 'Delivered'") == verdict.wanted
    assert unexpected_ends == []
    assert bed.defects() == []


def counters_with_gaps(bed: "Bed") -> list[tuple[Any, ...]]:
    """Return subjects whose committed events are not exactly 1, 2, 3, …, up to what their producer counted."""
    return bed.rows(
        "select s.tenant, s.name, s.counter from workload.subject s where s.counter > 0 and "
        "(select array_agg((e.data->>'n')::int order by e.id) = array_agg(n::int order by n) "
        "from (select row_number() over (order by id) as n, id, data from integration.event "
        "where tenant_id = s.tenant and subject = s.name) e having count(*) = s.counter) is not true"
    )
