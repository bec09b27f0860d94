"""The definitions of our resources as the API server serves them: whether they are there, and whether they are ours.

Definitions are easily left behind by an upgrade. Of an older one the API server drops new fields without a word, so
specs and statuses would lack them and nobody would know why.
"""

import asyncio
import logging
from typing import Final

from contracts.custom_resource import digest_of, schema_digest
from contracts.kinds import KINDS, Kind
from integration_operator.errors import NotFoundError, OperatorError
from integration_operator.kube import Json, Kube
from integration_operator.names import API_VERSION

log = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 2.0


async def wait_until_served(kube: Kube, stop: asyncio.Event) -> None:
    """Wait until the API server serves our resources and lets us read them: kopf would not notice them later."""
    told = False
    while not stop.is_set():
        try:
            known = await kube.get(f"/apis/{API_VERSION}")
            missing = {kind.plural for kind in KINDS} - {each["name"] for each in known.get("resources") or ()}
            if not missing:
                return
            reason = f"{', '.join(sorted(missing))} are not served yet; apply crds/ unless that is under way"
        except NotFoundError:
            reason = "the custom resource definitions are not installed; apply crds/"
        except OperatorError as error:
            reason = str(error)
        if not told:
            log.warning("waiting for the custom resource definitions", extra={"reason": reason})
            told = True
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await stop.wait()
        except TimeoutError:
            pass


async def is_ours(kube: Kube) -> bool:
    """Whether the definitions that are served are those of this release, as far as their published schemas tell."""
    document = await kube.get(f"/openapi/v3/apis/{API_VERSION}")
    schemas = document.get("components", {}).get("schemas", {})
    return all(
        schema_digest(kind) in {digest_of(schema.get("description", "")) for schema in _named(schemas, kind)}
        for kind in KINDS
    )


def _named(schemas: Json, kind: Kind) -> list[Json]:
    return [schema for name, schema in schemas.items() if name.endswith(f".{kind.kind}")]
