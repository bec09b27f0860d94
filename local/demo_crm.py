"""The demo's CRM: a simulated HubSpot in a process of its own, and what must be in it at the end.

What is there is asked of the CRM, so the demo's counts owe nothing to our own tables.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from contracts.ids import PublicEventId
from contracts.manifests import IntegrationConnection
from local.demo_counts import DemoRoute
from local.demo_partner import running_program
from store.outbox import NewEvent


class _Company(BaseModel):
    properties: dict[str, str | None]


class _Records(BaseModel):
    companies: list[_Company]
    notes: list[object]


class _Account(BaseModel):
    """What the simulator says of an account."""

    records: _Records
    twins: dict[str, int]
    refused: dict[str, int]


@dataclass(slots=True)
class Crm:
    """A connection to a CRM, what it must hold in the end, and what it holds."""

    connection: IntegrationConnection
    url: str
    token: str = field(repr=False)
    companies: dict[str, str] = field(default_factory=dict)
    """The number of employees by company."""
    notes: int = 0
    found: int = 0
    twins: int = 0
    refused: int = 0
    _routes: Mapping[str, DemoRoute] = field(init=False)

    def __post_init__(self) -> None:
        self._routes = {route.action or "": DemoRoute(route) for route in self.connection.spec.routes}

    @property
    def name(self) -> str:
        """The connection's name with its namespace."""
        return f"{self.connection.namespace}/{self.connection.name}"

    @property
    def port(self) -> int:
        """Where the CRM listens."""
        return urlsplit(self.url).port or 80

    @property
    def expected(self) -> int:
        """How many companies and notes must be there."""
        return len(self.companies) + self.notes

    @property
    def outstanding(self) -> int:
        """How many of them are not there, or not as they must be."""
        return self.expected - self.found

    def expect(self, _: PublicEventId, event: NewEvent) -> None:
        """Note an event that was emitted, if the connection's routes select it."""
        if event.tenant != self.connection.spec.tenant:
            return
        if self._routes["UpsertCompany"].selects(event):
            self.companies[event.subject] = str(event.data["employees"])
        if self._routes["AddNote"].selects(event):
            self.notes += 1

    async def open(self) -> None:
        """Open the account at the CRM."""
        await self._control("PUT")

    async def observe(self) -> None:
        """Ask the CRM what it holds."""
        answer = await self._control("GET")
        account = _Account.model_validate_json(answer.raise_for_status().content)
        there = {
            each.properties.get("queast_company_id"): each.properties.get("numberofemployees")
            for each in account.records.companies
        }
        right = sum(there.get(id_) == employees for id_, employees in self.companies.items())
        self.found = right + min(len(account.records.notes), self.notes)
        self.twins = sum(account.twins.values()) + max(0, len(account.records.notes) - self.notes)
        self.refused = sum(account.refused.values())

    async def _control(self, method: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=10, trust_env=False) as http:
            return await http.request(method, "/_control/account", headers={"Authorization": f"Bearer {self.token}"})


@asynccontextmanager
async def running_crms(crms: Sequence[Crm], logs: Path) -> AsyncIterator[None]:
    """Run a simulated HubSpot for each CRM; raise DemoError if that is not possible."""
    async with AsyncExitStack() as stack:
        for crm in crms:
            command = ["connectors.hubspot.simulator", "--port", str(crm.port)]
            running = running_program("hubspot", command, crm.port, logs, partial(_answers, crm.url))
            await stack.enter_async_context(running)
            await crm.open()
        yield


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            await http.get(url)
    except httpx.TransportError:
        return False
    return True
