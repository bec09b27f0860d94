"""What tests over real loopback sockets share: the event loop of production, and a way out that may call loopback."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp

LOOPBACK = EgressPolicy((ip_network("127.0.0.0/8"),))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run tests on uvloop, as the programs do."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def loopback() -> EgressPolicy:
    """Give a policy that allows loopback."""
    return LOOPBACK


@pytest.fixture
async def http() -> AsyncIterator[GuardedHttp]:
    """Give a way out that may call loopback."""
    async with GuardedHttp(LOOPBACK) as http:
        yield http
