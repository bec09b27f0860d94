"""Who leads: one replica at a time holds the Lease, the others stand by and take over.

The leader renews every two seconds and stops leading when it could not for ten; others take the Lease when they have
seen no change of it for fifteen, by their own clock, so clocks need not agree. A leader that is told to stop gives the
Lease back, and the next one takes it within a second.

Time alone proves nothing to a process that was frozen. So each time in office is a `Term`, ordered by the Lease's
creation and its count of transitions, and the database refuses what an older term wants to write (`store.leadership`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from integration_operator.errors import ConflictError, NotFoundError, OperatorError
from integration_operator.kube import Json, Kube, path_to
from integration_operator.names import ObjectKey
from store.leadership import Term

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15.0
RENEW_DEADLINE_SECONDS: Final = 10.0
RENEW_SECONDS: Final = 2.0
POLL_SECONDS: Final = 1.0
_REQUEST_SECONDS: Final = 5.0

_API = "coordination.k8s.io/v1"


class Elector:
    """One replica's candidacy."""

    def __init__(self, kube: Kube, lease: ObjectKey, identity: str) -> None:
        self._kube = kube
        self._lease = lease
        self._holder = f"{identity}_{uuid4().hex[:8]}"
        self._seen: tuple[str, int, str] | None = None
        self._seen_at = 0.0

    async def run(self, lead: Callable[[Term], Awaitable[None]], stop: asyncio.Event) -> None:
        """Lead whenever elected, until `stop`; `lead` is cancelled when the Lease is lost."""
        while not stop.is_set():
            held = await self._try_to_acquire()
            if held is not None:
                await self._hold(held, lead, stop)
            else:
                await _sleep(POLL_SECONDS, stop)

    async def _try_to_acquire(self) -> Json | None:
        """Take the Lease if it is free or its holder is silent; return it if it is ours now."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return await self._acquired()
        except (ConflictError, TimeoutError):
            return None
        except OperatorError as error:
            log.warning("cannot reach for the leader's Lease", extra={"lease": str(self._lease), "reason": str(error)})
            return None

    async def _acquired(self) -> Json | None:
        try:
            lease = await self._kube.get(self._path)
        except NotFoundError:
            return await self._kube.create(path_to(_API, "leases", self._lease.namespace), self._claim(None))
        if not self._is_free(lease):
            return None
        return await self._kube.replace(self._path, self._claim(lease))

    def _is_free(self, lease: Json) -> bool:
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._holder):
            return True  # given back, or ours still from a term that is over
        seen = (holder, spec.get("leaseTransitions") or 0, spec.get("renewTime") or "")
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        return time.monotonic() - self._seen_at > (spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    def _claim(self, lease: Json | None) -> Json:
        now = _micro_time()
        metadata = lease["metadata"] if lease else {"name": self._lease.name, "namespace": self._lease.namespace}
        former = (lease or {}).get("spec") or {}
        spec = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": (former.get("leaseTransitions") or 0) + 1,
        }
        return {"apiVersion": _API, "kind": "Lease", "metadata": metadata, "spec": spec}

    async def _hold(self, lease: Json, lead: Callable[[Term], Awaitable[None]], stop: asyncio.Event) -> None:
        term = Term(
            datetime.fromisoformat(lease["metadata"]["creationTimestamp"]),
            lease["spec"]["leaseTransitions"],
            self._holder,
        )
        log.info("leading", extra={"lease": str(self._lease), "transitions": term.transitions})
        leading = asyncio.create_task(_told(lead(term)))
        renewing = asyncio.create_task(self._renew(lease))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((leading, renewing, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leading, stopping):
                task.cancel()
            await asyncio.gather(leading, stopping, return_exceptions=True)
            lost = renewing.done()
            renewing.cancel()
            (last,) = await asyncio.gather(renewing, return_exceptions=True)
            log.info("no longer leading", extra={"lease": str(self._lease), "lost": lost})
            if not lost:
                await self._release()
            elif isinstance(last, Exception):
                log.error("renewing the Lease ended by a defect", exc_info=last)

    async def _renew(self, lease: Json) -> None:
        """Renew until that has failed for too long or somebody else holds the Lease."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEW_DEADLINE_SECONDS) as limit:  # whatever is under way then, others may lead
                while True:
                    await asyncio.sleep(RENEW_SECONDS)
                    asked = asyncio.get_running_loop().time()
                    try:
                        async with asyncio.timeout(_REQUEST_SECONDS):
                            lease["spec"]["renewTime"] = _micro_time()
                            lease = await self._kube.replace(self._path, lease)
                        limit.reschedule(asked + RENEW_DEADLINE_SECONDS)
                    except ConflictError:
                        current = await self._read()
                        if current is not None:
                            if current["spec"].get("holderIdentity") != self._holder:
                                return
                            lease = current
                    except (OperatorError, TimeoutError) as error:
                        reason = str(error) or type(error).__name__
                        log.warning("cannot renew the leader's Lease", extra={"reason": reason})

    async def _read(self) -> Json | None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                return await self._kube.get(self._path)
        except (OperatorError, TimeoutError):
            return None

    async def _release(self) -> None:
        """Give the Lease back, if it is still ours; should this fail, it runs out by itself."""
        lease = await self._read()
        if lease is None or lease["spec"].get("holderIdentity") != self._holder:
            return
        lease["spec"]["holderIdentity"] = ""
        lease["spec"]["leaseDurationSeconds"] = 1
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                await self._kube.replace(self._path, lease)
        except (OperatorError, TimeoutError) as error:
            log.warning("cannot give the Lease back", extra={"reason": str(error) or type(error).__name__})

    @property
    def _path(self) -> str:
        return path_to(_API, "leases", self._lease.namespace, self._lease.name)


async def _told(leading: Awaitable[None]) -> None:
    """Lead, and log what ended it; the election goes on."""
    try:
        await leading
    except Exception:
        log.exception("leading ended by an error; the Lease is given back")
        await asyncio.sleep(POLL_SECONDS)


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
