"""The command `connect`: a person has a partner grant a connection access."""

import asyncio
import getpass
import hashlib
import secrets
import time
import webbrowser
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from ingress.oauth_callback import PATH
from integrations import output
from integrations.connections import ConnectionArgument, parse_name
from integrations.database import DatabaseOption, LocalOption, database_url
from integrations.errors import EXIT_CODES_HELP, CommandError, ExitCode, NotFoundError, UsageError
from integrations.output import JsonOption
from local.access import find_access
from local.programs import HOST
from store.database import Database, connect
from store.flows import FlowState, read_flow, request_flow
from store.roles import Group

CALLBACK_VARIABLE: Final = "INTEGRATIONS_CALLBACK_URL"
FLOW_LIMIT: Final = timedelta(minutes=10)
"""How long a person may take."""

WORKER_SECONDS: Final = 90.0
"""How long a worker may take to offer the partner's page: its pool may have been asleep."""

_LOOK_SECONDS: Final = 0.3
_LONGEST_CALLBACK: Final = 2_000
_LONGEST_WHO: Final = 200

CONNECT_HELP: Final = (
    "The app that is registered with the partner must allow the callback address for redirects. " + EXIT_CODES_HELP
)


def connect_command(
    connection: ConnectionArgument,
    callback: Annotated[
        str | None,
        typer.Option(
            envvar=CALLBACK_VARIABLE,
            metavar="URL",
            help=f"Public address of the ingress' page, https://…{PATH}; a local layer has its own.",
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the link in this machine's browser.")] = False,
    requested_by: Annotated[
        str | None, typer.Option("--requested-by", metavar="WHO", help="Who asks; by default the user's name.")
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Have a partner grant a connection access to an account: print a link, and wait until somebody followed it.

    Whoever opens the link signs in at the partner and chooses the account. What the connection had before is replaced.

    Exit code 1 says that there is no such connection, or that it was not connected.
    """
    name = parse_name(connection)
    dsn = database_url(Group.SUPPORT, database, local)
    callback = callback or _local_callback(local if database is None else None)
    if not callback.startswith(("https://", "http://")) or len(callback) > _LONGEST_CALLBACK:
        raise UsageError(f"the callback address begins with https:// and ends with {PATH}")
    state = secrets.token_urlsafe(32)

    def offer(url: str) -> None:
        link = f"{url}&state={state}"
        typer.echo(f"Open this link and allow access; it is good for ten minutes:\n\n  {link}\n", err=as_json)
        if open_browser:
            webbrowser.open(link)

    ended = asyncio.run(
        _connect(dsn, name, (state, callback, (requested_by or getpass.getuser())[:_LONGEST_WHO]), offer)
    )
    connected = ended.status == "Connected"
    if as_json:
        output.print_json({"connection": connection, "connected": connected, "detail": ended.detail})
    elif connected:
        said = f" ({ended.detail})" if ended.detail else ""
        output.print_line(Text(f"{connection} is connected{said}", style="green"))
    else:
        output.print_line(Text(f"{connection} was not connected: {ended.detail}", style="bold red"))
    if not connected:
        raise typer.Exit(ExitCode.NOT_FINE)


async def _connect(
    dsn: str, name: tuple[str, str], asked: tuple[str, str, str], offer: Callable[[str], None]
) -> FlowState:
    state, callback, who = asked
    digest = hashlib.sha256(state.encode()).digest()
    async with await connect(dsn, "cli") as database:
        flow = await request_flow(database, name, digest, callback, who, FLOW_LIMIT)
        if flow is None:
            raise NotFoundError(f"there is no connection {'/'.join(name)}; see `integrations connections list`")
        offered = await _until(database, flow, {"Requested"}, WORKER_SECONDS)
        if offered is None:
            raise CommandError(
                f"no worker of {'/'.join(name)} has taken this up; see `integrations connections list`, and whether "
                "its auth has `oauth`"
            )
        if offered.authorize_url is None:
            return offered
        offer(offered.authorize_url)
        ended = await _until(database, flow, {"Offered", "Answered"}, FLOW_LIMIT.total_seconds())
        return ended or FlowState("Failed", expired=True, authorize_url=None, detail="nobody has followed the link")


async def _until(database: Database, flow: int, waiting: set[str], seconds: float) -> FlowState | None:
    """Wait until a flow has none of these statuses; None if it keeps one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = await read_flow(database, flow)
        if found is None:
            return FlowState("Failed", expired=True, authorize_url=None, detail="its connection was deleted")
        if found.status not in waiting:
            return found
        if found.expired:
            return None
        await asyncio.sleep(_LOOK_SECONDS)
    return None


def _local_callback(local: Path | None) -> str:
    access = find_access(local or Path.cwd())
    if access is None:
        raise UsageError(f"no callback address is known: give --callback, or set {CALLBACK_VARIABLE}")
    return f"http://{HOST}:{access.ingress_port}{PATH}"
