"""The HubSpot connector: what events become in an account, a hundred at a time.

A batch may hold deliveries of several routes. Companies go first, since notes and tasks are attached to them. Every
call may be repeated without making anything twice (see `companies` and `engagements`), so an attempt that is killed
anywhere, or whose answer is lost, is simply made again.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import ClassVar

from connectors.api_client import ApiClient, AttemptEndedError, Deadline
from connectors.authorization import OAuthAuthorization
from connectors.connector import Action, BatchLimits, Connection, Delivery, Endpoint, Finding
from connectors.context import ConnectorContext
from connectors.crm_events import Company, UnusableEventError
from connectors.hubspot import settings
from connectors.hubspot.client import BATCH_LIMIT, HubSpotClient
from connectors.hubspot.companies import COMPANIES, Companies
from connectors.hubspot.engagements import Engagements
from connectors.hubspot.payloads import (
    Item,
    item_of,
    note_input,
    properties_of,
    task_input,
)
from connectors.hubspot.portal import Portal
from connectors.hubspot.values import property_of
from connectors.properties import Property, unfit_fields
from contracts.connection import HubSpotConnectionSpec
from contracts.outcomes import Delivered, Invalid, Misconfigured, Report

IGNORED = ("company.deleted", "company.bookmarked")
"""Events of companies that change nothing of a company's record."""


class HubSpotConnector:
    """Delivers to one HubSpot account."""

    actions: ClassVar[tuple[Action, ...]] = settings.ACTIONS

    def __init__(self, connection: Connection, context: ConnectorContext) -> None:
        spec = connection.spec
        if not isinstance(spec, HubSpotConnectionSpec):
            raise TypeError(f"connection {connection.namespace}/{connection.name} is not one to HubSpot")
        self._url = spec.hubspot.api_url
        self._timeout = spec.delivery.timeout
        self._routes = settings.routes_of(spec)
        self._authorization = settings.authorization_of(connection, spec, context)
        self.vault = self._authorization.vault if isinstance(self._authorization, OAuthAuthorization) else None
        api = ApiClient(context.http, self._url, self._authorization)
        self._client = HubSpotClient(api, spec.hubspot.api_version, context.clock)
        self._portal = Portal(self._client)
        self._companies = Companies(self._client, self._portal, context.links)
        self._engagements = Engagements(self._client, self._portal, self._companies, context.links)
        self.batch: BatchLimits | None = BatchLimits(BATCH_LIMIT, 2_000_000, timedelta(milliseconds=200))

    def check_credentials(self) -> None:
        """Read the token; what is known of the account may be another's now."""
        self._authorization.check()
        self._portal.doubt_account()

    def endpoint(self) -> Endpoint:
        """Return where HubSpot's API is."""
        self.check_credentials()
        return Endpoint(self._url)

    async def close(self) -> None:
        """Let a renewal of the token come to its end; sockets belong to the guarded way out."""
        if self.vault is not None:
            await self.vault.close()

    async def send(self, delivery: Delivery) -> Report:
        """Deliver one event."""
        (report,) = await self.send_many([delivery])
        return report

    async def send_many(self, deliveries: Sequence[Delivery]) -> list[Report]:
        """Deliver up to a hundred events."""
        reports: dict[int, Report] = {}
        items: list[Item] = []
        for position, delivery in enumerate(deliveries):
            try:
                items.append(item_of(position, delivery, self._routes[delivery.route]))
            except UnusableEventError as error:
                reports[position] = Report(Invalid(), detail=str(error))
        deadline = Deadline(self._timeout)
        for action, work in self._work():
            chosen = [item for item in items if item.route.action is action]
            if chosen:
                reports |= await _attempted(chosen, work, deadline)
        return [reports[position] for position in range(len(deliveries))]

    async def check_account(self) -> list[Finding]:
        """Say which account it is, and whether the routes' fields are there."""
        deadline = Deadline(self._timeout)
        try:
            account = await self._portal.known(deadline)
            described = await self._client.properties(COMPANIES, deadline)
        except AttemptEndedError as error:
            return [Finding("account", error.report.detail, "See that the token is valid and has the scopes it needs.")]
        findings = [Finding("account", f"{account}, time zone {self._client.zone}")]
        known = {each["name"]: property_of(each) for each in described}
        for route in self._routes.values():
            problems = unfit_fields(route.fields.properties if route.fields else (), known)
            advice = "Correct the route's fields, or make the property in HubSpot." if problems else ""
            findings.append(Finding(f"route {route.name}", "; ".join(problems) or "its fields fit", advice))
            if problems:
                break
        return findings

    def _work(self) -> "tuple[tuple[Action, Work], ...]":
        return (
            (settings.UPSERT_COMPANY, self._upsert),
            (settings.SET_PROPERTIES, self._set_properties),
            (settings.ARCHIVE_COMPANY, self._archive),
            (settings.ADD_NOTE, lambda items, deadline: self._engagements.write("notes", items, note_input, deadline)),
            (settings.ADD_TASK, lambda items, deadline: self._engagements.write("tasks", items, task_input, deadline)),
        )

    async def _upsert(self, items: Sequence[Item], deadline: Deadline) -> dict[int, Report]:
        changes = [item for item in items if item.event["type"] not in IGNORED]
        ignored = {item.position: Report(Delivered()) for item in items if item.event["type"] in IGNORED}
        return ignored | await self._write(changes, deadline, make=True)

    async def _set_properties(self, items: Sequence[Item], deadline: Deadline) -> dict[int, Report]:
        return await self._write(items, deadline, make=False)

    async def _write(self, items: Sequence[Item], deadline: Deadline, *, make: bool) -> dict[int, Report]:
        """Write what the items say of their companies; of several about one the later counts, field by field."""
        if not items:
            return {}
        properties = await self._fitting(items, deadline)
        reports: dict[int, Report] = {}
        wanted: dict[str, tuple[Company, dict[str, str]]] = {}
        for item in items:
            try:
                values = properties_of(item, properties)
            except UnusableEventError as error:
                reports[item.position] = Report(Invalid(), detail=str(error))
                continue
            former = wanted[item.company.id][1] if item.company.id in wanted else {}
            wanted[item.company.id] = item.company, {**former, **values}
        fates = await self._companies.write(wanted, deadline, make=make) if wanted else {}
        return reports | {
            item.position: fates[item.company.id].report for item in items if item.position not in reports
        }

    async def _fitting(self, items: Sequence[Item], deadline: Deadline) -> dict[str, Property]:
        """Return the properties of companies; raise AttemptEndedError if a route's fields do not fit them."""
        properties = await self._portal.properties(COMPANIES, deadline)
        names = {name for item in items if item.route.fields for name in item.route.fields.properties}
        if unfit_fields(names, properties):
            properties = await self._portal.properties(COMPANIES, deadline, doubted=True)
            if problems := unfit_fields(names, properties):
                detail = f"{'; '.join(problems)}. Correct the route's fields, or make the property in HubSpot"
                raise AttemptEndedError(Report(Misconfigured(), detail=detail))
        return dict(properties)

    async def _archive(self, items: Sequence[Item], deadline: Deadline) -> dict[int, Report]:
        reports = {}
        for item in items:
            reports[item.position] = await self._companies.archive(item.company, deadline)
        return reports


Work = Callable[[Sequence[Item], Deadline], Awaitable[dict[int, Report]]]


async def _attempted(items: Sequence[Item], work: Work, deadline: Deadline) -> dict[int, Report]:
    """Do the work of one action; where it cannot go on, that is what became of all its items."""
    try:
        return await work(items, deadline)
    except AttemptEndedError as error:
        return {item.position: error.report for item in items}
