"""What befalls the layer: every kind of misfortune by its name, what it may cost, and when each one happened."""

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

import psycopg

from chaos import scene
from chaos.bed import LEASE_SECONDS, WORKER, Bed
from chaos.disk import SmallDisk
from chaos.faults import FAULTS, GONE
from chaos.happening import Happening, Lasting
from chaos.server import crash

MOMENT_SECONDS = 1.0
"""How long things last that must not cost a worker its lease."""

WHILE_SECONDS = LEASE_SECONDS + 1
FILL_DISK = "fill-disk"

LONGEST_SECONDS = 4 * LEASE_SECONDS
"""When a misfortune that waits for somebody to take over ends although nobody has."""

Command = Callable[[str], Sequence[str]]
"""Says how to start the worker of a slot."""


@dataclass
class Misfortunes:
    """All that can happen on a bed, drawn from `random`."""

    bed: Bed
    random: Random
    events_per_second: float
    disk: SmallDisk | None = None
    command: Command = lambda _: WORKER
    happened: list[Happening] = field(default_factory=list)
    ended_themselves: list[str] = field(default_factory=list)
    _lasting: list[Lasting] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=lambda: {slot: slot for slot in scene.WORKERS})
    _replacements: "count[int]" = field(default_factory=lambda: count(1))

    def kinds(self) -> Mapping[str, Callable[[], None]]:
        """Return what each kind does, on this machine."""
        own = {name: partial(do, self) for name, do in KINDS.items() if name != FILL_DISK or self.disk is not None}
        return own | {name: partial(self._misbehave, name, faults) for name, faults in FAULTS.items()}

    def tend(self) -> None:
        """End what has lasted long enough, and start again whoever ended by itself, which is a defect."""
        for lasting in [each for each in self._lasting if each.is_over()]:
            self._end(lasting)
        for name, program in list(self.bed.programs.items()):
            if name.startswith(("worker", "dispatcher")) and program.ended():
                self.ended_themselves.append(f"{name} with exit code {program.process.returncode}")
                self.start(name)

    def heal(self) -> None:
        """Let everything be well from now on."""
        for lasting in list(self._lasting):
            self._end(lasting)
        for name in scene.CONNECTIONS:
            self.bed.partner.misbehave(name)
            self.bed.release(name)

    def start(self, name: str) -> None:
        """Start a dispatcher or the worker of a slot."""
        if name in scene.DISPATCHERS:
            self.bed.start_dispatcher(name, skew_seconds=scene.DISPATCHERS[name])
        else:
            skew = scene.WORKERS[name]
            self.bed.start_worker(self._names[name], slot=name, skew_seconds=skew, command=self.command(name))

    # What is noted ---------------------------------------------------------------------------------------------------

    def _note(self, kind: str, whom: str = "") -> Happening:
        now = time.time()
        self.happened.append(Happening(kind, whom, now, now))
        return self.happened[-1]

    def _last(self, happening: Happening, is_over: Callable[[], bool], undo: Callable[[], None]) -> None:
        happening.ended = None
        self._lasting.append(Lasting(happening, is_over, undo))

    def _last_for(self, happening: Happening, seconds: float, undo: Callable[[], None]) -> None:
        over = time.monotonic() + seconds
        self._last(happening, lambda: time.monotonic() >= over, undo)

    def _last_until_taken_over(self, happening: Happening, undo: Callable[[], None]) -> None:
        session = self.bed.session(self._names[happening.whom])
        latest = time.monotonic() + LONGEST_SECONDS

        def is_over() -> bool:
            if time.monotonic() >= latest:
                return True
            return not self.bed.rows("select from integration.worker_session where id = %s", session)

        self._last(happening, is_over, undo)

    def _end(self, lasting: Lasting) -> None:
        self._lasting.remove(lasting)
        lasting.undo()
        lasting.happening.ended = time.time()

    def _well(self, names: Collection[str]) -> str:
        """Choose one whom nothing befalls now, as soon as there are enough others who can take over."""
        while len(well := [name for name in names if name not in self._troubled]) < min(3, len(names)):
            self.tend()
            time.sleep(0.05)
        return self.random.choice(well)

    @property
    def _troubled(self) -> set[str]:
        return {lasting.happening.whom for lasting in self._lasting}

    # Programs --------------------------------------------------------------------------------------------------------

    def kill_producer(self) -> None:
        """Kill a producer; it is started again at once."""
        name = self.random.choice(list(scene.PRODUCERS))
        self._note("kill-producer", name)
        self.bed.programs[name].kill()
        scene.start_producer(self.bed, name, self.events_per_second)

    def kill_dispatcher(self) -> None:
        """Kill a dispatcher; it is started again at once."""
        name = self._well(scene.DISPATCHERS)
        self._note("kill-dispatcher", name)
        self.bed.programs[name].kill()
        self.start(name)

    def stop_dispatcher(self) -> None:
        """Stop a dispatcher for a while."""
        name = self._well(scene.DISPATCHERS)
        self.bed.programs[name].send(signal.SIGSTOP)
        happening = self._note("stop-dispatcher", name)
        self._last_for(happening, WHILE_SECONDS, lambda: self.bed.programs[name].send(signal.SIGCONT))

    def kill_worker(self) -> None:
        """Kill a worker that a supervisor starts again at once, under its name."""
        slot = self._well(scene.WORKERS)
        self._note("kill-worker", slot)
        self.bed.programs[slot].kill()
        self.start(slot)

    def lose_worker(self) -> None:
        """Kill a worker whose place another takes, under a name of its own: the lease must run out."""
        slot = self._well(scene.WORKERS)
        self._note("lose-worker", slot)
        self.bed.programs[slot].kill()
        self._names[slot] = f"replacement-{next(self._replacements)}"
        self.start(slot)

    def stop_worker(self) -> None:
        """Stop a worker until its lanes were taken."""
        slot = self._well(scene.WORKERS)
        happening = self._note("stop-worker", slot)
        self.bed.programs[slot].send(signal.SIGSTOP)
        self._last_until_taken_over(happening, lambda: self.bed.programs[slot].send(signal.SIGCONT))

    # The database ----------------------------------------------------------------------------------------------------

    def crash_database(self) -> None:
        """Crash PostgreSQL and start it again at once."""
        self._crash("crash-database", 0.0)

    def lose_database(self) -> None:
        """Crash PostgreSQL and start it again when every lease has run out."""
        self._crash("lose-database", WHILE_SECONDS)

    def _crash(self, kind: str, seconds: float) -> None:
        happening = self._note(kind)
        crash(self.bed.server)
        time.sleep(seconds)
        self.bed.server.start()
        happening.ended = time.time()

    def kill_backend(self) -> None:
        """Kill one of the server's processes, after which PostgreSQL restarts all of them by itself."""
        happening = self._note("kill-backend")
        query = "select pid from pg_stat_activity where usename like 'chaos_%%' order by pid"
        os.kill(self.random.choice(self.bed.rows(query))[0], signal.SIGKILL)
        self.bed.until(self._database_answers, "PostgreSQL has recovered")
        happening.ended = time.time()

    def fill_disk(self) -> None:
        """Fill the disk, then give room; a server that could not live with that is started again."""
        if self.disk is None:
            raise LookupError("there is no disk to fill")
        happening = self._note(FILL_DISK)
        self.disk.fill()
        time.sleep(WHILE_SECONDS)
        self.disk.free()
        if not self._database_answers():
            crash(self.bed.server)
            self.bed.server.start()
        happening.ended = time.time()

    def cut_sessions(self) -> None:
        """Have the server end a third of all sessions, whatever they are doing."""
        self._note("cut-sessions")
        pids = self.bed.rows("select pid from pg_stat_activity where usename like 'chaos_%%' order by pid")
        for (pid,) in self.random.sample(pids, -(-len(pids) // 3)):
            self.bed.rows("select pg_terminate_backend(%s)", pid)

    def _database_answers(self) -> bool:
        try:
            self.bed.rows("select 1")
        except psycopg.OperationalError:
            return False
        return True

    # The network -----------------------------------------------------------------------------------------------------

    def cut_network(self) -> None:
        """Break the connections of a worker and of a dispatcher."""
        for name in (self._well(scene.WORKERS), self._well(scene.DISPATCHERS)):
            self._note("cut-network", name)
            self.bed.network.cut(name)

    def slow_network(self) -> None:
        """Slow the ways of a worker and of a dispatcher down for a while."""
        for name in (self._well(scene.WORKERS), self._well(scene.DISPATCHERS)):
            self.bed.network.slow_down(name, 0.03)
            self._last_for(self._note("slow-network", name), WHILE_SECONDS, partial(self.bed.network.heal, name))

    def lose_answers(self) -> None:
        """Let no answer through to a worker, a dispatcher and a producer for a moment, then break their connections."""
        for name in (self._well(scene.WORKERS), self._well(scene.DISPATCHERS), self._well(scene.PRODUCERS)):
            self.bed.network.lose_answers(name)
            self._last_for(self._note("lose-answers", name), MOMENT_SECONDS, partial(self.bed.network.heal, name))

    def partition_worker(self) -> None:
        """Let a worker reach the partner and not the database, until its lanes were taken."""
        slot = self._well(scene.WORKERS)
        happening = self._note("partition-worker", slot)
        self.bed.network.refuse(slot)
        self._last_until_taken_over(happening, partial(self.bed.network.heal, slot))

    def stall_worker(self) -> None:
        """Keep what a worker sends to the database on its way until its lanes were taken: its results come too late.

        The partner is slow throughout, so that there are requests under way when it begins, and that the next owner
        has the same ones under way when those results arrive.
        """
        connection = self.random.choice(list(scene.CONNECTIONS))
        slot = self._owner(connection)
        session = self.bed.session(self._names[slot])
        written = "select exists (select from integration.attempt where worker = %s)"
        self._wait_for(lambda: self.bed.value(written, session))
        received = self.bed.partner.stats(connection)["received"]
        self.bed.partner.misbehave(connection, {"kind": "delay", "seconds": MOMENT_SECONDS, "times": None})
        self._wait_for(lambda: self.bed.partner.stats(connection)["received"] > received)
        happening = self._note("stall-worker", slot)
        self.bed.network.stall(slot)
        self._last_until_taken_over(happening, lambda: self._flow_again(slot, connection))

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, and no longer than is likely."""
        latest = time.monotonic() + WHILE_SECONDS
        while not condition() and time.monotonic() < latest:
            self.tend()
            time.sleep(0.02)

    def _owner(self, connection: str) -> str:
        """Return the slot of the worker that owns a connection, as soon as that is one whom nothing befalls."""
        while True:
            self._well(scene.WORKERS)
            owner = self.bed.owner(connection)
            for slot, name in self._names.items():
                if name == owner and slot not in self._troubled:
                    return slot
            self.tend()
            time.sleep(0.05)

    def _flow_again(self, slot: str, connection: str) -> None:
        self.bed.network.heal(slot)
        self.bed.partner.misbehave(connection)

    def stall_dispatcher(self) -> None:
        """Keep what a dispatcher sends to the database on its way for a while."""
        name = self._well(scene.DISPATCHERS)
        self.bed.network.stall(name)
        self._last_for(self._note("stall-dispatcher", name), WHILE_SECONDS, partial(self.bed.network.heal, name))

    # People and partners ---------------------------------------------------------------------------------------------

    def publish_routing(self) -> None:
        """Change every connection's throttle, and publish the late connection if it is not yet."""
        self._note("publish-routing")
        scene.publish_all(self.bed, concurrency=self.random.randint(8, 32))
        scene.publish_late(self.bed)

    def quarantine_and_release(self) -> None:
        """Have a partner want no more, so that nothing but a person lets deliveries go on, which one does."""
        name = self.random.choice(list(scene.CONNECTIONS))
        self.bed.partner.misbehave(name, GONE)
        self._last_for(self._note("partner-gone", name), WHILE_SECONDS, partial(self.bed.release, name))

    def _misbehave(self, kind: str, faults: Sequence[Mapping[str, object]]) -> None:
        name = self.random.choice(list(scene.CONNECTIONS))
        self._note(kind, name)
        self.bed.partner.misbehave(name, *faults)


KINDS: Mapping[str, Callable[[Misfortunes], None]] = {
    "kill-producer": Misfortunes.kill_producer,
    "kill-dispatcher": Misfortunes.kill_dispatcher,
    "stop-dispatcher": Misfortunes.stop_dispatcher,
    "kill-worker": Misfortunes.kill_worker,
    "lose-worker": Misfortunes.lose_worker,
    "stop-worker": Misfortunes.stop_worker,
    "crash-database": Misfortunes.crash_database,
    "lose-database": Misfortunes.lose_database,
    "kill-backend": Misfortunes.kill_backend,
    FILL_DISK: Misfortunes.fill_disk,
    "cut-sessions": Misfortunes.cut_sessions,
    "cut-network": Misfortunes.cut_network,
    "slow-network": Misfortunes.slow_network,
    "lose-answers": Misfortunes.lose_answers,
    "partition-worker": Misfortunes.partition_worker,
    "stall-worker": Misfortunes.stall_worker,
    "stall-dispatcher": Misfortunes.stall_dispatcher,
    "publish-routing": Misfortunes.publish_routing,
    "partner-gone": Misfortunes.quarantine_and_release,
}
"""Every kind but the partners' faults, which have names of their own: see `chaos.faults`."""
