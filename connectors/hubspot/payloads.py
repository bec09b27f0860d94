"""From events to what HubSpot's records are to hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from connectors.connector import Delivery
from connectors.crm_events import Company, UnusableEventError, company_of, words_of
from connectors.hubspot.portal import COMPANY_ID, MESSAGE_ID
from connectors.hubspot.settings import Route
from connectors.hubspot.values import to_hubspot
from connectors.notes import cut, note
from connectors.properties import Property, UnfitValueError
from contracts.fields import FieldFailedError, Value

NOTE_LIMIT: Final = 65_536
"""Characters of a note's or task's body (HubSpot's notes guide)."""

SUBJECT_LIMIT: Final = 200

TASK_DUE: Final = timedelta(days=3)
"""When a task is due after its event."""

DEFAULTS: Final[Mapping[str, str]] = {
    "name": "name",
    "website": "website",
    "industry": "industry",
    "numberofemployees": "employees",
    "country": "country",
    "city": "city",
    "linkedin_company_page": "linkedin",
}
"""HubSpot's properties of companies by those of our events, where a route maps no fields; besides, the domain."""


@dataclass(slots=True)
class Item:
    """One delivery on its way: where it stands among the others, its event, its route and its company."""

    position: int
    delivery: Delivery
    event: Mapping[str, Any]
    route: Route
    company: Company


def item_of(position: int, delivery: Delivery, route: Route) -> Item:
    """Read a delivery; raise UnusableEventError."""
    data = orjson.loads(delivery.data)
    event = {"type": delivery.type, "subject": delivery.subject, "tenant": delivery.tenant, "data": data}
    return Item(position, delivery, event, route, company_of(delivery.type, data))


def properties_of(item: Item, properties: Mapping[str, Property]) -> dict[str, str]:
    """Return what the company's properties are set to; raise UnusableEventError."""
    if item.route.fields is None:
        return _default_properties(item, properties)
    try:
        values = item.route.fields.evaluate(item.event)
        return {name: to_hubspot(value, properties[name]) for name, value in values.items()}
    except (FieldFailedError, UnfitValueError) as error:
        raise UnusableEventError(str(error)) from error


def _default_properties(item: Item, properties: Mapping[str, Property]) -> dict[str, str]:
    """Choose what fits; what does not, such as an industry that HubSpot does not know, is left alone."""
    data = item.event["data"]
    values: dict[str, Value] = {theirs: data[ours] for theirs, ours in DEFAULTS.items() if ours in data}
    if item.company.domain:
        values["domain"] = item.company.domain
    chosen = {}
    for name, value in values.items():
        if name in properties and not properties[name].read_only:
            try:
                chosen[name] = to_hubspot(value, properties[name])
            except UnfitValueError:
                continue
    return chosen


def minimal_company(company: Company) -> dict[str, str]:
    """Return what makes a company that others shall be attached to; raise UnusableEventError if that is nothing."""
    if company.name is None:
        raise UnusableEventError(
            f"company {company.id} is not in HubSpot yet, and the event has no data.company.name to make it with; "
            "deliver the company first, then replay this event"
        )
    return {"name": company.name, **({"domain": company.domain} if company.domain else {})}


def upsert_input(company: str, properties: Mapping[str, str], trace: int) -> dict[str, Any]:
    """Write a company's input of a batch upsert by our id."""
    return {
        "id": company,
        "idProperty": COMPANY_ID,
        "objectWriteTraceId": str(trace),
        "properties": {**properties, COMPANY_ID: company},
    }


def update_input(remote: str, properties: Mapping[str, str], trace: int) -> dict[str, Any]:
    """Write a record's input of a batch update by HubSpot's id."""
    return {"id": remote, "objectWriteTraceId": str(trace), "properties": dict(properties)}


def note_input(item: Item, trace: int) -> dict[str, Any]:
    """Write a note's input of a batch upsert by the message id."""
    title, lines = words_of(item.event)
    values = {"hs_timestamp": _moment(item.delivery.occurred_at), "hs_note_body": note(title, lines, NOTE_LIMIT)}
    return _keyed(item, values, trace)


def task_input(item: Item, trace: int) -> dict[str, Any]:
    """Write a task's input of a batch upsert by the message id."""
    title, lines = words_of(item.event)
    values = {
        "hs_timestamp": _moment(item.delivery.occurred_at + TASK_DUE),
        "hs_task_subject": cut(title, SUBJECT_LIMIT),
        "hs_task_body": note(title, lines, NOTE_LIMIT),
        "hs_task_status": "NOT_STARTED",
    }
    return _keyed(item, values, trace)


def _keyed(item: Item, values: Mapping[str, str], trace: int) -> dict[str, Any]:
    return {
        "id": item.delivery.message_id,
        "idProperty": MESSAGE_ID,
        "objectWriteTraceId": str(trace),
        "properties": {**values, MESSAGE_ID: item.delivery.message_id},
    }


def _moment(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))


def search_by_domains(domains: Sequence[str]) -> dict[str, Any]:
    """Write the search for companies whose main domain is one of up to a hundred, the oldest first."""
    return _search({"propertyName": "domain", "operator": "IN", "values": list(domains)})


def search_by_more_domains(domains: Sequence[str]) -> dict[str, Any]:
    """Write the search for companies that have one of up to five domains among their additional ones."""
    return _search(
        *({"propertyName": "hs_additional_domains", "operator": "CONTAINS_TOKEN", "value": each} for each in domains)
    )


def _search(*filters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "filterGroups": [{"filters": [each]} for each in filters],
        "properties": ["domain", "hs_additional_domains", COMPANY_ID],
        "limit": 200,
        "sorts": [{"propertyName": "createdate", "direction": "ASCENDING"}],
    }
