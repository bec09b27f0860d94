"""What Pipedrive answers to each request, and what it costs.

As its reference of API v2 has it, and that of v1 for what v2 has not.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from connectors.pipedrive.simulator_company import Company
from connectors.pipedrive.simulator_limits import BAN_PAGE
from connectors.pipedrive.simulator_records import Entity, Records, RefusedError
from connectors.simulation import Request

PAGE_LIMIT: Final = 500


def answer(company: Company, request: Request, body: Any) -> tuple[int, Mapping[str, str], Any]:
    """Return status, headers and document for a request; a document of bytes is a page of HTML."""
    route = next(
        (
            (handler, cost, found)
            for method, pattern, handler, cost in _ROUTES
            if method == request.method and (found := re.fullmatch(pattern, request.path))
        ),
        None,
    )
    if route is None:
        removed = RefusedError(410, "this endpoint was removed; use v2")
        refused = removed if request.path.startswith("/v1/") else RefusedError(404, "unknown method")
        return refused.status, {}, refused.body()
    handler, cost, found = route
    status, headers = company.limits.admit(cost, search="itemSearch" in request.path)
    if status == 403:
        return 403, headers, BAN_PAGE
    if status == 429:
        return 429, headers, RefusedError(429, "request over limit").body()
    try:
        if company.is_closed:
            raise RefusedError(402, "company account is not open")
        if company.plan_is_full and request.method == "POST":
            raise RefusedError(403, "you have reached a limit of your plan", "feature_capping_organizations_limit")
        with company.records.written_by_api():
            document = handler(company, request, body or {}, **found.groupdict())
    except RefusedError as error:
        return error.status, headers, error.body()
    return (201 if request.method == "POST" else 200), headers, {"success": True, **document}


Handler = Callable[..., dict[str, Any]]


def _me(company: Company, _: Request, __: Any) -> dict[str, Any]:
    return {"data": {"id": 1, "name": "Ada", "company_id": company.company_id, "company_name": "Acme"}}


def _fields(company: Company, _: Request, __: Any) -> dict[str, Any]:
    return {"data": list(company.records.fields.values()), "additional_data": {"next_cursor": None}}


def _create_field(company: Company, _: Request, body: Any) -> dict[str, Any]:
    return {"data": company.records.create_field(body.get("field_name", ""), body.get("field_type", ""))}


def _list(company: Company, request: Request, _: Any) -> dict[str, Any]:
    query = request.query
    found = company.records.living(company.records.organizations)
    if "updated_since" in query:
        since = datetime.fromisoformat(query["updated_since"]).timestamp()
        found = [each for each in found if each.updated_at >= int(since)]
    by = {"add_time": "added_at", "update_time": "updated_at"}.get(query.get("sort_by", ""), "id")
    found.sort(key=lambda each: (getattr(each, by), each.id), reverse=query.get("sort_direction") == "desc")
    limit, begin = int(query.get("limit", "100")), int(query.get("cursor") or 0)
    if not 0 < limit <= PAGE_LIMIT:
        raise RefusedError(400, "limit is at most 500")
    more = begin + limit < len(found)
    page = [each.shown() for each in found[begin : begin + limit]]
    return {"data": page, "additional_data": {"next_cursor": str(begin + limit) if more else None}}


def _get(company: Company, _: Request, __: Any, id_: str) -> dict[str, Any]:
    return {"data": company.records.find(company.records.organizations, id_).shown()}


def _create(company: Company, _: Request, body: Any) -> dict[str, Any]:
    return {"data": company.records.write_organization(body).shown()}


def _patch(company: Company, _: Request, body: Any, id_: str) -> dict[str, Any]:
    found = company.records.find(company.records.organizations, id_)
    return {"data": company.records.write_organization(body, found).shown()}


def _delete(company: Company, _: Request, __: Any, id_: str) -> dict[str, Any]:
    company.records.delete_organization(id_)
    return {"data": {"id": int(id_)}}


def _search(company: Company, request: Request, _: Any) -> dict[str, Any]:
    query = request.query
    if query.get("entity_type") != "organization" or query.get("match") != "exact" or len(query.get("term", "")) < 2:
        raise RefusedError(400, "this simulator searches organizations exactly, with terms of two characters or more")
    found = company.records.search(query.get("field", ""), query["term"])
    return {"data": [{"id": each.id, "name": each.values["name"]} for each in found]}


def _of_organization(where: dict[int, Entity], records: Records, query: Mapping[str, str], name: str) -> dict[str, Any]:
    found = [each for each in records.living(where) if str(each.values.get(name)) == query.get(name)]
    found.sort(key=lambda each: each.id, reverse=True)
    return {"data": [each.shown() for each in found[: int(query.get("limit", "100"))]]}


def _notes(company: Company, request: Request, _: Any) -> dict[str, Any]:
    return _of_organization(company.records.notes, company.records, request.query, "org_id")


def _activities(company: Company, request: Request, _: Any) -> dict[str, Any]:
    return _of_organization(company.records.activities, company.records, request.query, "org_id")


def _leads(company: Company, request: Request, _: Any) -> dict[str, Any]:
    return _of_organization(company.records.leads, company.records, request.query, "organization_id")


def _require_organization(company: Company, id_: Any) -> None:
    company.records.find(company.records.organizations, str(id_))


def _add_note(company: Company, _: Request, body: Any) -> dict[str, Any]:
    if not body.get("content"):
        raise RefusedError(400, "content is required")
    _require_organization(company, body.get("org_id"))
    return {"data": company.records.add(company.records.notes, body).shown()}


def _add_activity(company: Company, _: Request, body: Any) -> dict[str, Any]:
    if not body.get("subject") or not body.get("type"):
        raise RefusedError(400, "subject and type are required")
    _require_organization(company, body.get("org_id"))
    return {"data": company.records.add(company.records.activities, body).shown()}


def _add_lead(company: Company, _: Request, body: Any) -> dict[str, Any]:
    if not body.get("title"):
        raise RefusedError(400, "title is required")
    _require_organization(company, body.get("organization_id"))
    return {"data": company.records.add(company.records.leads, body).shown()}


def _webhooks(company: Company, _: Request, __: Any) -> dict[str, Any]:
    return {"status": "ok", "data": [each.shown() for each in company.webhooks.webhooks.values()]}


def _add_webhook(company: Company, _: Request, body: Any) -> dict[str, Any]:
    return {"status": "ok", "data": company.webhooks.add(body).shown()}


def _remove_webhook(company: Company, _: Request, __: Any, id_: str) -> dict[str, Any]:
    company.webhooks.remove(int(id_))
    return {"status": "ok"}


_ORGANIZATION = r"/api/v2/organizations/(?P<id_>\d+)"
_ROUTES: Final[tuple[tuple[str, str, Handler, int], ...]] = (
    ("GET", r"/v1/users/me", _me, 2),
    ("GET", r"/api/v2/organizationFields", _fields, 10),
    ("POST", r"/api/v2/organizationFields", _create_field, 5),
    ("GET", r"/api/v2/organizations", _list, 10),
    ("POST", r"/api/v2/organizations", _create, 5),
    ("GET", _ORGANIZATION, _get, 1),
    ("PATCH", _ORGANIZATION, _patch, 5),
    ("DELETE", _ORGANIZATION, _delete, 3),
    ("GET", r"/api/v2/itemSearch/field", _search, 20),
    ("GET", r"/v1/notes", _notes, 20),
    ("POST", r"/v1/notes", _add_note, 10),
    ("GET", r"/api/v2/activities", _activities, 10),
    ("POST", r"/api/v2/activities", _add_activity, 5),
    ("GET", r"/v1/leads", _leads, 20),
    ("POST", r"/v1/leads", _add_lead, 10),
    ("GET", r"/v1/webhooks", _webhooks, 10),
    ("POST", r"/v1/webhooks", _add_webhook, 10),
    ("DELETE", r"/v1/webhooks/(?P<id_>\d+)", _remove_webhook, 6),
)
"""Method, path, what answers, and what it costs in tokens."""
