"""The ingress as a program: serves until told to stop, then lets requests under way end."""

import asyncio
import logging
from typing import Final

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingress.oauth_callback import PATH, OAuthCallback
from ingress.settings import IngressSettings
from programs.health import HealthServer
from programs.reconnect import Reconnecting

log = logging.getLogger(__name__)

UNDER_WAY_AT_MOST: Final = 256


class Ingress:
    """An ingress process."""

    def __init__(self, settings: IngressSettings) -> None:
        self._settings = settings
        self._database_up = False

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set."""
        settings = self._settings
        registry = CollectorRegistry()
        health = HealthServer(registry, lambda: None if self._database_up else "the database is away")
        health_server = None
        if settings.health_port is not None:
            health_server = await health.start(settings.health_host, settings.health_port)
        database = Reconnecting(settings.connection_string(), "ingress", self._set_up)
        server = Server(
            application(database),
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            backpressure=UNDER_WAY_AT_MOST,
            log_enabled=False,
        )
        serving = asyncio.create_task(server.serve())
        try:
            await database.keep_trying(lambda _: asyncio.sleep(0))
            log.info("serving", extra={"port": settings.port})
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        finally:
            server.stop()  # type: ignore[no-untyped-call]
            await serving
            await database.close()
            if health_server is not None:
                health_server.close()

    def _set_up(self, up: bool) -> None:
        self._database_up = up


def application(database: Reconnecting) -> Starlette:
    """Return all that is served."""
    routes = [Route(PATH, OAuthCallback(database).answer, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers={Exception: _defect})


async def _defect(request: Request, error: Exception) -> Response:
    """Say that it is ours; the query is not logged, it may hold a code."""
    log.error("a request ended in a defect", exc_info=error, extra={"path": request.url.path})
    return Response("this is a defect of ours; it is in the log\n", 500, media_type="text/plain")
