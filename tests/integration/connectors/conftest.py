"""What tests over real loopback sockets share: the event loop of production, and a way out that may call loopback."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from connectors.connector import Connection
from connectors.egress import EgressPolicy
from connectors.http import GuardedHttp
from connectors.pipedrive.simulator import PipedriveSimulator
from contracts.connection import parse_connection_spec
from contracts.ids import TenantId
from tests.integration.connectors.crm import LOOPBACK, Crm, OpenCrm
from tests.integration.connectors.oauth import ROUTES, SECRET, Granted

if TYPE_CHECKING:
    from tests.integration.conftest import Layer


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


@pytest.fixture
async def open_crm(layer: "Layer", http: GuardedHttp) -> AsyncIterator[OpenCrm]:
    """Publish connections in pool_a and give what their connectors need."""
    crms: list[Crm] = []

    async def opened(document: Mapping[str, Any], name: str = "crm") -> Crm:
        spec = parse_connection_spec({"tenant": "acme", **document})
        published = await layer.publish(spec, name=name)
        crms.append(Crm(Connection(published.uid, "acme", name, TenantId("acme"), spec), layer, http))
        return crms[-1]

    yield opened
    for crm in crms:
        await crm.close()


@pytest.fixture
async def granted(layer: "Layer", open_crm: OpenCrm) -> AsyncIterator[Granted]:
    """Serve Pipedrive, whose refresh tokens work once, and publish a connection whose Secret has one."""
    async with PipedriveSimulator() as pipedrive:
        pipedrive.open_company("company")
        pipedrive.oauth.clients["app-1"] = SECRET
        pipedrive.oauth.signed_in = "company"
        oauth = {
            "secretRef": {"name": "app"},
            "serverUrl": pipedrive.url,
            "refreshTokenFrom": {"name": "app", "key": "refresh_token"},
        }
        spec = {"provider": "Pipedrive", "routes": ROUTES, "pipedrive": {"auth": {"oauth": oauth}}}
        crm = await open_crm(spec)
        crm.credentials.values = {"client_id": "app-1", "client_secret": SECRET}
        made = Granted(crm, pipedrive, layer)
        made.seed()
        yield made
