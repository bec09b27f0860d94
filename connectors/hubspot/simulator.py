"""A HubSpot that remembers, refuses and misbehaves as the real one does, for demo and tests.

Requests belong to the account whose token they carry. What the connector under test writes can be looked at, and every
call is kept, so that a test can say that nothing was made twice. Implemented from HubSpot's public documentation of
its dated API (2026-03), its error categories and its usage limits, and not from the connector.

In a test: `async with HubSpotSimulator() as hubspot: account = hubspot.open_account("token") …`. As a program:
`python -m connectors.hubspot.simulator --port 8081`; its accounts go by the token that a request carries:

    PUT  /_control/account       open the account, if it is not there; {"faults": […], "app": {…}} sets what befalls its
                                 requests, and the app that is told of what changes
    GET  /_control/account       ids of ours and numbers of employees of its companies, and how many notes there are,
                                 calls, calls refused for a limit, and what the app answered to webhooks
    POST /_control/actions       have a user do something: {"action": "create", "properties": {…}}, or update, delete,
                                 merge
    POST /_control/token-faults  {"script": […], "applied": false}: what befalls the next token requests
    DELETE /_control/grants      have the user withdraw what apps may do

The models in `simulator_control` have all fields. In a test, webhooks are sent when `deliver_webhooks` is called.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import time
from types import TracebackType
from typing import Annotated, Any, Final, Self

import orjson
import typer
import uvloop
from pydantic import TypeAdapter

from connectors.hubspot.simulator_account import Account
from connectors.hubspot.simulator_api import answer
from connectors.hubspot.simulator_control import AccountChange, UserAction, summary
from connectors.hubspot.simulator_limits import Limits
from connectors.hubspot.simulator_records import Records, RefusedError
from connectors.hubspot.simulator_tokens import Tokens
from connectors.oauth.simulator import Dialect, OAuthServer
from connectors.simulation import Exchange, Request, SimulatorServer
from connectors.simulation_control import Faults
from connectors.simulation_faults import Call

CONTROL: Final = "/_control/"
_ACTION: Final[TypeAdapter[UserAction]] = TypeAdapter(UserAction)
_SENDING_SECONDS: Final = 0.1
"""How often the program looks for webhooks that are due."""


def _refusal(code: str, message: str) -> tuple[int, Mapping[str, Any]]:
    """Refuse a token as HubSpot's OAuth does: a status beside the message, and no field `error`."""
    status = {"invalid_grant": "BAD_REFRESH_TOKEN", "invalid_client": "BAD_CLIENT_SECRET"}.get(code, "BAD_REQUEST")
    return 400, {"status": status, "message": message, "correlationId": "00000000-0000-0000-0000-000000000000"}


DIALECT: Final = Dialect("/oauth/2026-03/token", client_in_header=False, lifetime_seconds=1800, refusal=_refusal)


class HubSpotSimulator:
    """HubSpot on loopback, with any number of accounts."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, limit: int = 190, clock: Callable[[], float] = time
    ) -> None:
        self._host = host
        self._port = port
        self._limit = limit
        self._clock = clock
        self._server = SimulatorServer(self._handle)
        self.accounts: dict[str, Account] = {}
        self.oauth = OAuthServer(DIALECT, clock, self._described)
        self._tokens = Tokens(self.oauth, DIALECT.token_path, self._described, _refusal)

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

    def open_account(self, token: str, *, zone: str = "UTC", lag_seconds: float = 0.0, **limits: Any) -> Account:
        """Open an account that a token belongs to; `limits` as `Limits` names them."""
        records = Records(self._clock, lag_seconds)
        account = Account(62515 + len(self.accounts), records, Limits(self._clock, zone, **limits))
        self.accounts[token] = account
        return account

    def _described(self, token: str) -> Mapping[str, object]:
        return {"hub_id": self.accounts[token].hub_id}

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.path.startswith(CONTROL):
            await self._control(exchange, token)
            return
        if self.oauth.serves(request):
            await self.oauth.serve(exchange)
            return
        if self._tokens.serves(request):
            await exchange.respond_json(*self._tokens.answer(request))
            return
        account = self.accounts.get(self.oauth.account_of(token) or token)
        if account is None:
            refused = RefusedError(401, "INVALID_AUTHENTICATION", "Authentication credentials not found or expired.")
            await exchange.respond_json(401, refused.body())
            return
        call = Call(request.method, request.path, _json(request.body))
        account.calls.append(call)
        fault, applied = account.misfortunes.next_fault(call)
        if fault is not None and not applied:
            call.status = fault.status
            await fault.play(exchange)
            return
        headers, (status, document) = answer(account, request, call.body)
        if fault is not None:
            await fault.play(exchange)
            return
        call.status = status
        body = b"" if document is None else orjson.dumps(document)
        await exchange.respond(status, {"Content-Type": "application/json;charset=utf-8", **headers}, body)

    async def deliver_webhooks(self) -> None:
        """Send all webhooks that are due, of every account."""
        for account in tuple(self.accounts.values()):
            if account.webhooks is not None:
                await account.webhooks.deliver()

    async def _control(self, exchange: Exchange, token: str) -> None:
        request = exchange.request
        if request.method == "PUT" and token not in self.accounts:
            self.open_account(token, per_ten_seconds=self._limit)
        if token not in self.accounts:
            await exchange.respond_json(404, {"error": "there is no account with this token"})
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
        account = self.accounts[token]
        match request.method, request.path.removeprefix(CONTROL):
            case "PUT", "account":
                AccountChange.model_validate_json(request.body or b"{}").apply(account)
                return summary(account)
            case "GET", "account":
                return summary(account)
            case "POST", "actions":
                return _ACTION.validate_json(request.body).apply(account.records).shown()
            case "POST", "token-faults":
                faults = Faults.model_validate_json(request.body)
                self.oauth.befall(*faults.script, applied=faults.applied)
                return {}
            case "DELETE", "grants":
                self.oauth.revoke(token)
                return {}
            case _:
                raise RefusedError(404, "NOT_FOUND", "no such control request")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def main(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the system choose.")] = 8081,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    limit: Annotated[int, typer.Option(help="Calls that an account takes in ten seconds.")] = 190,
) -> None:
    """Be HubSpot, until interrupted."""
    uvloop.run(_serve(host, port, limit))


async def _serve(host: str, port: int, limit: int) -> None:
    async with HubSpotSimulator(host=host, port=port, limit=limit) as hubspot:
        typer.echo(f"being HubSpot at {hubspot.url}")
        while True:
            await hubspot.deliver_webhooks()
            await asyncio.sleep(_SENDING_SECONDS)


if __name__ == "__main__":
    typer.run(main)
