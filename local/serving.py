"""What a person sees of the running layer: what changes, line by line, and on a terminal one live line of state."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from shlex import join
from types import MappingProxyType

from psycopg.conninfo import conninfo_to_dict
from rich.live import Live
from rich.text import Text

from contracts.ids import ConnectionUid
from local.access import DATA_FOLDER
from local.layer import Layer, LocalOptions, running_layer
from local.reports import Reporter
from local.state import Condition, ConnectionState
from store.errors import DatabaseUnreachableError
from store.roles import Group

_LOOK_SECONDS = 0.5

STYLES = {
    Condition.STARTING: "cyan",
    Condition.READY: "green",
    Condition.SUSPENDED: "dim",
    Condition.QUARANTINED: "bold red",
    Condition.RETIRED: "dim",
}
"""How each condition is coloured."""


async def serve(options: LocalOptions, reporter: Reporter, stop: asyncio.Event) -> None:
    """Run the layer until `stop` is set; raise LocalError or StoreError if it cannot run."""
    async with running_layer(options, reporter) as layer:
        tell_usage(layer)
        await show_state(layer, stop)
    reporter.good("stopped; the next run goes on where this one ended")


def tell_usage(layer: Layer, example: str = "EVENT") -> None:
    """Tell how events get in and how to look at what became of them, such as the event `example`."""
    place = place_arguments(layer.options)
    say = layer.reporter.say
    event = ["--tenant", "acme", "--type", "company.updated", "--subject", "c1"]
    data = '{"id": "c1", "name": "Acme"}'
    say(f"emit an event:   {join(['integrations', 'emit', *place, *event, '--data', data])}")
    say(f"what came of it: {join(['integrations', 'events', 'show', *place, example])}")
    say(f"producers may call integration.emit_event(…) at {_producers_address(layer)}")


def place_arguments(options: LocalOptions) -> list[str]:
    """Return the arguments with which a command of this person finds this layer."""
    if options.data == Path.cwd() / DATA_FOLDER:
        return []
    folder = options.data.parent if options.data.name == DATA_FOLDER else options.data
    below = folder.is_relative_to(Path.cwd())
    return ["--local", str(folder.relative_to(Path.cwd()) if below else folder)]


async def show_state(
    layer: Layer, stop: asyncio.Event, known: Mapping[ConnectionUid, Condition] = MappingProxyType({})
) -> None:
    """Tell of every change from what is `known`, and show the state where that is possible, until `stop` is set."""
    conditions = dict(known)
    if not layer.reporter.is_live:
        while not stop.is_set():
            await _look(layer, conditions)
            await wait_for(stop, _LOOK_SECONDS)
        return
    with Live(console=layer.reporter.console, auto_refresh=False, transient=True) as live:
        while not stop.is_set():
            states = await _look(layer, conditions)
            live.update(_line(layer, states), refresh=True)
            await wait_for(stop, _LOOK_SECONDS)


async def wait_for(stop: asyncio.Event, seconds: float) -> None:
    """Wait until `stop` is set, but no longer than some seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _look(layer: Layer, conditions: dict[ConnectionUid, Condition]) -> list[ConnectionState] | None:
    """Read the state and tell what changed since the last look; None if the database does not answer."""
    try:
        states = await layer.state()
    except DatabaseUnreachableError:
        return None
    tell_changes(layer.reporter, states, conditions)
    return states


def tell_changes(
    reporter: Reporter, states: Iterable[ConnectionState], conditions: dict[ConnectionUid, Condition]
) -> None:
    """Tell of connections whose condition differs from `conditions`, and take note of it there."""
    for state in states:
        if conditions.get(state.uid) is state.condition:
            continue
        conditions[state.uid] = state.condition
        name = f"connection {state.namespace}/{state.name}"
        match state.condition:
            case Condition.READY:
                reporter.good(f"{name} is ready")
            case Condition.QUARANTINED:
                reporter.warn(f"{name} is quarantined, its backlog is kept: {state.reason}")
            case Condition.SUSPENDED:
                reporter.say(f"{name} is suspended")
            case Condition.STARTING | Condition.RETIRED:
                pass


def _line(layer: Layer, states: list[ConnectionState] | None) -> Text:
    if states is None:
        return Text("the database does not answer", style="bold red")
    counts = Counter(state.condition for state in states)
    parts = [Text(f"{count} {condition.lower()}", style=STYLES[condition]) for condition, count in counts.items()]
    parts.append(Text(f"{sum(state.waiting for state in states)} waiting"))
    parts.append(Text(f"{layer.programs_running} programs"))
    if layer.problems:
        plural = "s" if layer.problems > 1 else ""
        parts.append(Text(f"{layer.problems} problem{plural} in manifests", style="bold red"))
    parts.append(Text("Ctrl-C stops", style="dim"))
    return Text(" · ").join(parts)


def _producers_address(layer: Layer) -> str:
    """Return the connection string for producers, without its password where it would end in a log."""
    dsn = layer.access.dsn(Group.PRODUCER)
    if layer.reporter.is_live:
        return dsn
    password = str(conninfo_to_dict(dsn)["password"])
    return f"{dsn.replace(f':{password}@', '@')} (password in {layer.options.data / 'access.json'})"
