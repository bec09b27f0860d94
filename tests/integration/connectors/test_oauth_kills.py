"""A process that is killed while it renews a grant: what the next one finds, and does."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from benchmarks.oauth import KEYS
from connectors.errors import ReconnectNeededError
from connectors.simulation_faults import Hang
from tests.integration.connectors.oauth import Granted

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


async def killed_between_answer_and_database(granted: Granted) -> None:
    """Have a real process ask for tokens, and kill it when the partner has renewed them and before it knows."""
    before = granted.refreshes
    granted.pipedrive.oauth.befall(Hang(), applied=True)
    job = {
        "dsn": granted.layer.dsn("pool_a"),
        "uid": str(granted.crm.connection.uid),
        "spec": granted.crm.connection.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        "secrets": granted.crm.credentials.values,
        "vaults": 1,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "benchmarks.oauth", json.dumps(job), cwd=ROOT)
    async with asyncio.timeout(30):
        while granted.refreshes == before:
            await asyncio.sleep(0.01)
    process.kill()
    await process.wait()


async def test_where_a_refresh_token_works_again_the_next_process_renews(granted: Granted) -> None:
    granted.crm.keys = KEYS
    granted.pipedrive.oauth.single_use = False
    await granted.vault().current()
    granted.pass_time(hours=2)
    await killed_between_answer_and_database(granted)
    held = granted.row("version, holder is not null")
    granted.pass_time(hours=0.1)
    token = await granted.vault().current()

    assert held == (1, True)
    assert token.version == 2
    assert granted.pipedrive.oauth.account_of(token.value) == "company"


async def test_where_it_works_once_the_grant_is_lost_and_the_reason_says_how(granted: Granted) -> None:
    granted.crm.keys = KEYS
    await granted.vault().current()
    granted.pass_time(hours=2)
    await killed_between_answer_and_database(granted)
    granted.pass_time(hours=0.1)
    with pytest.raises(ReconnectNeededError, match="left no result"):
        await granted.vault().current()

    assert granted.row("version, sealed is not null, refusal is not null") == (1, True, True)
