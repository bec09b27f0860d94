"""The demo: the real layer, a simulated partner that fails and comes back, and a count of what arrived there.

The first connection of the folder is the one whose partner fails. Act by act: events flow; the partner
answers 503, so attempts are repeated and at last the connection is quarantined while the others go on; the partner is
well again, a probe finds out, and the backlog is delivered.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice

from psycopg import AsyncConnection
from rich.live import Live

from local.demo_counts import Endpoint, Summary, summarise
from local.demo_crm import Crm, running_crms
from local.demo_events import demo_events
from local.demo_partner import Partner, running_partner
from local.demo_scene import set_scene
from local.demo_view import DemoView, summary_table
from local.errors import DemoError
from local.layer import Layer, LocalOptions, make_data_folder, running_layer
from local.manifests import ManifestFolder
from local.reports import Reporter
from local.serving import show_state, tell_usage
from local.state import Condition, ConnectionState
from store.errors import DatabaseUnreachableError
from store.outbox import NewEvent, emit
from store.roles import Group

_EVENTS_WHILE_WELL = 180
_EVENTS_WHILE_FAILING = 120
_PAUSE_BETWEEN_EVENTS = 0.02
_LOOK_SECONDS = 0.25
_PATIENCE_SECONDS = 60.0
_SHOW_QUARANTINE_SECONDS = 3.0


async def demonstrate(
    options: LocalOptions, reporter: Reporter, stop: asyncio.Event, *, once: bool, tell: Callable[[Summary], None]
) -> Summary | None:
    """Play the demo, `tell` its summary and return it, None if it was stopped before.

    Unless `once`, the layer and the partner then stay up until `stop`. Raises LocalError or StoreError if it cannot be
    played.
    """
    scene = set_scene(ManifestFolder(options.manifests).read())
    make_data_folder(options.data)
    async with (
        running_partner(scene.port, options.logs) as partner,
        running_crms(scene.crms, options.logs),
        running_layer(options, reporter) as layer,
    ):
        for path, secrets in scene.secrets.items():
            await partner.open(path, secrets)
        demo = Demo(layer, partner, scene.endpoints, scene.crms)
        summary = await _until_stopped(stop, demo.play)
        if summary is not None:
            reporter.console.print(summary_table(summary))
            tell(summary)
            if not once:
                tell_usage(layer, example=demo.most_repeated_event())
                await show_state(layer, stop, {state.uid: state.condition for state in await layer.state()})
    return summary


class Demo:
    """One performance."""

    def __init__(self, layer: Layer, partner: Partner, endpoints: Sequence[Endpoint], crms: Sequence[Crm] = ()) -> None:
        self._layer = layer
        self._partner = partner
        self._endpoints = endpoints
        self._crms = crms
        self._partners: list[Endpoint | Crm] = [*endpoints, *crms]
        self._states: dict[str, ConnectionState] = {}
        self._view = DemoView(endpoints, crms)
        tenants = sorted({endpoint.connection.spec.tenant for endpoint in endpoints})
        self._events = demo_events(tenants, _EVENTS_WHILE_WELL + _EVENTS_WHILE_FAILING)
        self._emitted = 0

    async def play(self) -> Summary:
        """Play all acts."""
        began = time.monotonic()
        async with self._showing():
            failing = self._endpoints[0]
            await self._get_ready()
            await self._flow()
            quarantined = await self._fail(failing)
            recovered = await self._recover(failing)
        return await summarise(
            self._endpoints,
            self._partner,
            self._crms,
            events=self._emitted,
            quarantined_and_recovered=quarantined and recovered,
            seconds=time.monotonic() - began,
        )

    def most_repeated_event(self) -> str:
        """Return the event that was tried most often."""
        return self._endpoints[0].most_tried

    async def _get_ready(self) -> None:
        self._act("Connections become ready")
        names = [each.name for each in self._partners]
        if not await self._wait(lambda: all(self._condition(name) is not None for name in names)):
            raise DemoError("the demo's connections were not published; correct the manifests as told above")

    async def _flow(self) -> None:
        self._act("Services emit events; each goes to the connections whose routes select it")
        await self._emit(_EVENTS_WHILE_WELL)
        await self._wait(self._all_there)

    async def _fail(self, failing: Endpoint) -> bool:
        """Return whether the failing connection was quarantined."""
        self._act(f"The partner of {failing.name} answers 503: attempts fail and are repeated, the others go on")
        await self._partner.fail(failing.path)
        await self._emit(_EVENTS_WHILE_FAILING)
        if not await self._wait(lambda: self._condition(failing.name) is Condition.QUARANTINED):
            return False
        self._act(f"{failing.name} is quarantined: its backlog is kept, and now and then one delivery tries")
        await asyncio.sleep(_SHOW_QUARANTINE_SECONDS)
        return True

    async def _recover(self, failing: Endpoint) -> bool:
        """Return whether the connection is ready again and has delivered everything."""
        self._act(f"The partner of {failing.name} is well again: the next probe finds out and the backlog drains")
        await self._partner.recover(failing.path)
        return await self._wait(lambda: self._condition(failing.name) is Condition.READY and self._all_there())

    async def _emit(self, count: int) -> None:
        producer = await AsyncConnection.connect(self._layer.access.dsn(Group.PRODUCER), autocommit=True)
        async with producer:
            for event in islice(self._events, count):
                await self._emit_one(producer, event)
                await asyncio.sleep(_PAUSE_BETWEEN_EVENTS)

    async def _emit_one(self, producer: AsyncConnection[tuple[object, ...]], event: NewEvent) -> None:
        event_id = await emit(producer, event)
        self._emitted += 1
        for each in self._partners:
            each.expect(event_id, event)

    def _act(self, words: str) -> None:
        self._view.act = words
        if not self._layer.reporter.is_live:
            self._layer.reporter.say(words)

    def _condition(self, name: str) -> Condition | None:
        state = self._states.get(name)
        return None if state is None or state.condition is Condition.STARTING else state.condition

    def _all_there(self) -> bool:
        delivered = all(each.expected.total() == each.counts.delivered for each in self._endpoints)
        return delivered and all(crm.outstanding == 0 for crm in self._crms)

    async def _wait(self, condition: Callable[[], bool]) -> bool:
        """Wait until something is so; False if it does not come to pass in good time."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS / 2)
        return True

    @asynccontextmanager
    async def _showing(self) -> AsyncIterator[None]:
        """Look again and again while the body runs, and show it where something can be shown."""
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look_for_ever())
            try:
                yield
            finally:
                looking.cancel()

    async def _look_for_ever(self) -> None:
        reporter = self._layer.reporter
        if not reporter.is_live:
            while True:
                await self._look()
                await asyncio.sleep(_LOOK_SECONDS)
        with Live(console=reporter.console, auto_refresh=False) as live:
            try:
                while True:
                    await self._look()
                    live.update(self._view.render(self._states, self._emitted), refresh=True)
                    await asyncio.sleep(_LOOK_SECONDS)
            finally:
                self._view.act = ""
                live.update(self._view.render(self._states, self._emitted), refresh=True)

    async def _look(self) -> None:
        try:
            states = await self._layer.state()
        except DatabaseUnreachableError:
            return
        self._states = {f"{state.namespace}/{state.name}": state for state in states}
        for endpoint in self._endpoints:
            await endpoint.observe(self._partner)
        for crm in self._crms:
            await crm.observe()


async def _until_stopped(stop: asyncio.Event, play: Callable[[], Awaitable[Summary]]) -> Summary | None:
    """Play to the end, or until `stop` is set."""
    playing = asyncio.ensure_future(play())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await playing if playing.done() else None
    finally:
        stopping.cancel()
        playing.cancel()
        await asyncio.wait({playing, stopping})
