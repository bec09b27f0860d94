"""How simulated partners send webhooks: one POST, and what came of it.

No redirect is followed and no proxy of the environment is used. For demo and tests only: whatever address a webhook
names is called.
"""

import asyncio
from collections.abc import Mapping

import httpx


async def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> int | None:
    """Send a body of JSON; return the status, or None if none came within `seconds`. What is answered is not read."""
    headers = {"Content-Type": "application/json", **headers}
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(trust_env=False, timeout=seconds) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            return answer.status_code
    except (TimeoutError, httpx.TransportError, httpx.InvalidURL):
        return None


def is_taken(status: int | None) -> bool:
    """Whether a receiver has taken a webhook: any 2xx."""
    return status is not None and 200 <= status < 300
