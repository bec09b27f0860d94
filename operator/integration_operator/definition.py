"""The definition of IntegrationConnections as the API server serves it: whether it is there, and whether it is ours.

Definitions are easily left behind by an upgrade. Of an older one the API server drops new fields without a word, so
connections and statuses would lack them and nobody would know why.
"""

import asyncio
import logging
from typing import Final

from contracts.custom_resource import digest_of, schema_digest
from integration_operator.errors import NotFoundError, OperatorError
from integration_operator.kube import Kube
from integration_operator.names import API_VERSION, KIND, PLURAL

log = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 2.0


async def wait_until_served(kube: Kube, stop: asyncio.Event) -> None:
    """Wait until the API server serves our resource and lets us read it: kopf would not notice it later."""
    told = False
    while not stop.is_set():
        try:
            known = await kube.get(f"/apis/{API_VERSION}")
            if any(resource["name"] == PLURAL for resource in known.get("resources") or ()):
                return
            reason = "the definition is not established yet"
        except NotFoundError:
            reason = "the custom resource definition is not installed; apply crds/"
        except OperatorError as error:
            reason = str(error)
        if not told:
            log.warning("waiting for IntegrationConnections", extra={"reason": reason})
            told = True
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await stop.wait()
        except TimeoutError:
            pass


async def is_ours(kube: Kube) -> bool:
    """Whether the definition that is served is that of this release, as far as its published schema tells."""
    document = await kube.get(f"/openapi/v3/apis/{API_VERSION}")
    schemas = document.get("components", {}).get("schemas", {})
    described = [schema.get("description", "") for name, schema in schemas.items() if name.endswith(f".{KIND}")]
    return schema_digest() in map(digest_of, described)
