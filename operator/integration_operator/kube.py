"""The API server as this operator uses it: plain JSON in and out, one error for each kind of refusal.

The official client finds and refreshes the credentials and keeps the connections. Its generated models are not used:
turning 5,000 objects into them and back costs more than everything else the operator does.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from integration_operator.errors import (
    ApiServerUnreachableError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubernetesError,
    NotFoundError,
    OverloadedError,
)
from integration_operator.metrics import OperatorMetrics
from integration_operator.names import FIELD_MANAGER

Json = dict[str, Any]

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

_TIMEOUT_SECONDS: Final = 15.0
_PAGE: Final = 500
_CONNECTIONS: Final = 64


async def load_configuration() -> Configuration:
    """Find the API server: by KUBECONFIG or the user's file, else as a pod; raise ApiServerUnreachableError."""
    configuration = Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise ApiServerUnreachableError(
            f"no way to the API server is configured ({error}); set KUBECONFIG, or run in a cluster"
        ) from error
    configuration.connection_pool_maxsize = _CONNECTIONS
    # Else ~/.netrc is looked for, in another thread, with each request. kopf does not heed the environment either.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


class Kube:
    """A connection to the API server."""

    def __init__(self, configuration: Configuration, metrics: OperatorMetrics) -> None:
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._requests = metrics.requests

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, path: str) -> Json:
        """Read an object."""
        return await self._request("GET", path)

    async def create(self, path: str, body: Json) -> Json:
        """Create an object."""
        return await self._request("POST", path, body=body, parameters={"fieldManager": FIELD_MANAGER})

    async def replace(self, path: str, body: Json) -> Json:
        """Write an object as a whole; its resourceVersion must still be the stored one."""
        return await self._request("PUT", path, body=body, parameters={"fieldManager": FIELD_MANAGER})

    async def apply(self, path: str, body: Json, *, manager: str = FIELD_MANAGER) -> Json:
        """Apply an object on the server's side: the fields in it become ours, all others stay as they are."""
        return await self._request(
            "PATCH", path, body=body, content_type=APPLY, parameters={"fieldManager": manager, "force": "true"}
        )

    async def merge(self, path: str, body: Json) -> Json:
        """Change the fields in `body`; null removes one."""
        return await self._request(
            "PATCH", path, body=body, content_type=MERGE, parameters={"fieldManager": FIELD_MANAGER}
        )

    async def delete(self, path: str, *, uid: str | None = None) -> None:
        """Delete an object, and what it owns in the background; one that is gone already is fine."""
        body: Json = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        with suppress(NotFoundError):
            await self._request("DELETE", path, body=body)

    async def list(self, path: str, *, labels: str = "", metadata_only: bool = False) -> AsyncIterator[Json]:
        """Read all objects of a collection, page by page."""
        async for page in self.pages(path, labels=labels, metadata_only=metadata_only):
            for item in page:
                yield item

    async def pages(
        self, path: str, *, labels: str = "", metadata_only: bool = False, size: int = _PAGE
    ) -> AsyncIterator[Sequence[Json]]:
        """Read a collection page by page, each of at most `size` objects."""
        parameters = {"limit": str(size)}
        if labels:
            parameters["labelSelector"] = labels
        while True:
            accept = METADATA_ONLY if metadata_only else None
            page = await self._request("GET", path, parameters=parameters, accept=accept)
            yield page.get("items") or []
            following = page.get("metadata", {}).get("continue")
            if not following:
                return
            parameters["continue"] = following

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        parameters: Mapping[str, str] | None = None,
        accept: str | None = None,
    ) -> Json:
        url = f"{self._configuration.host}{path}"
        if parameters:
            url += "?" + urlencode(parameters)
        headers = {"Content-Type": content_type, "Accept": accept or "application/json"}
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                token = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
                if token:
                    headers["Authorization"] = token
                response = await self._client.rest_client.request(method, url, headers=headers, body=body)
                raw = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._requests.labels(method, "none").inc()
            raise ApiServerUnreachableError(f"no answer from the API server: {type(error).__name__}") from error
        self._requests.labels(method, str(response.status)).inc()
        if response.status >= 400:
            raise _refusal(response.status, raw, response.getheader("Retry-After"))
        answer: Json = json.loads(raw)
        return answer


def _refusal(status: int, raw: bytes, retry_after: str | None) -> KubernetesError:
    """Turn an answer into an error; what is not from the API server itself may be no JSON at all."""
    try:
        message = str(json.loads(raw).get("message", ""))
    except (ValueError, AttributeError):
        message = ""
    text = f"{status}: {message[:2000] or 'no reason given'}"
    match status:
        case 404:
            return NotFoundError(text)
        case 409:
            return ConflictError(text)
        case 401 | 403:
            return ForbiddenError(text)
        case 400 | 422:
            return InvalidError(text)
        case 429 | 500 | 502 | 503 | 504:
            seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
            return OverloadedError(text, seconds)
        case _:
            return KubernetesError(text)


def path_to(api_version: str, plural: str, namespace: str | None = None, name: str | None = None) -> str:
    """Return the path of a collection, or of an object in it."""
    root = "/api" if "/" not in api_version else "/apis"
    path = f"{root}/{api_version}"
    if namespace is not None:
        path += f"/namespaces/{quote(namespace)}"
    path += f"/{plural}"
    return path if name is None else f"{path}/{quote(name)}"
