"""A Postbox that remembers, refuses and misbehaves, for tests."""

from types import TracebackType
from typing import Any, Self

import orjson

from connectors.simulation import Exchange, SimulatorServer
from connectors.simulation_faults import Call, Fault, Misfortunes


class PostboxSimulator:
    """Postbox on loopback, with one account; `messages` are those that it has, by id."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._server = SimulatorServer(self._handle)
        self._misfortunes = Misfortunes()
        self.messages: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        await self._server.start()
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
        """Its address."""
        return f"http://127.0.0.1:{self._server.port}"

    def befall(self, fault: Fault, *, applied: bool = False) -> None:
        """Have a fault befall the next message; if `applied`, it is taken all the same."""
        self._misfortunes.befall("PUT", fault, applied=applied)

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.headers.get("authorization") != f"Bearer {self._token}":
            await exchange.respond_json(401, {"error": "the token is not known"})
            return
        fault, applied = self._misfortunes.next_fault(Call(request.method, request.path, None))
        if fault is not None and not applied:
            await fault.play(exchange)
            return
        status, document = self._answer(request.method, request.path, request.body)
        if fault is not None:
            await fault.play(exchange)
            return
        await exchange.respond_json(status, document)

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str]]:
        match method, path.strip("/").split("/"):
            case "GET", ["account"]:
                return 200, {"name": "Acme's box"}
            case "PUT", ["messages", id_] if isinstance(message := orjson.loads(body), dict):
                status = 200 if id_ in self.messages else 201
                self.messages[id_] = message
                return status, {"id": id_}
            case _:
                return 404, {"error": "there is no such thing"}
