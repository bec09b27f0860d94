"""The Pipedrive connector: what events become in a company, one at a time, since Pipedrive takes no batches."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final

import orjson

from connectors.api_client import ApiClient, AttemptEndedError, Deadline
from connectors.authorization import OAuthAuthorization
from connectors.connector import Action, Connection, Delivery, Endpoint, Finding
from connectors.context import Account, ConnectorContext
from connectors.crm_events import Company, UnusableEventError, company_of, words_of
from connectors.notes import cut, note
from connectors.pipedrive import settings
from connectors.pipedrive.client import PipedriveClient
from connectors.pipedrive.company import PipedriveCompany
from connectors.pipedrive.ledger import TokenLedger
from connectors.pipedrive.records import ACTIVITY, LEAD, NOTE, PipedriveRecords, reference
from connectors.pipedrive.values import property_of, to_pipedrive
from connectors.properties import UnfitValueError, unfit_fields
from contracts.connection import PipedriveConnectionSpec
from contracts.fields import FieldFailedError, Value
from contracts.outcomes import Delivered, Invalid, Misconfigured, NotFound, Report, Transient

DEFAULTS: Final[Mapping[str, str]] = {
    "name": "name",
    "website": "website",
    "linkedin": "linkedin",
    "employee_count": "employees",
}
"""Fields of organisations by those of our events, where a route maps none; besides, the address."""

IGNORED: Final = ("company.deleted", "company.bookmarked")
NOTE_LIMIT: Final = 100_000
"""Characters of a note (Pipedrive's notes)."""

TITLE_LIMIT: Final = 200
_ADVICE: Final = "See that the token is valid, and of a user who may do this."
TASK_DUE: Final = timedelta(days=3)


class PipedriveConnector:
    """Delivers to one Pipedrive company."""

    actions: ClassVar[tuple[Action, ...]] = settings.ACTIONS

    def __init__(self, connection: Connection, context: ConnectorContext) -> None:
        spec = connection.spec
        if not isinstance(spec, PipedriveConnectionSpec):
            raise TypeError(f"connection {connection.namespace}/{connection.name} is not one to Pipedrive")
        self._url = spec.pipedrive.api_url
        self._timeout = spec.delivery.timeout
        self._routes = settings.routes_of(spec)
        self._authorization = settings.authorization_of(connection, spec, context)
        self.vault = self._authorization.vault if isinstance(self._authorization, OAuthAuthorization) else None
        self._ledger = TokenLedger(context.facts, spec.pipedrive.daily_tokens, context.clock)
        api = ApiClient(context.http, self._url, self._authorization)
        self._client = PipedriveClient(api, self._ledger, context.clock)
        self._company = PipedriveCompany(self._client, context.facts, context.links, self._timeout)
        self._records = PipedriveRecords(self._client, self._company, context.links)

    def check_credentials(self) -> None:
        """Read the token; what is known of the company may be another's now."""
        self._authorization.check()
        self._company.doubt_account()

    def endpoint(self) -> Endpoint:
        """Return where Pipedrive's API is."""
        self.check_credentials()
        return Endpoint(self._url)

    async def close(self) -> None:
        """Write down what was spent, and let a renewal of the token come to its end."""
        await self._ledger.write()
        if self.vault is not None:
            await self.vault.close()

    async def send(self, delivery: Delivery) -> Report:
        """Deliver one event."""
        data = orjson.loads(delivery.data)
        event = {"type": delivery.type, "subject": delivery.subject, "tenant": delivery.tenant, "data": data}
        try:
            company = company_of(delivery.type, data)
            return await self._deliver(delivery, event, company, Deadline(self._timeout))
        except UnusableEventError as error:
            return Report(Invalid(), detail=str(error))
        except AttemptEndedError as error:
            if error.report.status_code == 400:
                await self._company.forget()
            return error.report

    async def check_account(self) -> list[Finding]:
        """Say which company it is, and whether the routes' fields are there."""
        deadline = Deadline(self._timeout)
        try:
            me = await self._client.data("me", deadline)
            fields = await self._client.pages("fields", deadline)
        except AttemptEndedError as error:
            return [Finding("account", error.report.detail, _ADVICE)]
        findings = [Finding("account", f"company {me.get('company_id')} as {me.get('name')}")]
        known = {str(each[key]): property_of(each) for each in fields for key in ("field_name", "field_code")}
        for name, route in self._routes.items():
            problems = unfit_fields(route.fields.properties if route.fields else (), known)
            advice = "Correct the route's fields, or make the field in Pipedrive." if problems else ""
            findings.append(Finding(f"route {name}", "; ".join(problems) or "its fields fit", advice))
            if problems:
                break
        return findings

    async def _deliver(
        self, delivery: Delivery, event: Mapping[str, Any], company: Company, deadline: Deadline
    ) -> Report:
        route = self._routes[delivery.route]
        if route.action is settings.UPSERT_COMPANY and delivery.type in IGNORED:
            return Report(Delivered())
        account = await self._company.known(deadline)
        match route.action:
            case settings.UPSERT_COMPANY:
                return await self._write(account, company, self._values(route, event), deadline, make=True)
            case settings.SET_PROPERTIES:
                return await self._write(account, company, self._values(route, event), deadline, make=False)
            case settings.ARCHIVE_COMPANY:
                return await self._records.delete(account, company.id, deadline)
            case _:
                return await self._attach(route.action, account, delivery, event, company, deadline)

    async def _write(
        self, account: Account, company: Company, values: Mapping[str, object], deadline: Deadline, *, make: bool
    ) -> Report:
        remote = await self._records.linked(account, company.id)
        if remote is not None:
            report = await self._records.update(account, company.id, remote, values, deadline)
            if not isinstance(report.outcome, NotFound):
                return report
        if not make:
            raise UnusableEventError("the company is not in Pipedrive; deliver it first, then replay this event")
        made, report = await self._records.make(account, company.id, _with_name(values, company), deadline)
        if report.status_code is None:  # it was there already, with what an earlier event said
            return await self._records.update(account, company.id, made, values, deadline)
        return report

    async def _attach(
        self,
        action: Action,
        account: Account,
        delivery: Delivery,
        event: Mapping[str, Any],
        company: Company,
        deadline: Deadline,
    ) -> Report:
        organization = await self._records.linked(account, company.id)
        if organization is None:
            values = _with_name({}, company)
            organization, _ = await self._records.make(account, company.id, values, deadline)
        title, lines = words_of(event)
        marker = reference(delivery.message_id)
        text = note(title, [*lines, ("Reference", marker)], NOTE_LIMIT)
        match action:
            case settings.ADD_NOTE:
                what, body = NOTE, {"content": text}
            case settings.ADD_TASK:
                due = (delivery.occurred_at + TASK_DUE).date().isoformat()
                what, body = (
                    ACTIVITY,
                    {"subject": cut(title, TITLE_LIMIT), "type": "task", "due_date": due, "note": text},
                )
            case _:
                what, body = LEAD, {"title": f"{cut(title, TITLE_LIMIT)} ({marker})"}
        try:
            return await self._records.attach(what, account, delivery.message_id, organization, body, deadline)
        except AttemptEndedError as error:
            if isinstance(error.report.outcome, NotFound):
                # The organisation was deleted or merged away: the next attempt finds it, or makes it anew.
                await self._records.unlink(account, company.id, organization)
                raise AttemptEndedError(replace(error.report, outcome=Transient())) from error
            raise

    def _values(self, route: settings.Route, event: Mapping[str, Any]) -> dict[str, object]:
        properties = self._company.properties()
        if route.fields is None:
            return self._default_values(event)
        if problems := unfit_fields(route.fields.properties, properties):
            detail = f"{'; '.join(problems)}. Correct the route's fields, or make the field in Pipedrive"
            raise AttemptEndedError(Report(Misconfigured(), detail=detail))
        try:
            values = route.fields.evaluate(event)
            return {name: to_pipedrive(value, properties[name]) for name, value in values.items()}
        except (FieldFailedError, UnfitValueError) as error:
            raise UnusableEventError(str(error)) from error

    def _default_values(self, event: Mapping[str, Any]) -> dict[str, object]:
        data = event["data"]
        values: dict[str, Value] = {theirs: data[ours] for theirs, ours in DEFAULTS.items() if ours in data}
        if place := ", ".join(str(data[each]) for each in ("city", "country") if data.get(each)):
            values["address"] = place
        chosen: dict[str, object] = {}
        for name, value in values.items():
            if name in self._company.properties():
                try:
                    chosen[name] = to_pipedrive(value, self._company.properties()[name])
                except UnfitValueError:
                    continue
        return chosen


def _with_name(values: Mapping[str, object], company: Company) -> dict[str, object]:
    """Return what makes an organisation, which needs a name; raise UnusableEventError if none is known."""
    name = values.get("name") or company.name
    if not name:
        raise UnusableEventError(
            f"company {company.id} is not in Pipedrive yet, and the event has no name to make it with; "
            "deliver the company first, then replay this event"
        )
    return {**values, "name": name}
