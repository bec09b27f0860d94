"""The HubSpot connector's part in its certification."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from unittest.mock import patch

from connectors.certification import samples
from connectors.certification.partner import Misfortune, Story, WrongSettings
from connectors.connector import Connection, Connector, ConnectorType, Delivery
from connectors.context import ConnectorContext
from connectors.hubspot import client, settings
from connectors.hubspot.connector import HubSpotConnector
from connectors.hubspot.simulator import HubSpotSimulator
from connectors.simulation_faults import Fault, Reset, Status
from contracts.outcomes import (
    Ambiguous,
    AuthRevoked,
    ForbiddenScope,
    Locked,
    Migrating,
    QuotaExhausted,
    RateLimited,
    Transient,
)

TOKEN: Final = "pat-certified-11111111"  # noqa: S105 -- opens a simulator
WRITES: Final = "batch/(upsert|update)|DELETE"
UNLIMITED: Final = 1_000_000

_ENOUGH: Final = '{"status":"error","policyName":"%s"}'
_KINDS: Final = {"AddNote": "notes", "AddTask": "tasks"}


class CertifiedHubSpot:
    """A HubSpot account that takes as many calls as it gets."""

    connector: ClassVar[ConnectorType] = HubSpotConnector
    misfortunes: ClassVar[Sequence[Misfortune]] = (
        Misfortune(
            "too fast",
            Status(status=429, retry_after_seconds=7, body=_ENOUGH % "TEN_SECONDLY_ROLLING"),
            RateLimited,
            wait=timedelta(seconds=7),
        ),
        Misfortune("enough for today", Status(status=429, body=_ENOUGH % "DAILY"), QuotaExhausted),
        Misfortune("locked", Status(status=423), Locked),
        Misfortune("moving", Status(status=477, retry_after_seconds=60), Migrating, wait=timedelta(seconds=60)),
        Misfortune("in trouble", Status(status=502, body="<html>"), Transient),
        Misfortune("token withdrawn", Status(status=401), AuthRevoked),
        Misfortune("not allowed", Status(status=403, body='{"category":"MISSING_SCOPES"}'), ForbiddenScope),
        Misfortune("silent after it acted", Reset(), Ambiguous, applied=True),
    )
    wrong_settings: ClassVar[Sequence[WrongSettings]] = ()
    secrets: Mapping[tuple[str, str], str] = {("crm", "token"): TOKEN}

    def __init__(self) -> None:
        self._simulator = HubSpotSimulator()
        # Nobody else uses the account, so its searches need not be waited for.
        self._patch = patch.object(client, "UNKNOWN_SECONDS", 0.0)

    async def __aenter__(self) -> Self:
        await self._simulator.__aenter__()
        self._account = self._simulator.open_account(TOKEN, per_ten_seconds=UNLIMITED, searches_per_second=UNLIMITED)
        self._patch.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patch.stop()
        await self._simulator.__aexit__(kind, error, trace)

    async def until_left(self) -> None:
        """Return when no client is connected."""
        await self._simulator.until_left()

    def connection(self, timeout: timedelta) -> Connection:
        """Return a connection to the account."""
        return samples.connection(_spec(self._simulator.url, timeout))

    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        """Open the connector."""
        return self.connector(connection, context)

    def story(self, action: str, number: int) -> Story:
        """Tell of a company: changed twice, archived, or written about."""
        route = action.lower()
        made = samples.company(number, "upsertcompany", employees=1, domains=[f"c{number}.example"])
        match action:
            case "UpsertCompany":
                return Story(made, later=samples.company(number, route, employees=2))
            case "ArchiveCompany":
                return Story(samples.company(number, route, type_="company.deleted"), (made,))
            case "SetProperties":
                return Story(samples.signal(number, route), (made,), samples.signal(number, route, title="Newer"))
            case _:
                return Story(samples.signal(number, route))

    def unusable(self) -> Delivery | None:
        """Return an event that says of no company."""
        return samples.company(900, "upsertcompany", id=None)

    def befall(self, fault: Fault, *, applied: bool = False) -> None:
        """Have a fault befall the next request that writes a record."""
        self._account.befall(WRITES, fault, applied=applied)

    def effects(self, delivery: Delivery) -> int:
        """Count what carries our id; a note or task counts for each company that it is on."""
        records = self._account.records
        every = records.records["companies"].values()
        companies = [each for each in every if each.properties.get("queast_company_id") == delivery.subject]
        match delivery.route:
            case "archivecompany":
                return sum(each.archived for each in companies)
            case "addnote" | "addtask":
                kind = "notes" if delivery.route == "addnote" else "tasks"
                written = [
                    each
                    for company in companies
                    for each in records.associated(kind, "companies", company.id)
                    if each.properties.get("queast_message_id") == delivery.message_id
                ]
                ours = [
                    each
                    for each in records.living(kind)
                    if each.properties.get("queast_message_id") == delivery.message_id
                ]
                return max(len(written), len(ours)) if written else 0
            case _:
                return sum(not each.archived for each in companies)

    def says(self, delivery: Delivery) -> bool:
        """Whether the company has what the later delivery says."""
        wanted = {"upsertcompany": ("numberofemployees", "2"), "setproperties": ("description", "Newer")}
        name, value = wanted[delivery.route]
        return any(each.properties.get(name) == value for each in self._account.records.living("companies"))

    def state(self) -> object:
        """Return all records and properties."""
        records = self._account.records
        return {
            kind: {id_: dict(each.properties) for id_, each in found.items()} for kind, found in records.records.items()
        }


def _spec(url: str, timeout: timedelta) -> dict[str, Any]:
    fields = [{"property": "description", "value": "event.data.signal.title"}]
    routes = [
        {
            "name": action.name.lower(),
            "events": [action.events[0]],
            "action": action.name,
            **({"fields": fields} if action.name == "SetProperties" else {}),
        }
        for action in settings.ACTIONS
    ]
    return {
        "provider": "HubSpot",
        "hubspot": {"auth": {"privateApp": {"tokenFrom": {"name": "crm", "key": "token"}}}, "apiUrl": url},
        "routes": routes,
        "delivery": {"timeout": f"{timeout.total_seconds():g}s"},
    }


def _wrong(change: Mapping[str, Any], path: str) -> WrongSettings:
    spec = _spec("https://hubspot.example", timedelta(seconds=5))
    return WrongSettings({**spec, "hubspot": {**spec["hubspot"], **change}}, path)


CertifiedHubSpot.wrong_settings = (
    _wrong({"apiVersion": "v3"}, "spec.hubspot.apiVersion"),
    _wrong({"apiUrl": "https://me:secret@hubspot.example"}, "spec.hubspot.apiUrl"),
    _wrong({"auth": {}}, "spec.hubspot.auth"),
)
