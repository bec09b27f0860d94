"""A Pipedrive that remembers, refuses and misbehaves as the real one does, for demo and tests.

Both of its APIs: v2 where it is, v1 for notes, leads, users and webhooks. What v2 has is gone from v1. Requests belong
to the company whose token they carry. Implemented from Pipedrive's public documentation, and not from the connector.

In a test: `async with PipedriveSimulator() as pipedrive: company = pipedrive.open_company("token") …`. As a program:
`python -m connectors.pipedrive.simulator --port 8082`; its companies go by the token that a request carries:

    PUT  /_control/account       open the company, if it is not there; {"faults": […], "is_closed": …} sets what befalls
                                 its requests
    GET  /_control/account       what is in it, what was asked of it, and what was answered to its webhooks
    POST /_control/actions       have a user do something: {"action": "create", "values": {…}}, or update, delete, merge
    POST /_control/token-faults  {"script": […], "applied": false}: what befalls the next token requests
    DELETE /_control/grants      have the user withdraw what apps may do

In a test, webhooks are sent when `deliver_webhooks` is called.
"""

import asyncio
from collections.abc import Callable
from time import time
from types import TracebackType
from typing import Annotated, Any, Final, Self

import orjson
import typer
import uvloop
from pydantic import TypeAdapter

from connectors.oauth.simulator import Dialect, OAuthServer
from connectors.pipedrive.simulator_api import answer
from connectors.pipedrive.simulator_company import Company
from connectors.pipedrive.simulator_control import CompanyChange, UserAction, summary
from connectors.pipedrive.simulator_limits import Limits
from connectors.pipedrive.simulator_records import Records, RefusedError
from connectors.pipedrive.simulator_webhooks import Webhooks
from connectors.simulation import Exchange, Request, SimulatorServer
from connectors.simulation_control import Faults
from connectors.simulation_faults import Call

CONTROL: Final = "/_control/"
_ACTION: Final[TypeAdapter[UserAction]] = TypeAdapter(UserAction)
_SENDING_SECONDS: Final = 0.1
"""How often the program looks for webhooks that are due."""


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

    async def until_left(self) -> None:
        """Return when no client is connected, and all that was asked for has been dealt with."""
        await self._server.until_left()

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"http://{self._host}:{self._server.port}"

    def open_company(self, token: str, *, lag_seconds: float = 0.0, **limits: Any) -> Company:
        """Open a company that a token belongs to; `limits` as `Limits` names them."""
        number = 7_000 + len(self.companies)
        records = Records(self._clock, f"{number}", lag_seconds)
        webhooks = Webhooks(number, self._clock)
        records.listeners.append(webhooks.notice)
        self.companies[token] = Company(number, records, Limits(self._clock, **limits), webhooks)
        return self.companies[token]

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if self.oauth.serves(request):
            await self.oauth.serve(exchange)
            return
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = self.oauth.account_of(bearer) or request.headers.get("x-api-token", "")
        if request.path.startswith(CONTROL):
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
        status, headers, document = answer(company, request, call.body)
        if fault is not None:
            await fault.play(exchange)
            return
        call.status = status
        if isinstance(document, bytes):
            await exchange.respond(status, {"Content-Type": "text/html", **headers}, document)
        else:
            await exchange.respond(status, {"Content-Type": "application/json", **headers}, orjson.dumps(document))

    async def deliver_webhooks(self) -> None:
        """Send all webhooks that are due, of every company."""
        for company in tuple(self.companies.values()):
            await company.webhooks.deliver()

    async def _control(self, exchange: Exchange, token: str) -> None:
        request = exchange.request
        if request.method == "PUT" and token not in self.companies:
            self.open_company(token)
        if token not in self.companies:
            await exchange.respond_json(404, {"error": "there is no company with this token"})
            return
        try:
            document = self._controlled(token, request)
        except RefusedError as error:
            await exchange.respond_json(error.status, error.body())
        except ValueError as error:
            await exchange.respond_json(400, {"error": str(error)})
        else:
            await exchange.respond_json(200, document)

    def _controlled(self, token: str, request: Request) -> object:
        company = self.companies[token]
        match request.method, request.path.removeprefix(CONTROL):
            case "PUT", "account":
                CompanyChange.model_validate_json(request.body or b"{}").apply(company)
                return summary(company)
            case "GET", "account":
                return summary(company)
            case "POST", "actions":
                return _ACTION.validate_json(request.body).apply(company.records).shown()
            case "POST", "token-faults":
                faults = Faults.model_validate_json(request.body)
                self.oauth.befall(*faults.script, applied=faults.applied)
                return {}
            case "DELETE", "grants":
                self.oauth.revoke(token)
                return {}
            case _:
                raise RefusedError(404, "no such control request")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def main(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the system choose.")] = 8082,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Be Pipedrive, until interrupted."""
    uvloop.run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    async with PipedriveSimulator(host=host, port=port) as pipedrive:
        typer.echo(f"being Pipedrive at {pipedrive.url}")
        while True:
            await pipedrive.deliver_webhooks()
            await asyncio.sleep(_SENDING_SECONDS)


if __name__ == "__main__":
    typer.run(main)
