"""The Pipedrive connector's part in its certification."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from unittest.mock import patch

from connectors.certification import samples
from connectors.certification.partner import Misfortune, Story, WrongSettings
from connectors.connector import Connection, Connector, ConnectorType, Delivery
from connectors.context import ConnectorContext
from connectors.pipedrive import client, settings
from connectors.pipedrive.company import OUR_FIELD
from connectors.pipedrive.connector import PipedriveConnector
from connectors.pipedrive.records import reference
from connectors.pipedrive.simulator import PipedriveSimulator
from connectors.pipedrive.simulator_records import Entity
from connectors.simulation_faults import Fault, Reset, Status
from contracts.outcomes import Ambiguous, AuthRevoked, Gone, Invalid, RateLimited, Transient

TOKEN: Final = "certified-token-22222222"  # noqa: S105 -- opens a simulator
WRITES: Final = r"^(POST|PUT|PATCH|DELETE) .*/(organizations|notes|activities|leads)"
UNLIMITED: Final = 1_000_000_000


class CertifiedPipedrive:
    """A Pipedrive company that takes as many calls as it gets, and whose search index lags an hour behind."""

    connector: ClassVar[ConnectorType] = PipedriveConnector
    misfortunes: ClassVar[Sequence[Misfortune]] = (
        Misfortune(
            "too fast",
            Status(status=429, body="{}", headers={"x-ratelimit-reset": "2"}),
            RateLimited,
            wait=timedelta(seconds=2),
        ),
        Misfortune("banned", Status(status=403, body="<html>"), RateLimited, wait=timedelta(minutes=10)),
        Misfortune("in trouble", Status(status=503, retry_after_seconds=3), Transient, wait=timedelta(seconds=3)),
        Misfortune("token withdrawn", Status(status=401, body='{"success":false}'), AuthRevoked),
        Misfortune("closed", Status(status=402, body='{"success":false}'), Gone),
        Misfortune("plan full", Status(status=403, body='{"code":"feature_capping_deals_limit"}'), Invalid),
        Misfortune("silent after it acted", Reset(), Ambiguous, applied=True),
    )
    wrong_settings: ClassVar[Sequence[WrongSettings]] = ()
    secrets: Mapping[tuple[str, str], str] = {("crm", "token"): TOKEN}

    def __init__(self) -> None:
        self._simulator = PipedriveSimulator()
        # Nobody else uses the company, so its searches need not be waited for.
        self._patch = patch.object(client, "UNKNOWN_SECONDS", 0.0)

    async def __aenter__(self) -> Self:
        await self._simulator.__aenter__()
        limits = {"per_burst": UNLIMITED, "searches_per_burst": UNLIMITED, "tokens_per_day": UNLIMITED}
        self._company = self._simulator.open_company(TOKEN, lag_seconds=3600.0, **limits)
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
        """Return a connection to the company."""
        return samples.connection(_spec(self._simulator.url, timeout))

    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        """Open the connector."""
        return self.connector(connection, context)

    def story(self, action: str, number: int) -> Story:
        """Tell of an organisation: changed twice, deleted, or written about."""
        route = action.lower()
        made = samples.company(number, "upsertcompany", employees=1)
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
        self._company.befall(WRITES, fault, applied=applied)

    def effects(self, delivery: Delivery) -> int:
        """Count what carries our id or our reference; twins of the organisation count as well."""
        records = self._company.records
        organizations = self._organizations(delivery.subject)
        match delivery.route:
            case "archivecompany":
                return sum(each.deleted for each in organizations)
            case "addnote":
                return len(_marked(records.living(records.notes), "content", delivery))
            case "addtask":
                return len(_marked(records.living(records.activities), "note", delivery))
            case "addlead":
                return len(_marked(records.living(records.leads), "title", delivery))
            case _:
                return sum(not each.deleted for each in organizations)

    def says(self, delivery: Delivery) -> bool:
        """Whether the organisation has what the later delivery says."""
        wanted: dict[str, tuple[str, object]] = {
            "upsertcompany": ("employee_count", 2),
            "setproperties": ("website", "Newer"),
        }
        name, value = wanted[delivery.route]
        return any(each.values.get(name) == value for each in self._organizations(delivery.subject))

    def state(self) -> object:
        """Return all records and fields."""
        records = self._company.records
        kinds = (records.organizations, records.notes, records.activities, records.leads)
        return [{id_: dict(each.values) for id_, each in kind.items()} for kind in kinds], dict(records.fields)

    def _organizations(self, ours: str) -> list[Entity]:
        records = self._company.records
        codes = [code for code, each in records.fields.items() if each["field_name"] == OUR_FIELD]
        every = records.organizations.values()
        return [each for each in every for code in codes if each.values["custom_fields"].get(code) == ours]


def _marked(records: Sequence[Entity], place: str, delivery: Delivery) -> list[Entity]:
    return [each for each in records if reference(delivery.message_id) in str(each.values.get(place))]


def _spec(url: str, timeout: timedelta) -> dict[str, Any]:
    fields = [{"property": "website", "value": "event.data.signal.title"}]
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
        "provider": "Pipedrive",
        "pipedrive": {"auth": {"apiToken": {"tokenFrom": {"name": "crm", "key": "token"}}}, "apiUrl": url},
        "routes": routes,
        "delivery": {"timeout": f"{timeout.total_seconds():g}s"},
    }


def _wrong(change: Mapping[str, Any], path: str) -> WrongSettings:
    spec = _spec("https://pipedrive.example", timedelta(seconds=5))
    return WrongSettings({**spec, "pipedrive": {**spec["pipedrive"], **change}}, path)


CertifiedPipedrive.wrong_settings = (
    _wrong({"apiUrl": "pipedrive.example"}, "spec.pipedrive.apiUrl"),
    _wrong({"auth": {"apiToken": {"tokenFrom": {"name": "crm"}}}}, "spec.pipedrive.auth.apiToken.tokenFrom.key"),
)
