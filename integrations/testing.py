"""The command `test`: whether a connection's partner can be reached and takes what we send."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.text import Text

from connectors.connector import Connection
from connectors.context import ConnectorContext
from connectors.egress import EgressPolicy
from connectors.endpoint_check import Step, check_endpoint
from connectors.http import GuardedHttp
from contracts.connection import parse_connection_spec
from delivery.credentials import ConnectionSecrets, MountedSecrets
from delivery.grants import StoredGrants
from delivery.memory import Memory
from delivery.settings import WorkerSettings
from integrations import output
from integrations.connections import parse_name
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, ExitCode, NotFoundError, variable
from integrations.output import JsonOption
from local.access import find_data
from local.layer import LocalOptions
from local.programs import LOOPBACK
from programs.key_ring import read_key_file
from programs.reconnect import Reconnecting
from store.connections import find_connection
from store.roles import Group

REPORT_BYTES = 4096

TEST_HELP = (
    "Without --local and --database, the settings of a worker count (INTEGRATIONS_DATABASE_URL or _FILE,"
    " INTEGRATIONS_SECRETS_DIRECTORY, INTEGRATIONS_EGRESS_ALLOW), as they are in its pod. " + EXIT_CODES_HELP
)


def check(
    connection: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The connection.", show_default=False)],
    secrets: Annotated[
        Path | None, typer.Option("--secrets", metavar="DIR", help="Mounted Secrets, <namespace>/<secret>/<key>.")
    ] = None,
    as_json: JsonOption = False,
    report: Annotated[
        Path | None, typer.Option(help="File to write the JSON to as well, long texts cut to fit in 4 KiB.")
    ] = None,
    database: DatabaseOption = None,
    database_file: Annotated[
        Path | None,
        typer.Option(
            "--database-file", envvar="INTEGRATIONS_DATABASE_URL_FILE", metavar="FILE", help="File that holds the URL."
        ),
    ] = None,
    local: LocalOption = None,
) -> None:
    """Send a connection's partner a signed event that says it is a test, and tell of each step on the way.

    Run it where deliveries come from, in a worker's pod or for a local layer: there Secrets and network are the same.
    The event is stored nowhere, and its type is integrations.test.

    Exit code 1 says that there is no such connection, or that its partner was not reached or did not take the event.
    """
    namespace, name = parse_name(connection)
    settings = _settings(database, database_file, local, secrets)
    found = ask(settings.connection_string()(), lambda opened: find_connection(opened, namespace, name))
    if found is None:
        raise NotFoundError(f"there is no connection {connection}; see `integrations connections list`")
    tested = Connection(found.uid, namespace, name, found.tenant, parse_connection_spec(found.spec))
    steps = asyncio.run(_check(tested, settings, found.clock, None if as_json else _print))
    passed = steps[-1].passed
    if report is not None:
        report.write_bytes(brief(connection, steps))
    if as_json:
        output.print_json({"connection": connection, "passed": passed, "steps": steps})
    elif passed:
        output.print_line(Text(f"{connection} takes what we send", style="green"))
    if not passed:
        raise typer.Exit(ExitCode.NOT_FINE)


def brief(connection: str, steps: list[Step]) -> bytes:
    """Write the JSON with texts as long as the whole allows: Kubernetes keeps 4 KiB of a container's last words."""
    longest = 512
    while len(written := _written(connection, steps, longest)) > REPORT_BYTES:
        longest //= 2
    return written


def _written(connection: str, steps: list[Step], longest: int) -> bytes:
    cut = [replace(step, found=step.found[:longest], advice=step.advice[:longest]) for step in steps]
    return orjson.dumps({"connection": connection, "passed": steps[-1].passed, "steps": cut})


async def _check(
    connection: Connection, settings: WorkerSettings, now: float, tell: Callable[[Step], None] | None
) -> list[Step]:
    policy = EgressPolicy(settings.egress_allow, setting=variable("egress_allow"))
    credentials = ConnectionSecrets(MountedSecrets(settings.secrets_directory), connection.namespace)
    steps: list[Step] = []
    database = Reconnecting(settings.connection_string(), "cli")
    grants = StoredGrants(Memory(database), connection, partial(read_key_file, settings.oauth_keys_file))
    try:
        async with GuardedHttp(policy) as http:
            async for step in check_endpoint(connection, ConnectorContext(credentials, http, grants=grants), now):
                steps.append(step)
                if tell:
                    tell(step)
    finally:
        await database.close()
    return steps


def _settings(database: str | None, file: Path | None, local: Path | None, secrets: Path | None) -> WorkerSettings:
    given: dict[str, Any] = {} if secrets is None else {"secrets_directory": secrets}
    if local is None and file is not None:
        return WorkerSettings(database_url_file=file, **given)
    dsn = database_url(Group.WORKER, database, local)
    if local is None and database is not None:
        return WorkerSettings(database_url=dsn, **given)
    folder = local or Path.cwd()
    layer = LocalOptions(folder, find_data(folder))
    return WorkerSettings(database_url=dsn, **(_of_layer(layer) | given))


def _of_layer(layer: LocalOptions) -> dict[str, Any]:
    return {"secrets_directory": layer.secrets, "oauth_keys_file": layer.oauth_keys, "egress_allow": LOOPBACK}


def _print(step: Step) -> None:
    mark = ("✓ ", "green") if step.passed else ("✗ ", "bold red")
    output.print_line(Text.assemble(mark, f"{step.name:<12}{step.seconds * 1000:>7.0f} ms  {step.found}"))
    if step.advice:
        output.print_line(Text(f"{'':25}{step.advice}", style="yellow"))
