"""Probes, as a kubelet does them: over HTTP to the pod's own address."""

import asyncio
from collections.abc import AsyncIterator

import httpx

from tests.cluster.kubelet.api import Object


class Prober:
    """Asks one container how it is."""

    def __init__(self, client: httpx.AsyncClient, container: Object, pod_ip: str) -> None:
        self._client = client
        self._pod_ip = pod_ip
        self._ports = {port["name"]: port["containerPort"] for port in container.get("ports", ()) if "name" in port}

    async def results(self, probe: Object) -> AsyncIterator[bool]:
        """Yield the container's state by this probe whenever it may have changed: thresholds are already in it."""
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        successes = failures = 0
        while True:
            if await self._succeeds(probe):
                successes, failures = successes + 1, 0
                if successes >= probe.get("successThreshold", 1):
                    yield True
            else:
                successes, failures = 0, failures + 1
                if failures >= probe.get("failureThreshold", 3):
                    yield False
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _succeeds(self, probe: Object) -> bool:
        request = probe["httpGet"]
        port = self._ports.get(request["port"], request["port"])
        url = f"{request.get('scheme', 'HTTP').lower()}://{request.get('host', self._pod_ip)}:{port}"
        headers = [(header["name"], header["value"]) for header in request.get("httpHeaders", ())]
        try:
            async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
                answer = await self._client.get(f"{url}{request.get('path', '/')}", headers=headers)
        except (httpx.TransportError, TimeoutError):
            return False
        return 200 <= answer.status_code < 400
