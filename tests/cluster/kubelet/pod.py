"""One pod's life: volumes, init containers, containers, status, deletion."""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.kubelet.api import Api, Object
from tests.cluster.kubelet.container import Container, Launch
from tests.cluster.kubelet.environment import TOKEN_FOLDER, Root, command_line, expand, field_value
from tests.cluster.kubelet.probes import Prober
from tests.cluster.kubelet.support import UnsupportedError, check_supported
from tests.cluster.kubelet.volumes import NotYetError, Volumes, pod_token, read_data

MOUNT_RETRY_SECONDS = 0.5

logger = logging.getLogger(__name__)


class Pod:
    """A pod that this kubelet runs."""

    def __init__(
        self,
        pod: Object,
        folder: Path,
        api: Api,
        probes: httpx.AsyncClient,
        *,
        server: Callable[[], str],
        authority: Path,
        sync_seconds: Callable[[], float],
    ) -> None:
        self.object = pod
        self.folder = folder
        self.ip = _loopback_address()
        self.refusal: str | None = None
        self._api = api
        self._server = server
        self._authority = authority
        self._sync_seconds = sync_seconds
        self._path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        folder.mkdir(parents=True)
        self.volumes = Volumes(api, folder / "volumes", self.ip)
        self._begun = _now()
        self._transitions: dict[str, tuple[str, str]] = {}
        self._status_changed = asyncio.Event()
        self._object_changed = asyncio.Event()
        self._deletion = asyncio.Event()
        self._gone = asyncio.Event()
        self._reported: Object = {}
        self._init_done = False
        policy = pod["spec"].get("restartPolicy", "Always")
        init_policy = "Never" if policy == "Never" else "OnFailure"
        self._init = self._containers(pod["spec"].get("initContainers", ()), init_policy, probes)
        self._main = self._containers(pod["spec"]["containers"], policy, probes)

    @property
    def containers(self) -> list[Container]:
        """All containers, init containers first."""
        return [*self._init, *self._main]

    def container(self, name: str | None) -> Container:
        """Return a container by its name, or the first of the main ones."""
        return next(each for each in (self._main if name is None else self.containers) if name in {None, each.name})

    def real_path(self, path: str, container: str | None) -> Path:
        """Return where a path inside of a container really is."""
        return self._root(self.container(container).spec).real(Path(path))

    def update(self, pod: Object) -> None:
        """Take in a new version of the object; one whose status alone has changed means nothing to do."""
        former, self.object = self.object, pod
        if _meaning(former) != _meaning(pod):
            self._object_changed.set()
        if "deletionTimestamp" in pod["metadata"]:
            self._deletion.set()

    def vanish(self) -> None:
        """Take in that the object is gone: nothing is left to be graceful for."""
        self._gone.set()
        self._deletion.set()
        self.kill()

    def kill(self) -> None:
        """Kill all of its processes, for good."""
        for container in self.containers:
            container.kill_for_good()

    async def run(self) -> None:
        """Live until the object has been deleted."""
        deletion = asyncio.create_task(self._deletion.wait())
        tasks: set[asyncio.Task[object]] = {
            deletion,
            asyncio.create_task(self._report()),
            asyncio.create_task(self._live()),
        }
        try:
            underway = tasks
            while not deletion.done():
                done, underway = await asyncio.wait(underway, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    # What goes wrong in a pod's life unexpectedly is the kubelet's own failure.
                    task.result()
            grace = self.object["metadata"].get("deletionGracePeriodSeconds", 0)
            await asyncio.gather(*(container.terminate(grace) for container in self.containers))
        finally:
            self.kill()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._gone.is_set():
            await self._api.patch_status(self._path, self._status())
            await self._api.delete_at_once(self._path, self.object["metadata"]["uid"])

    async def _live(self) -> None:
        try:
            check_supported(self.object["spec"])
        except UnsupportedError as error:
            self.refusal = f"{self._path}: {error}"
            logger.error("%s", self.refusal)
            self._status_changed.set()
            return
        self._status_changed.set()
        await self._mount()
        async with asyncio.TaskGroup() as tasks:
            syncing = tasks.create_task(self._keep_volumes())
            for container in self._init:
                if await container.run():
                    break
            else:
                self._init_done = True
                async with asyncio.TaskGroup() as running:
                    for container in self._main:
                        running.create_task(container.run())
            self._status_changed.set()
            syncing.cancel()

    async def _mount(self) -> None:
        """Lay the volumes out; wait for what they need, as long as that takes."""
        while True:
            try:
                await self.volumes.sync(self.object)
            except NotYetError as error:
                logger.info("%s waits: %s", self._path, error)
                await asyncio.sleep(MOUNT_RETRY_SECONDS)
            else:
                return

    async def _keep_volumes(self) -> None:
        """Renew the volumes at once when the object has changed, else lazily; a Secret's own change is not watched."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._object_changed.wait(), self._sync_seconds())
            self._object_changed.clear()
            try:
                await self.volumes.sync(self.object)
            except NotYetError as error:
                logger.info("%s keeps its former files: %s", self._path, error)

    def _containers(self, specs: Iterable[Object], policy: str, probes: httpx.AsyncClient) -> list[Container]:
        return [
            Container(
                spec,
                self.folder / f"{spec['name']}.log",
                policy,
                self.object["spec"].get("terminationGracePeriodSeconds", 30),
                Prober(probes, spec, self.ip),
                self._prepare,
                self._status_changed.set,
            )
            for spec in specs
        ]

    async def _prepare(self, container: Object) -> Launch:
        root = self._root(container)
        root.lay_out()
        variables = await self._variables(container)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "HOSTNAME": self.object["metadata"]["name"],
            **{name: root.translate(value) for name, value in variables.items()},
        }
        if root.has(TOKEN_FOLDER):
            # The paths that programs in a cluster look at cannot exist here for each pod.
            environment.setdefault("KUBECONFIG", str(await self._kubeconfig()))
        directory = Path(root.translate(container["workingDir"])) if "workingDir" in container else self.folder
        command = command_line(container, variables, root)
        return Launch(command, environment, directory, root.translate, root.last_words)

    async def _kubeconfig(self) -> Path:
        return write_kubeconfig(
            self.folder / "kubeconfig",
            self._server(),
            self._authority,
            token=await pod_token(self._api, self.object),
            namespace=self.object["metadata"]["namespace"],
        )

    async def _variables(self, container: Object) -> dict[str, str]:
        variables: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            (kind,) = source.keys() & {"secretRef", "configMapRef"}
            reference = source[kind]
            data = await self._data(kind.removesuffix("Ref"), reference)
            prefix = source.get("prefix", "")
            variables |= {f"{prefix}{key}": value.decode() for key, value in data.items()}
        for variable in container.get("env", ()):
            value = await self._value(variable, variables)
            if value is not None:
                variables[variable["name"]] = value
        return variables

    async def _value(self, variable: Object, earlier: dict[str, str]) -> str | None:
        if "valueFrom" not in variable:
            return expand(variable.get("value", ""), earlier)
        ((kind, source),) = variable["valueFrom"].items()
        match kind:
            case "fieldRef":
                return field_value(self.object, source["fieldPath"], self.ip)
            case "secretKeyRef" | "configMapKeyRef":
                data = await self._data(kind.removesuffix("KeyRef"), source)
                if source["key"] in data:
                    return data[source["key"]].decode()
                if source.get("optional"):
                    return None
                raise NotYetError(
                    f"couldn't find key {source['key']} in {kind.removesuffix('KeyRef')} {source['name']}"
                )
            case _:
                raise UnsupportedError(f"the process kubelet does not support env.valueFrom.{kind}")

    async def _data(self, kind: str, reference: Object) -> dict[str, bytes]:
        data = await read_data(self._api, self.object, kind, reference["name"])
        if data is None and not reference.get("optional"):
            raise NotYetError(f'{kind} "{reference["name"]}" not found')
        return data or {}

    def _root(self, container: Object) -> Root:
        return Root(self.folder / "roots" / container["name"], container, self.volumes.folder)

    async def _report(self) -> None:
        while True:
            await self._status_changed.wait()
            self._status_changed.clear()
            status = self._status()
            if status != self._reported:
                await self._api.patch_status(self._path, status)
                self._reported = status

    def _status(self) -> Object:
        phase = self._phase()
        main_ready = all(container.ready for container in self._main)
        conditions = {
            "Initialized": self._init_done,
            "ContainersReady": main_ready,
            "Ready": main_ready and not self._deletion.is_set(),
        }
        status: Object = {
            "phase": phase,
            "conditions": [self._condition(kind, holds) for kind, holds in conditions.items()],
            "hostIP": "127.0.0.1",
            "podIP": self.ip,
            # Merged with what an earlier kubelet has written, it would be a second address.
            "podIPs": [{"$patch": "replace"}, {"ip": self.ip}],
            "startTime": self._begun,
            "containerStatuses": [container.status() for container in self._main],
        }
        if self._init:
            status["initContainerStatuses"] = [container.status() for container in self._init]
        if self.refusal:
            status |= {"reason": "Unsupported", "message": self.refusal}
        return status

    def _phase(self) -> str:
        if self.refusal or any(container.exit_code for container in self._init):
            return "Failed"
        codes = [container.exit_code for container in self._main]
        if None not in codes:
            return "Failed" if any(codes) else "Succeeded"
        return "Running" if self._init_done and any(each.process for each in self._main) else "Pending"

    def _condition(self, kind: str, holds: bool) -> Object:
        status = str(holds)
        if self._transitions.get(kind, ("", ""))[0] != status:
            self._transitions[kind] = (status, _now())
        return {"type": kind, "status": status, "lastTransitionTime": self._transitions[kind][1]}


def _meaning(pod: Object) -> tuple[object, ...]:
    """Return the parts of a pod whose change makes a kubelet look at it."""
    metadata = pod["metadata"]
    return (
        pod["spec"],
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("deletionTimestamp"),
        metadata.get("deletionGracePeriodSeconds"),
    )


def _loopback_address() -> str:
    """Pick an address for a pod: of sixteen million, so that kubelets of other test processes pick others."""
    return "127." + ".".join(str(1 + secrets.randbelow(254)) for _ in range(3))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
