"""A kubelet, and a scheduler, whose containers are local processes: rollouts, drains, rotations and crashes are real.

It binds every pod that waits for a node to its only one, and runs its containers as `container.py` says. Whatever the
image is called, its entrypoint is the code of this work tree. Each pod has a loopback address of its own, so it needs
Linux, where all of 127.0.0.0/8 can be listened on; the API refuses such addresses in EndpointSlices, so Services have
no endpoints.
"""

import asyncio
import logging
import shutil
import signal
import tempfile
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet.api import Api, ApiError, Object
from tests.cluster.kubelet.pod import Pod

NODE = "process-node"
SYNC_SECONDS = 60.0

logger = logging.getLogger(__name__)


class KubeletFailedError(Exception):
    """The process kubelet itself has gone wrong, or was asked for what it cannot do."""


class ProcessKubelet:
    """Runs all pods of a cluster, in a thread, from entering it as a context manager to leaving it.

    `sync_seconds` is how lazily changed Secrets and ConfigMaps reach the files, and `server` the address of the API
    that pods are given; both may be set at any time.
    """

    def __init__(self, cluster: ControlPlane) -> None:
        self.sync_seconds = SYNC_SECONDS
        self.server = cluster.url
        self.failures: list[str] = []
        self._cluster = cluster
        self._folder = Path(tempfile.mkdtemp(prefix="integration-layer-kubelet-"))
        self._pods: dict[str, Pod] = {}
        self._binding: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listed = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._following: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._work, name="process-kubelet")

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listed.wait(60):
            self._stop()
            raise KubeletFailedError(f"the process kubelet could not list pods: {self.failures}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        refusals = [pod.refusal for pod in self._pods.values() if pod.refusal]
        if error is None and (self.failures or refusals):
            raise KubeletFailedError("\n".join([*self.failures, *refusals]))

    def logs(self, namespace: str, name: str, container: str | None = None) -> str:
        """Return what a container has written, over all its restarts, also after its pod is gone."""
        log = self._find(namespace, name).container(container).log
        return log.read_text(errors="replace") if log.exists() else ""

    def kill(self, namespace: str, name: str, number: int = signal.SIGKILL, container: str | None = None) -> None:
        """Send a container's process a signal; what a kill ends is started again."""
        self._find(namespace, name).container(container).kill(number)

    def pid(self, namespace: str, name: str, container: str | None = None) -> int | None:
        """Return the id of a container's process, the last one if it has ended."""
        process = self._find(namespace, name).container(container).process
        return process.pid if process else None

    def path(self, namespace: str, name: str, path: str, container: str | None = None) -> Path:
        """Return where a path in a container's volumes really is."""
        return self._find(namespace, name).real_path(path, container)

    def _find(self, namespace: str, name: str) -> Pod:
        """Return the latest pod of this name."""
        for pod in reversed([*self._pods.values()]):
            metadata = pod.object["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return pod
        raise KeyError(f"no pod {namespace}/{name} has run here; running were {[*self._pods]}")

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._main())
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - told where the test ends, not in a thread that nobody hears
                self.failures.append(f"kubelet: {error!r}")
                self._listed.set()

    async def _main(self) -> None:
        self._following = asyncio.current_task()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        tls = self._cluster.admin_tls()
        async with (
            httpx.AsyncClient(
                base_url=self._cluster.url, verify=tls, timeout=60.0, limits=limits, trust_env=False
            ) as client,
            # Each probe has a connection of its own, as a kubelet's do.
            httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False) as probes,
        ):
            api = Api(client)
            try:
                await _register_node(api)
                async for kind, found in api.follow("/api/v1/pods"):
                    self._take_in(api, probes, kind, found)
            finally:
                for pod in self._pods.values():
                    pod.kill()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await api.finish()

    def _take_in(self, api: Api, probes: httpx.AsyncClient, kind: str, found: list[Object] | Object) -> None:
        if isinstance(found, list):
            present = {pod["metadata"]["uid"] for pod in found}
            for uid in self._pods.keys() - present:
                self._pods[uid].vanish()
            for pod in found:
                self._see(api, probes, pod)
            self._listed.set()
        elif kind == "DELETED":
            if found["metadata"]["uid"] in self._pods:
                self._pods[found["metadata"]["uid"]].vanish()
        else:
            self._see(api, probes, found)

    def _see(self, api: Api, probes: httpx.AsyncClient, pod: Object) -> None:
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        if uid in self._pods:
            self._pods[uid].update(pod)
        elif node == NODE and "deletionTimestamp" in pod["metadata"]:
            # An earlier kubelet has run it, and has ended with all of its processes.
            self._spawn(_delete(api, pod), f"deletion of {pod['metadata']['name']}")
        elif node == NODE and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}:
            run = self._pods[uid] = Pod(
                pod,
                self._folder / uid,
                api,
                probes,
                server=lambda: self.server,
                authority=self._cluster.authority.certificate,
                sync_seconds=lambda: self.sync_seconds,
            )
            self._spawn(run.run(), f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}")
        elif node is None and uid not in self._binding and not pod["spec"].get("schedulingGates"):
            self._binding.add(uid)
            self._spawn(_bind(api, pod), f"binding of {pod['metadata']['name']}")

    def _spawn(self, work: Coroutine[object, object, None], what: str) -> None:
        task = asyncio.create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s failed", task.get_name(), exc_info=error)
            self.failures.append(f"{task.get_name()}: {error!r}")

    def _stop(self) -> None:
        if self._following is not None:
            # A loop that has ended already has said why in `failures`.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._following.cancel)
        self._thread.join()
        shutil.rmtree(self._folder)


async def _register_node(api: Api) -> None:
    node = {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}}}
    await api.request("POST", "/api/v1/nodes", node)
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "pods are local processes"}
    await api.patch_status(f"/api/v1/nodes/{NODE}", {"conditions": [ready]})


async def _bind(api: Api, pod: Object) -> None:
    metadata = pod["metadata"]
    binding = {"metadata": {"name": metadata["name"]}, "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}}
    try:
        await api.request(
            "POST", f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding", binding
        )
    except ApiError as error:
        if "NamespaceTerminating" not in str(error):  # a pod that somebody left behind goes with its namespace
            raise


async def _delete(api: Api, pod: Object) -> None:
    metadata = pod["metadata"]
    await api.delete_at_once(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", metadata["uid"])
