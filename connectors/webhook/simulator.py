"""A webhook receiver that verifies, remembers and misbehaves on demand, for demo and tests.

It stands for any receiver: signatures are checked by the official `standardwebhooks` library and not by our code, so
that both ends cannot be wrong in the same way. Every path is an endpoint with secrets, faults and records of its own.

In a test: `async with WebhookSimulator([secret]) as simulator: … simulator.url("/acme")`. As a program:
`python -m connectors.webhook.simulator --port 8080 --secret whsec_…`, driven by JSON under `/_control`:

    GET    /_control/endpoints             counts of every endpoint, by path
    PUT    /_control/endpoints?path=/acme  {"secrets": […], "script": […], "body_limit": …}: make it, or change it
    GET    /_control/stats?path=/acme      counts of one
    GET    /_control/order?path=/acme      event ids by subject, in the order of their first acceptance
    GET    /_control/deliveries?path=/acme everything remembered of each message, also of those in batches
    DELETE /_control/deliveries?path=/acme forget it

A path that was not made is made at its first request if there are default secrets, and answered with 404 otherwise.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import time
from types import TracebackType
from typing import Annotated, Any, Final, Self

import typer
import uvloop
from pydantic import BaseModel, ConfigDict, Field

from connectors.simulation import Exchange, Request, SimulatorServer
from connectors.simulation_faults import Fault, Script, Status
from connectors.webhook.simulator_records import Records, Stats, read_items

CONTROL: Final = "/_control/"


class EndpointChange(BaseModel):
    """What a control request changes; what it leaves out stays."""

    model_config = ConfigDict(extra="forbid")

    secrets: list[str] | None = None
    script: list[Fault] | None = None
    body_limit: Annotated[int, Field(ge=1)] | None = None


@dataclass(slots=True)
class Endpoint:
    """One path of the receiver; `body_limit` is how many bytes of a request it takes."""

    verifiers: list[Any]
    body_limit: int | None = None
    script: Script = field(default_factory=Script)
    records: Records = field(default_factory=Records)

    def verify(self, request: Request) -> bool:
        """Say whether any of the endpoint's secrets signed the request, within the allowed time."""
        return any(_is_valid(verifier, request) for verifier in self.verifiers)


class WebhookSimulator:
    """A webhook receiver on loopback; `secrets` are those of paths that are not made one by one."""

    def __init__(self, secrets: Sequence[str] = (), *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._default_secrets = tuple(secrets)
        self._endpoints: dict[str, Endpoint] = {}
        self._server = SimulatorServer(self._handle)
        self._host = host
        self._port = port

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
    def port(self) -> int:
        """The port that is listened on."""
        return self._server.port

    @property
    def opened_connections(self) -> int:
        """How many TCP connections were accepted so far."""
        return self._server.opened_connections

    def url(self, path: str = "/") -> str:
        """Return the address of an endpoint."""
        return f"http://{self._host}:{self.port}{path}"

    def change(
        self,
        path: str,
        *,
        secrets: Sequence[str] | None = None,
        script: Iterable[Fault] | None = None,
        body_limit: int | None = None,
    ) -> Endpoint:
        """Make an endpoint, or change what is given of it; its records stay."""
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            endpoint = self._endpoints[path] = Endpoint(_verifiers(self._default_secrets))
        if secrets is not None:
            endpoint.verifiers = _verifiers(secrets)
        if script is not None:
            endpoint.script = Script(script)
        if body_limit is not None:
            endpoint.body_limit = body_limit
        return endpoint

    def records(self, path: str = "/") -> Records:
        """Return what an endpoint remembers; raise KeyError if there is no such endpoint."""
        return self._endpoints[path].records

    def stats(self, path: str = "/") -> Stats:
        """Return an endpoint's counts; raise KeyError if there is no such endpoint."""
        return self.records(path).stats()

    async def _handle(self, exchange: Exchange) -> None:
        path = exchange.request.path
        if path.startswith(CONTROL):
            await self._control(exchange)
            return
        endpoint = self._endpoints.get(path)
        if endpoint is None and self._default_secrets:
            endpoint = self.change(path)
        if endpoint is None:
            await exchange.respond_json(404, {"error": f"there is no endpoint {path}"})
        else:
            await _receive(endpoint, exchange)

    async def _control(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.query.get("path", "/")
        match request.method, request.path.removeprefix(CONTROL):
            case "GET", "endpoints":
                found = {path: endpoint.records.stats() for path, endpoint in self._endpoints.items()}
                await exchange.respond_json(200, found)
            case "PUT", "endpoints":
                await self._change_by_request(path, exchange)
            case _ if path not in self._endpoints:
                await exchange.respond_json(404, {"error": f"there is no endpoint {path}"})
            case "GET", "stats":
                await exchange.respond_json(200, self.stats(path))
            case "GET", "order":
                await exchange.respond_json(200, self.records(path).order)
            case "GET", "deliveries":
                await exchange.respond_json(200, list(self.records(path).arrivals.values()))
            case "DELETE", "deliveries":
                self._endpoints[path].records = Records()
                await exchange.respond(204)
            case _:
                await exchange.respond_json(404, {"error": "no such control request"})

    async def _change_by_request(self, path: str, exchange: Exchange) -> None:
        try:
            change = EndpointChange.model_validate_json(exchange.request.body)
            endpoint = self.change(path, secrets=change.secrets, script=change.script, body_limit=change.body_limit)
        except ValueError as error:
            await exchange.respond_json(400, {"error": str(error)})
        else:
            await exchange.respond_json(200, endpoint.records.stats())


async def _receive(endpoint: Endpoint, exchange: Exchange) -> None:
    request = exchange.request
    if not endpoint.verify(request):
        endpoint.records.note_refused()
        await exchange.respond_json(401, {"error": "the signature does not match, or its time is off"})
        return
    try:
        items = read_items(request.headers, request.body)
    except ValueError:
        await exchange.respond_json(400, {"error": "the body is not JSON, or not what its type says"})
        return
    too_large = endpoint.body_limit is not None and len(request.body) > endpoint.body_limit
    fault = Status(status=413) if too_large else endpoint.script.next_fault()
    status = fault.status if fault else 200
    endpoint.records.note(request.headers["webhook-id"], items, time(), status)
    if fault:
        await fault.play(exchange)
    else:
        await exchange.respond(200)


def _verifiers(secrets: Sequence[str]) -> list[Any]:
    try:
        from standardwebhooks import Webhook
        from standardwebhooks.webhooks import EmptyWebhookSecretError
    except ImportError as error:
        raise RuntimeError(
            "the webhook simulator verifies with the package standardwebhooks; install it to use the simulator"
        ) from error
    try:
        return [Webhook(secret) for secret in secrets]
    except EmptyWebhookSecretError as error:
        raise ValueError("a signing secret is whsec_ followed by base64, and not empty") from error


def _is_valid(verifier: Any, request: Request) -> bool:
    from standardwebhooks import WebhookVerificationError

    try:
        verifier.verify(request.body, dict(request.headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False
    return True


def main(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the system choose.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    secret: Annotated[list[str] | None, typer.Option(help="Signing secret of every path; repeatable.")] = None,
) -> None:
    """Receive webhooks, verify and count them, until interrupted."""
    uvloop.run(_serve(host, port, secret or []))


async def _serve(host: str, port: int, secrets: Sequence[str]) -> None:
    async with WebhookSimulator(secrets, host=host, port=port) as simulator:
        typer.echo(f"receiving webhooks at {simulator.url()}")
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    typer.run(main)
