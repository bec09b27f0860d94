"""The demo's CRMs: simulated ones in processes of their own, and what must be in them at the end.

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


class _Account(BaseModel):
    """What a simulated CRM says of an account: of each company our id and the number of employees, and counts."""

    companies: list[tuple[str | None, int | None]]
    notes: int
    refused: int


@dataclass(slots=True)
class Crm:
    """A connection to a CRM, what it must hold in the end, and what it holds."""

    connection: IntegrationConnection
    url: str
    token: str = field(repr=False)
    companies: dict[str, int] = field(default_factory=dict)
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
            self.companies[event.subject] = int(str(event.data["employees"]))
        if self._routes["AddNote"].selects(event):
            self.notes += 1

    async def open(self) -> None:
        """Open the account at the CRM."""
        await self._control("PUT")

    async def observe(self) -> None:
        """Ask the CRM what it holds."""
        answer = await self._control("GET")
        account = _Account.model_validate_json(answer.raise_for_status().content)
        there = dict(account.companies)
        right = sum(there.get(id_) == employees for id_, employees in self.companies.items())
        self.found = right + min(account.notes, self.notes)
        self.twins = len(account.companies) - len(there) + max(0, account.notes - self.notes)
        self.refused = account.refused

    async def _control(self, method: str) -> httpx.Response:
        # Each partner looks at its own header.
        headers = {"Authorization": f"Bearer {self.token}", "x-api-token": self.token}
        async with httpx.AsyncClient(base_url=self.url, timeout=10, trust_env=False) as http:
            return await http.request(method, "/_control/account", headers=headers)


@asynccontextmanager
async def running_crms(crms: Sequence[Crm], logs: Path) -> AsyncIterator[None]:
    """Run each CRM's simulator; raise DemoError if that is not possible."""
    async with AsyncExitStack() as stack:
        for crm in crms:
            partner = crm.connection.spec.provider.lower()
            command = [f"connectors.{partner}.simulator", "--port", str(crm.port)]
            running = running_program(partner, command, crm.port, logs, partial(_answers, crm.url))
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
