"""The simulated Pipedrive, driven by Pipedrive's own client for Node: what suits that client suits the real one."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.pipedrive.simulator import PipedriveSimulator

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / ".local/pipedrive-client"
MODULES = CLIENT / "node_modules"
SCRIPT = Path(__file__).parent / "pipedrive_client/drive.cjs"
TOKEN = "token-of-ada"
BACK = "https://layer.example/v1/oauth/callback"


@pytest.fixture
async def pipedrive() -> AsyncIterator[PipedriveSimulator]:
    if not (CLIENT / ".ready").exists():
        pytest.skip("NO TEST WITH PIPEDRIVE'S CLIENT: make client installs it")
    async with PipedriveSimulator() as simulator:
        simulator.open_company(TOKEN)
        yield simulator


async def drive(pipedrive: PipedriveSimulator, scenario: str, **options: str) -> Any:
    program = await asyncio.create_subprocess_exec(
        *(CLIENT / "node/bin/node", SCRIPT, scenario, pipedrive.url, json.dumps(options)),
        env={**os.environ, "NODE_PATH": str(MODULES), "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode == 0, errors.decode()
    return json.loads(out)


async def approve(pipedrive: PipedriveSimulator) -> str:
    asked = {"client_id": "app-1", "response_type": "code", "redirect_uri": BACK, "decision": "allow"}
    async with httpx.AsyncClient(base_url=pipedrive.url) as http:
        answer = await http.get("/oauth/authorize", params=asked)
    return httpx.URL(answer.headers["location"]).params["code"]


async def test_the_official_client_makes_finds_changes_and_deletes(pipedrive: PipedriveSimulator) -> None:
    seen = await drive(pipedrive, "records", token=TOKEN)

    assert seen["ids"][0] == seen["ids"][1]
    assert (seen["name"], seen["custom"], seen["notes"]) == ("Acme Ltd", "c-1", ["hello"])
    assert (seen["gone"]["success"], seen["gone"]["code"]) == (False, "ERR_NOT_FOUND")


async def test_the_official_client_makes_lists_and_removes_webhooks(pipedrive: PipedriveSimulator) -> None:
    seen = await drive(pipedrive, "webhooks", token=TOKEN, target="https://layer.example/hook")

    assert seen["listed"] == [seen["added"]]
    assert (seen["added"]["name"], seen["left"]) == ("ours", [])


async def test_the_official_client_exchanges_a_code_and_renews(pipedrive: PipedriveSimulator) -> None:
    pipedrive.oauth.clients["app-1"] = "secret of app 1"
    pipedrive.oauth.signed_in = TOKEN
    code = await approve(pipedrive)
    seen = await drive(pipedrive, "oauth", code=code, redirectUri=BACK)

    assert (seen["apiDomain"], seen["organizations"], seen["isNew"]) == (pipedrive.url, 0, True)
    assert seen["again"]["error"] == "invalid_grant"
