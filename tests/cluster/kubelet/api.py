"""What the process kubelet says to the API server: patient requests, and a watch that lists anew when it breaks."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx

RETRY_SECONDS = 0.2
CLOSING_SECONDS = 10.0

Object = dict[str, Any]


class Api:
    """An administrator's hands, which keep trying while the API server is away, as a kubelet does."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._forsaken: set[asyncio.Task[httpx.Response]] = set()

    async def finish(self) -> None:
        """Wait for requests whose callers were cancelled, and close what comes of them."""
        if self._forsaken:
            ended, _ = await asyncio.wait(self._forsaken, timeout=CLOSING_SECONDS)
            for request in ended:
                if request.exception() is None:
                    await request.result().aclose()

    async def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Object:
        """Send one request until it is answered; what is missing or in conflict is answered by its Status."""
        content = None if body is None else json.dumps(body)
        while True:
            try:
                answer = await self._undisturbed(
                    self._client.request(method, path, content=content, headers={"Content-Type": content_type})
                )
            except httpx.TransportError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if answer.status_code in {404, 409}:
                status: Object = answer.json()
                return status
            if answer.status_code == 429 or answer.is_server_error:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if answer.is_error:
                raise ApiError(f"{method} {path} was answered with {answer.status_code}: {answer.text}")
            found: Object = answer.json()
            return found

    async def get(self, path: str) -> Object | None:
        """Read one object; None if there is none."""
        found = await self.request("GET", path)
        return None if found.get("kind") == "Status" else found

    async def patch_status(self, path: str, status: Object) -> None:
        """Write a status; an object that is gone needs none."""
        await self.request(
            "PATCH", f"{path}/status", {"status": status}, content_type="application/strategic-merge-patch+json"
        )

    async def delete_at_once(self, path: str, uid: str) -> None:
        """Delete a pod without grace, as its kubelet does when its processes have ended."""
        await self.request("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})

    async def token(self, namespace: str, account: str, spec: Object) -> str:
        """Ask for a token of a service account."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = await self.request("POST", path, {"spec": spec})
        if "status" not in answer or answer.get("kind") == "Status":
            raise ApiError(f"no token for service account {namespace}/{account}: {answer.get('message')}")
        return str(answer["status"]["token"])

    async def follow(self, path: str) -> AsyncIterator[tuple[str, Any]]:
        """Yield ("LIST", all objects) and then each event of the watch; again from the list when the watch ends."""
        while True:
            found = await self.request("GET", path)
            yield "LIST", found["items"]
            try:
                async for event in self._watch(path, found["metadata"]["resourceVersion"]):
                    yield event
            except httpx.TransportError:
                await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Any]]:
        parameters = {"watch": "true", "resourceVersion": version}
        patience = httpx.Timeout(60.0, read=None)
        request = self._client.build_request("GET", path, params=parameters, timeout=patience)
        answer = await self._undisturbed(self._client.send(request, stream=True))
        try:
            if answer.is_error:
                await asyncio.sleep(RETRY_SECONDS)
                return
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event["type"], event["object"]
        finally:
            await answer.aclose()

    async def _undisturbed(self, asking: Coroutine[object, object, httpx.Response]) -> httpx.Response:
        """Let a request come to its answer although the caller is cancelled meanwhile, once or more often.

        httpcore closes no connection whose TLS handshake is cancelled: it would stay open until the process ends.
        """
        request = asyncio.create_task(asking)
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            self._forsaken.add(request)
            raise


class ApiError(Exception):
    """The API server refuses what the kubelet asks for; retrying would not help."""
