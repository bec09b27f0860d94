"""One container: a local process that is started, probed, started again when it ends, and ended."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.kubelet.api import Object
from tests.cluster.kubelet.probes import Prober
from tests.cluster.kubelet.volumes import NotYetError
from tests.cluster.processes import Process

# A real kubelet waits 10 s, doubling to 5 minutes, and forgets after 10 minutes; the first restart is at once in both.
FIRST_BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 4.0
CONFIGURATION_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that starting a container takes."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    translate: Callable[[str], str]
    last_words: Path


class Container:
    """One container of a pod."""

    def __init__(
        self,
        spec: Object,
        log: Path,
        restart_policy: str,
        grace_seconds: float,
        prober: Prober,
        prepare: Callable[[Object], Awaitable[Launch]],
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.log = log
        self.process: Process | None = None
        self.restarts = 0
        self.exit_code: int | None = None
        self._restart_policy = restart_policy
        self._grace_seconds = grace_seconds
        self._prober = prober
        self._prepare = prepare
        self._changed = changed
        self._state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self._last_state: Object = {}
        self._started = self._ready = False
        self._launch: Launch | None = None
        self._ended = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether its process runs and says that it is ready."""
        return self._ready

    @property
    def running(self) -> bool:
        """Whether its process has been started and not ended."""
        return "running" in self._state

    def status(self) -> Object:
        """Return its entry in containerStatuses."""
        return {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "",
            "containerID": f"process://{self.process.pid}" if self.process else "",
            "ready": self._ready,
            "started": self._started,
            "restartCount": self.restarts,
            "state": self._state,
            "lastState": self._last_state,
        }

    async def run(self) -> int:
        """Run it until it needs no further start; return its last exit code."""
        while True:
            self._launch = await self._configured()
            if self._stopping.is_set():
                return 0
            code = await self._run_once(self._launch)
            if self._stopping.is_set() or not self._starts_again(code):
                self.exit_code = code
                return code
            await self._back_off()
            if self._stopping.is_set():
                self.exit_code = code
                return code
            self.restarts += 1

    async def terminate(self, grace_seconds: float) -> None:
        """End it for good: hook, SIGTERM, and SIGKILL when the grace period is over."""
        self._stopping.set()
        await self._end_process(grace_seconds)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send its process a signal."""
        if self.process is not None:
            self.process.signal(number)

    def kill_for_good(self) -> None:
        """Kill it, and start it no more."""
        self._stopping.set()
        self.kill()

    async def _configured(self) -> Launch:
        while True:
            try:
                launch = await self._prepare(self.spec)
            except NotYetError as error:
                self._set_state({"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}})
                await asyncio.sleep(CONFIGURATION_RETRY_SECONDS)
            else:
                return launch

    async def _run_once(self, launch: Launch) -> int:
        begun = _now()
        self._ended.clear()
        try:
            self.process = Process(launch.command, self.log, environment=launch.environment, directory=launch.directory)
        except OSError as error:
            self._set_state(_terminated(128, "StartError", begun, str(error)))
            return 128
        self._started = "startupProbe" not in self.spec
        self._ready = self._started and "readinessProbe" not in self.spec
        self._set_state({"running": {"startedAt": begun}})
        probing = asyncio.create_task(self._probe())
        try:
            await _exit_of(self.process)
        except asyncio.CancelledError:
            self.process.kill()
            raise
        finally:
            probing.cancel()
        code = self.process.wait()
        # As shells and Kubernetes count a death by signal.
        code = code if code >= 0 else 128 - code
        self._started = self._ready = False
        self._set_state(_terminated(code, "Error" if code else "Completed", begun, self._last_words(launch, code)))
        self._ended.set()
        return code

    def _last_words(self, launch: Launch, code: int) -> str:
        words = launch.last_words.read_bytes()[:4096]
        if not words and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            words = self.log.read_bytes()[-2048:]
        return words.decode(errors="replace")

    def _starts_again(self, code: int) -> bool:
        return self._restart_policy == "Always" or (self._restart_policy == "OnFailure" and code != 0)

    async def _back_off(self) -> None:
        self._last_state = self._state
        if self.restarts == 0:
            return
        seconds = min(FIRST_BACK_OFF_SECONDS * 2 ** (self.restarts - 1), LONGEST_BACK_OFF_SECONDS)
        message = f"back-off {seconds:g}s restarting failed container={self.name}"
        self._set_state({"waiting": {"reason": "CrashLoopBackOff", "message": message}})
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _probe(self) -> None:
        if "startupProbe" in self.spec:
            async for well in self._prober.results(self.spec["startupProbe"]):
                if well:
                    break
                await self._end_process(self._grace_seconds)
                return
            self._started = True
            self._ready = "readinessProbe" not in self.spec
            self._changed()
        async with asyncio.TaskGroup() as probes:
            if "readinessProbe" in self.spec:
                probes.create_task(self._follow_readiness())
            if "livenessProbe" in self.spec:
                probes.create_task(self._follow_liveness())

    async def _follow_readiness(self) -> None:
        async for ready in self._prober.results(self.spec["readinessProbe"]):
            if ready != self._ready:
                self._ready = ready
                self._changed()

    async def _follow_liveness(self) -> None:
        async for alive in self._prober.results(self.spec["livenessProbe"]):
            if not alive:
                await self._end_process(self._grace_seconds)
                return

    async def _end_process(self, grace_seconds: float) -> None:
        if not self.running or self.process is None:
            return
        process = self.process
        deadline = asyncio.get_running_loop().time() + grace_seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._pre_stop()
                process.signal(signal.SIGTERM)
                await self._ended.wait()
        except TimeoutError:
            process.signal(signal.SIGKILL)
            await self._ended.wait()

    async def _pre_stop(self) -> None:
        hook = self.spec.get("lifecycle", {}).get("preStop", {})
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif "exec" in hook and self._launch is not None:
            command = [self._launch.translate(word) for word in hook["exec"]["command"]]
            running = Process(command, self.log, environment=self._launch.environment, directory=self._launch.directory)
            try:
                await _exit_of(running)
            finally:
                running.kill()

    def _set_state(self, state: Object) -> None:
        self._state = state
        self._changed()


async def _exit_of(process: Process) -> None:
    """Wait until a process has ended, without a thread and without asking again and again."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        # Whoever has sent it a signal meanwhile has also seen its end.
        return
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _terminated(code: int, reason: str, begun: str, message: str = "") -> Object:
    details = {"exitCode": code, "reason": reason, "startedAt": begun, "finishedAt": _now()}
    return {"terminated": details | ({"message": message} if message else {})}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
