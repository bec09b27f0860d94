"""A Pipedrive that remembers, refuses and misbehaves as the real one does, for demo and tests.

Both of its APIs: v2 where it is, v1 for notes, leads and users. What v2 has is gone from v1. Requests belong to the
company whose token they carry. Implemented from Pipedrive's public documentation, and not from the connector.

In a test: `async with PipedriveSimulator() as pipedrive: company = pipedrive.open_company("token") …`. As a program:
`python -m connectors.pipedrive.simulator --port 8082`; `PUT /_control/account` with a token opens a company, and `GET`
tells what is in it.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from time import time
from types import TracebackType
from typing import Annotated, Any, Final, Self

import orjson
import typer
import uvloop

from connectors.oauth.simulator import Dialect, OAuthServer
from connectors.pipedrive.simulator_limits import BAN_PAGE, Limits
from connectors.pipedrive.simulator_records import Entity, Records, RefusedError
from connectors.simulation import Exchange, Request, SimulatorServer
from connectors.simulation_faults import Call, Fault, Misfortunes

CONTROL: Final = "/_control/account"
PAGE_LIMIT: Final = 500


@dataclass(slots=True)
class Company:
    """One simulated company."""

    company_id: int
    records: Records
    limits: Limits
    is_closed: bool = False
    plan_is_full: bool = False
    calls: list[Call] = field(default_factory=list)
    misfortunes: Misfortunes = field(default_factory=Misfortunes)

    def befall(self, pattern: str, *faults: Fault, applied: bool = False) -> None:
        """Have faults befall requests whose `METHOD path` the pattern finds; if `applied`, these take effect before."""
        self.misfortunes.befall(pattern, *faults, applied=applied)


DIALECT: Final = Dialect(
    "/oauth/token",
    client_in_header=True,
    lifetime_seconds=3599,
    refusal=lambda code, message: (400, {"success": False, "error": code, "error_description": message}),
)


class PipedriveSimulator:
    """Pipedrive on loopback, with any number of companies."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, clock: Callable[[], float] = time) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._server = SimulatorServer(self._handle)
        self.companies: dict[str, Company] = {}
        self.oauth = OAuthServer(DIALECT, clock, lambda _: {"api_domain": self.url, "scope": "base"})

    async def __aenter__(self) -> Self:
        await self._server.start(self._host, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://{self._host}:{self._server.port}"

    def open_company(self, token: str, *, lag_seconds: float = 0.0, **limits: Any) -> Company:
        """Open a company that a token belongs to; `limits` as `Limits` names them."""
        number = 7_000 + len(self.companies)
        records = Records(self._clock, f"{number}", lag_seconds)
        self.companies[token] = Company(number, records, Limits(self._clock, **limits))
        return self.companies[token]

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if self.oauth.serves(request):
            await self.oauth.serve(exchange)
            return
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = self.oauth.account_of(bearer) or request.headers.get("x-api-token", "")
        if request.path == CONTROL:
            await self._control(exchange, token)
            return
        company = self.companies.get(token)
        if company is None:
            await exchange.respond_json(401, RefusedError(401, "unauthorized access").body())
            return
        call = Call(request.method, request.path, _json(request.body))
        company.calls.append(call)
        fault, applied = company.misfortunes.next_fault(call)
        if fault is not None and not applied:
            call.status = fault.status
            await fault.play(exchange)
            return
        status, headers, document = _answer(company, request, call.body)
        if fault is not None:
            await fault.play(exchange)
            return
        call.status = status
        if isinstance(document, bytes):
            await exchange.respond(status, {"Content-Type": "text/html", **headers}, document)
        else:
            await exchange.respond(status, {"Content-Type": "application/json", **headers}, orjson.dumps(document))

    async def _control(self, exchange: Exchange, token: str) -> None:
        if exchange.request.method == "PUT" and token not in self.companies:
            self.open_company(token)
        company = self.companies.get(token)
        if company is None:
            await exchange.respond_json(404, {"error": "there is no company with this token"})
            return
        records = company.records
        ours = next((c for c, each in records.fields.items() if each["field_name"] == "Queast company id"), "")
        organizations = [each.values for each in records.living(records.organizations)]
        document = {
            "companies": [(each["custom_fields"].get(ours), each.get("employee_count")) for each in organizations],
            "notes": len(records.living(records.notes)),
            "calls": len(company.calls),
            "refused": company.limits.refused,
        }
        await exchange.respond_json(200, document)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def _answer(company: Company, request: Request, body: Any) -> tuple[int, Mapping[str, str], Any]:
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
    company.records.find(company.records.organizations, id_).deleted = True
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
)
"""Method, path, what answers, and what it costs in tokens."""


def main(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the system choose.")] = 8082,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Be Pipedrive, until interrupted."""
    uvloop.run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    async with PipedriveSimulator(host=host, port=port) as pipedrive:
        typer.echo(f"being Pipedrive at {pipedrive.url}")
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    typer.run(main)
