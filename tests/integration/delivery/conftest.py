"""Dispatcher and workers in this process, on a real database, against a receiver that verifies signatures."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from connectors.connector import ConnectorFactory
from connectors.registry import open_connector
from connectors.webhook.simulator import WebhookSimulator
from connectors.webhook.simulator_records import Arrival
from delivery.dispatcher import Dispatcher
from delivery.settings import DispatcherSettings, WorkerSettings
from delivery.worker import Worker

if TYPE_CHECKING:
    from tests.integration.conftest import Layer, Published

SECRET = "whsec_" + b64encode(b"the key that signs everything").decode()
PATIENCE_SECONDS = 30


@dataclass
class House:
    """A whole delivery layer of its own for a test."""

    layer: "Layer"
    simulator: WebhookSimulator
    secrets: Path
    stops: dict[str, asyncio.Event] = field(default_factory=dict)
    tasks: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    # Programs

    def start_dispatcher(self, name: str = "dispatcher", **settings: object) -> None:
        dispatcher = Dispatcher(DispatcherSettings(database_url=self.layer.dsn("dispatcher"), **settings))
        self._start(name, dispatcher.run)

    def start_worker(
        self, name: str = "worker", pool: str = "pool_a", factory: ConnectorFactory = open_connector, **settings: object
    ) -> None:
        worker = Worker(
            WorkerSettings(
                **({} if "database_url_file" in settings else {"database_url": self.layer.dsn(pool)}),
                worker_name=name,
                secrets_directory=self.secrets,
                egress_allow=(ip_network("127.0.0.0/8"),),
                **{"senders": 32, "drain": timedelta(seconds=5), "lease": timedelta(seconds=3), **settings},
            ),
            factory,
        )
        self._start(name, worker.run)

    def _start(self, name: str, run: Callable[[asyncio.Event], "asyncio.Future[None]"]) -> None:
        self.stops[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(run(self.stops[name]), name=name)

    def start(self) -> None:
        self.start_dispatcher()
        self.start_worker()

    async def stop(self, name: str) -> None:
        self.stops[name].set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.tasks.pop(name)

    async def kill(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Stop what still runs, by force what does not stop by itself."""
        for stop in self.stops.values():
            stop.set()
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=10)
        for name in list(self.tasks):
            await self.kill(name)

    # What is asked of them

    def write_secret(self, value: str = SECRET, name: str = "hook", namespace: str = "acme") -> None:
        folder = self.secrets / namespace / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "signing").write_text(value)

    async def publish(
        self, path: str = "/hook", *, name: str = "hook", pool: str = "pool_a", **spec: object
    ) -> "Published":
        """Publish a connection to one of the simulator's paths, which is made with the common secret."""
        self.simulator.change(path)
        tenant = str(spec.get("tenant", "acme"))
        return await self.layer.publish(
            self.layer.spec(self.simulator.url(path), **spec), name=name, namespace=tenant, pool=pool
        )

    def cut_connections(self) -> int:
        """End every connection of dispatcher and workers to the database."""
        return len(
            self.layer.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name like 'integrations-%%'",
                ("",)[:0],
            )
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; programs that ended by themselves fail the test with their reason."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                for name, task in self.tasks.items():
                    if task.done():
                        task.result()
                        raise AssertionError(f"{name} ended by itself")
                await asyncio.sleep(0.01)

    async def until_accepted(self, number: int, path: str = "/hook") -> None:
        await self.until(lambda: self.simulator.stats(path).accepted >= number)

    async def until_settled(self) -> None:
        """Wait until nothing is left to deliver."""
        await self.until(lambda: self.undispatched() == 0 and self.jobs() == 0)

    def jobs(self, name: str = "%") -> int:
        """Count the unfinished jobs of connections of that name."""
        count: int = self.layer.value(
            "select count(*) from integration.job join integration.connection c on c.id = connection_id"
            " where c.name like %s",
            (name,),
        )
        return count

    def undispatched(self) -> int:
        count: int = self.layer.value(
            "select count(*) from integration.event, integration.dispatch_cursor"
            " where not pg_visible_in_snapshot(xid, lower)"
        )
        return count

    def lane(self, name: str = "hook") -> tuple[str, str | None]:
        """Return a lane's state and the reason of its quarantine."""
        ((state, reason),) = self.layer.rows(
            "select state, quarantine_reason from integration.lane"
            " join integration.connection c on c.id = connection_id where c.name = %s",
            (name,),
        )
        return state, reason

    def arrivals(self, path: str = "/hook") -> list[Arrival]:
        return sorted(self.simulator.records(path).arrivals.values(), key=lambda arrival: arrival.sequence)

    def assert_in_order(self, path: str = "/hook") -> None:
        """Check that each subject's events were accepted in the order in which they were emitted."""
        for subject, accepted in self.simulator.records(path).order.items():
            emitted = self.layer.column(
                "select 'evt_' || to_hex(id) || '_' || lpad(to_hex(nonce), 8, '0') from integration.event"
                " where subject = %s order by id",
                (subject,),
            )
            assert accepted == [event for event in emitted if event in set(accepted)]


@pytest.fixture
async def house(layer: "Layer", tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[House]:
    caplog.set_level(logging.INFO)
    async with WebhookSimulator([SECRET]) as simulator:
        house = House(layer, simulator, tmp_path / "secrets")
        for namespace in ("acme", "globex"):
            house.write_secret(namespace=namespace)
        try:
            yield house
        finally:
            await house.close()
