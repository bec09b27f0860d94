"""The watches, run by kopf in a thread of its own: they tell what changed, and decide nothing.

kopf lists and watches, reconnects, and survives 410 Gone, stalled streams and an API server that is away. None of its
change handlers, timers, daemons, indexes or annotations is used; it never writes. What it cannot tell (deletions in a
gap between two watches) the resync finds; and where the resync finds what a watch should have told, all begin again.

A thread, because kopf takes over the signals of the main one, and because a busy operator must still read its watches.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import kopf
import uvloop
from kubernetes.aio.client import Configuration

from integration_operator.kube import Json
from integration_operator.names import (
    CREDENTIALS_LABEL,
    GROUP,
    MANAGED_BY_LABEL,
    OPERATOR,
    PLURAL,
    REPLAY_PLURAL,
    VERSION,
)
from integration_operator.settings import OperatorSettings

log = logging.getLogger(__name__)

Tell = Callable[[str, Json, bool], None]
"""Takes a resource's plural name, an object of it, and whether that is deleted."""

_RESTART_SECONDS: Final = 5.0
_INACTIVITY_SECONDS: Final = 70.0


class Watches:
    """All watches of one operator."""

    def __init__(self, settings: OperatorSettings, configuration: Configuration, tell: Tell) -> None:
        self._settings = settings
        self._configuration = configuration
        self._tell = tell
        self._told_at: dict[str, float] = {}
        self._run_stop = threading.Event()

    def last_told(self, plural: str) -> float:
        """Return when the watch of a resource last told anything, by the monotonic clock; 0 if it never did."""
        return self._told_at.get(plural, 0.0)

    def begin_again(self) -> None:
        """End all watches and list everything anew."""
        self._run_stop.set()

    async def run(self) -> None:
        """Watch until cancelled; `tell` is called on this loop."""
        # It logs each event that it hands on, and that it leaves signals alone.
        logging.getLogger("kopf").setLevel(logging.WARNING)
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        ended = asyncio.Event()

        def tell(resource: str, body: Json, *, deleted: bool) -> None:
            self._told_at[resource] = time.monotonic()
            loop.call_soon_threadsafe(self._tell, resource, body, deleted)

        def watch() -> None:
            try:
                uvloop.run(self._watch(tell, stop))
            finally:
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=watch, name="watches", daemon=True).start()
        try:
            await ended.wait()
        finally:
            stop.set()
            self.begin_again()
            await ended.wait()

    async def _watch(self, tell: Callable[..., None], stop: threading.Event) -> None:
        while not stop.is_set():
            self._run_stop.clear()
            if stop.is_set():
                return  # it was told between the two lines above
            try:
                await kopf.operator(
                    registry=self._registry(tell),
                    settings=self._kopf_settings(),
                    standalone=True,
                    clusterwide=not self._settings.namespaces,
                    namespaces=self._settings.namespaces,
                    stop_flag=self._run_stop,
                )
            except Exception as error:  # noqa: BLE001 -- whatever ended the watches, they are begun again
                log.warning("the watches ended and begin again", extra={"reason": str(error)[:500]})
            await asyncio.to_thread(stop.wait, _RESTART_SECONDS)

    def _registry(self, tell: Callable[..., None]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        def watch(group: str, version: str, plural: str) -> None:
            async def on_event(event: Any, **_: Any) -> None:
                tell(plural, event["object"], deleted=event["type"] == "DELETED")

            kopf.on.event(group, version, plural, registry=registry, id=plural)(on_event)

        kopf.on.login(registry=registry)(self._login)
        watch(GROUP, VERSION, PLURAL)
        watch(GROUP, VERSION, REPLAY_PLURAL)
        watch("", "v1", "secrets")
        watch("apps", "v1", "deployments")
        if not self._settings.namespaces:
            watch("coordination.k8s.io", "v1", "leases")
            watch("", "v1", "namespaces")
        return registry

    def _kopf_settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.watching.inactivity_timeout = _INACTIVITY_SECONDS
        settings.watching.connect_timeout = 10
        settings.watching.chunk_size = 500
        settings.watching.reconnect_backoff = 0.5
        settings.networking.request_timeout = 30
        settings.networking.connect_timeout = 10
        settings.networking.enforce_retry_after = True
        # Then the watches end and begin again. kopf's own longer waits would go on when nothing is wrong any more.
        settings.networking.error_backoffs = (1, 2, 3, 5)
        # kopf has a task for each object that keeps the last event in memory for so long: all objects, at a start.
        settings.queueing.idle_timeout = 0.1
        settings.queueing.exit_timeout = 1.0
        settings.process.ultimate_exiting_timeout = None
        settings.persistence.diffbase_storage = _NoDiffs()
        ours = f"{MANAGED_BY_LABEL}={OPERATOR}"
        settings.watching.label_selectors["v1", "secrets"] = f"{CREDENTIALS_LABEL}=true"
        settings.watching.label_selectors["apps", "v1", "deployments"] = ours
        lease = f"metadata.name={self._settings.lease_name}"
        settings.watching.field_selectors["coordination.k8s.io", "v1", "leases"] = lease
        return settings

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        configuration = self._configuration
        token = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            ca_data=configuration.ca_cert_data,
            token=token.removeprefix("Bearer ") if token else None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )


class _NoDiffs(kopf.DiffBaseStorage):
    """Spares kopf copying every object that comes, to find what differs: only change handlers would ask for that."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass
