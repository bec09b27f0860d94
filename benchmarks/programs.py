"""The programs under test as separate processes: `python -m benchmarks.programs dispatcher|worker|noop-worker`.

Settings come from the environment as for `integrations`; the no-op worker is the real one with a connector that
answers at once, which leaves only our own work to be measured.
"""

import asyncio
import signal
import sys

import uvloop

from connectors.connector import Connection, Delivery
from connectors.context import ConnectorContext
from contracts.outcomes import Delivered, Report
from delivery.dispatcher import Dispatcher
from delivery.settings import DispatcherSettings, WorkerSettings
from delivery.worker import Worker
from local.parent import exit_with_parent
from programs.logs import set_up_logging


class NoopConnector:
    """Delivers nothing, successfully."""

    _report = Report(Delivered(), 204)

    async def send(self, delivery: Delivery) -> Report:  # noqa: ARG002 -- nothing is sent
        """Succeed."""
        return self._report

    async def close(self) -> None:
        """Do nothing."""


def open_noop(connection: Connection, context: ConnectorContext) -> NoopConnector:  # noqa: ARG001 -- a factory's form
    """Open a connector that does nothing."""
    return NoopConnector()


async def _run(program: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    match program:
        case "dispatcher":
            await Dispatcher(DispatcherSettings()).run(stop)
        case "worker":
            await Worker(WorkerSettings()).run(stop)
        case "noop-worker":
            await Worker(WorkerSettings(), open_noop).run(stop)
        case _:
            raise SystemExit(f"unknown program {program}")


if __name__ == "__main__":
    exit_with_parent()
    set_up_logging(sys.argv[1], "WARNING")
    uvloop.run(_run(sys.argv[1]))
