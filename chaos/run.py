"""One run from beginning to end: programs start, misfortunes come about, everything heals, and all is accounted for."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from chaos import scene
from chaos.account import Account
from chaos.bed import Bed
from chaos.disk import SmallDisk, small_disk
from chaos.evidence import collect
from chaos.judgement import judge
from chaos.misfortunes import Misfortunes
from chaos.server import database, durable_server
from chaos.view import lasting_differences, view_file
from chaos.waiting import NeverHappenedError, until

SPACING_SECONDS = 1.5
"""Between two misfortunes, about."""

PATIENCE_SECONDS = 30.0
"""How long deliveries may make no progress at all once everything is well."""

NO_DISK = "fill-disk: this machine lets us mount no small disk; it does so for root"

FENCED = "integrations_fenced_results_total"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a person asked for; `only` are the kinds of misfortune, all if empty; `broken` names a broken build."""

    seconds: float
    seed: int
    events_per_second: float
    only: Sequence[str] = ()
    broken: str | None = None


@dataclass
class Run:
    """A run on a bed."""

    plan: Plan
    bed: Bed
    misfortunes: Misfortunes
    say: Say
    found: dict[str, list[str]] = field(default_factory=dict)
    fenced: float = 0.0

    def play(self) -> None:
        """Let everything happen; what never comes to pass is a breach like any other, and ends the run."""
        stages = (self._begin, self._let_it_happen, self._heal, self._look_while_one_fails, self._drain, self._compare)
        if all(self._comes_to_pass(stage) for stage in stages):
            self._comes_to_pass(self._end)
        for name in scene.PRODUCERS:
            self.bed.forget(name)

    def _comes_to_pass(self, stage: Callable[[], None]) -> bool:
        try:
            stage()
        except NeverHappenedError as error:
            self.found["stuck"] = [str(error)]
            return False
        return True

    def _begin(self) -> None:
        self.say("starting two dispatchers, four workers and four producers")
        scene.prepare_workload(self.bed)
        scene.publish_all(self.bed)
        for name in (*scene.DISPATCHERS, *scene.WORKERS):
            self.misfortunes.start(name)
        until(lambda: all(map(self.bed.owner, scene.CONNECTIONS)), "every connection has a worker")
        for name in scene.PRODUCERS:
            scene.start_producer(self.bed, name, self.plan.events_per_second)

    def _let_it_happen(self) -> None:
        """Bring misfortunes about: each kind once before any comes again, spread over the time there is."""
        began = time.monotonic()
        actions = self._draw()
        for number, (kind, action) in enumerate(actions, start=1):
            self._tend_until(began + self.plan.seconds * number / (len(actions) + 1))
            self.say(f"{time.monotonic() - began:6.1f} s  {kind}")
            action()
        self._tend_until(began + self.plan.seconds)

    def _draw(self) -> list[tuple[str, Callable[[], None]]]:
        kinds = {k: a for k, a in self.misfortunes.kinds().items() if not self.plan.only or k in self.plan.only}
        drawn: list[tuple[str, Callable[[], None]]] = []
        for _ in range(max(1, round(self.plan.seconds / SPACING_SECONDS / max(1, len(kinds))))):
            deck = list(kinds.items())
            self.misfortunes.random.shuffle(deck)
            drawn += deck
        return drawn

    def _tend_until(self, moment: float) -> None:
        self.misfortunes.tend()
        while time.monotonic() < moment:
            time.sleep(0.05)
            self.misfortunes.tend()

    def _heal(self) -> None:
        self.say("everything heals; producers end")
        self.misfortunes.heal()
        scene.end_producers(self.bed)

    def _look_while_one_fails(self) -> None:
        """Compare what workers believe with the database while jobs are deferred and held; the end does so again."""
        self._drain()
        self.bed.partner.misbehave("everything", {"kind": "status", "status": 503, "times": None})
        self.bed.publish("everything", retry={"maxAttempts": 100, "initialDelay": "4s", "maxDelay": "4s"})
        for number in (1, 2, 3):
            for subject in range(20):
                self.bed.emit(f"last-{subject}", **scene.event_data(number))
        aside = "select count(*) filter (where state = 2) = 40 or count(*) = 0 from integration.job"
        until(
            lambda: self.bed.is_dispatched() and self.bed.value(aside),
            "what follows a failing event is held",
            seconds=PATIENCE_SECONDS,
        )
        self._compare()
        self.misfortunes.heal()

    def _drain(self) -> None:
        until(_progress(self.bed), "everything is delivered", seconds=float("inf"))

    def _end(self) -> None:
        workers = [self.bed.programs[slot] for slot in scene.WORKERS]
        self.fenced = sum(worker.metric(FENCED) for worker in workers)
        lasting = [*workers, *(self.bed.programs[name] for name in scene.DISPATCHERS)]
        for program in lasting:
            program.send(signal.SIGTERM)
        until(lambda: all(program.ended() for program in lasting), "dispatchers and workers end when asked to")
        if unclean := [p.name for p in lasting if p.process.returncode]:
            self.found["unclean-end"] = unclean

    def _compare(self) -> None:
        self.say("comparing what workers believe with the database")
        if differences := lasting_differences(self.bed, list(scene.WORKERS)):
            self.found.setdefault("wrong-view", []).extend(differences)


def _progress(bed: Bed) -> Callable[[], bool]:
    """Return a condition: everything is done; it raises NeverHappenedError once nothing has moved for long."""
    least, moved = None, time.monotonic()

    def is_done() -> bool:
        nonlocal least, moved
        if bed.is_done():
            return True
        left = bed.value("select count(*) from integration.job")
        if least is None or left < least:
            least, moved = left, time.monotonic()
        if time.monotonic() - moved > PATIENCE_SECONDS:
            raise NeverHappenedError(f"{left} jobs are left, and none ended within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.2)
        return False

    return is_done


@contextmanager
def _bed() -> Iterator[tuple[Bed, SmallDisk | None]]:
    """Make everything that a run needs, on a small disk if there can be one."""
    with (
        small_disk() as disk,
        tempfile.TemporaryDirectory(prefix="integration-layer-chaos-") as directory,
        durable_server(None if disk is None else disk.place) as server,
        database(server) as name,
        Bed(server, name, Path(directory)) as bed,
    ):
        yield bed, disk


def run(plan: Plan, say: Say) -> Account:
    """Play a plan and account for every event."""
    with _bed() as (bed, disk):
        misfortunes = Misfortunes(
            bed,
            Random(plan.seed),
            plan.events_per_second,
            disk,
            lambda slot: ["-m", "chaos.worker", str(view_file(bed, slot)), *filter(None, [plan.broken])],
        )
        played = Run(plan, bed, misfortunes, say)
        played.play()
        say("accounting for every event")
        evidence = collect(bed)
        judgement = judge(evidence, misfortunes.happened)
        for name, cases in played.found.items():
            judgement.breach(name, cases)
        judgement.breach("ended-by-itself", misfortunes.ended_themselves)
        judgement.breach("logged-error", bed.defects())
        return Account.of(
            plan.seed,
            plan.seconds,
            evidence,
            judgement,
            misfortunes.happened,
            fenced=int(played.fenced),
            not_exercised=[] if disk is not None else [NO_DISK],
        )
