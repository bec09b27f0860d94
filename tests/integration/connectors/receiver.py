"""A receiver of webhooks on loopback that keeps what it gets and answers as it is told."""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson

from connectors.simulation import Exchange, Request, SimulatorServer


@dataclass
class Receiver:
    """Answers 200, or `status`; a status of None is no answer at all."""

    status: int | None = 200
    requests: list[Request] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await SimulatorServer(self._handle).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}/hook?of=%28acme%29%20x"

    @property
    def bodies(self) -> list[Any]:
        """What came, as JSON."""
        return [orjson.loads(each.body) for each in self.requests]

    async def _handle(self, exchange: Exchange) -> None:
        self.requests.append(exchange.request)
        if self.status is None:
            await exchange.wait_until_closed()
        else:
            await exchange.respond(self.status)
