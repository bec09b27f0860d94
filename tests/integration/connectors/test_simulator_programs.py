"""The simulated CRMs as programs send webhooks as time passes, with nobody to tell them."""

import asyncio
import sys
from typing import Any

import httpx
import pytest

from tests.integration.connectors.receiver import Receiver

pytestmark = pytest.mark.anyio

HUBSPOT_APP = {"app_id": 1, "secret": "s", "subscriptions": [{"id": 1, "type": "company.creation"}]}


async def subscribe_hubspot(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    await http.put("/_control/account", json={"app": {**HUBSPOT_APP, "target_url": url}})
    return {"action": "create", "properties": {"name": "Acme"}}


async def subscribe_pipedrive(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    await http.put("/_control/account")
    asked = {"name": "ours", "subscription_url": url, "event_action": "create", "event_object": "organization"}
    await http.post("/v1/webhooks", json=asked)
    return {"action": "create", "values": {"name": "Acme"}}


@pytest.mark.parametrize(("name", "subscribe"), [("hubspot", subscribe_hubspot), ("pipedrive", subscribe_pipedrive)])
async def test_a_users_change_reaches_the_receiver_by_itself(name: str, subscribe: Any) -> None:
    command = (sys.executable, "-m", f"connectors.{name}.simulator", "--port", "0")
    program = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert program.stdout is not None
        url = (await program.stdout.readline()).decode().split()[-1]
        token = {"Authorization": "Bearer t", "x-api-token": "t"}
        async with Receiver() as receiver, httpx.AsyncClient(base_url=url, headers=token) as http:
            action = await subscribe(http, receiver.url)
            await http.post("/_control/actions", json=action)
            async with asyncio.timeout(30):
                while not receiver.requests:
                    await asyncio.sleep(0.02)
    finally:
        program.terminate()
        await program.communicate()

    assert len(receiver.requests) == 1
