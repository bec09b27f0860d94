"""Commands about connections: `connections list`, `connections show`, `connections release`."""

from typing import Annotated

import typer
from rich.text import Text

from integrations import output
from integrations.connection_details import details_document, print_details
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, CommandError, NotFoundError, UsageError
from integrations.output import JsonOption
from store.connections import ConnectionDetails, read_connection
from store.database import Database
from store.publication import ConnectionState, connection_states
from store.publication import release as release_connection
from store.roles import Group
from store.scopes import ScopeDetails, read_scope
from store.transitions import RecordedTransition, read_transitions
from store.upkeep import BacklogRow, read_backlog

app = typer.Typer(no_args_is_help=True, help="The links of tenants to their partners.")


@app.command("list", epilog=EXIT_CODES_HELP)
def list_command(as_json: JsonOption = False, database: DatabaseOption = None, local: LocalOption = None) -> None:
    """List connections with their state and what they have to deliver."""
    states, backlog = ask(database_url(Group.READER, database, local), _read)
    rows = [(state, backlog[state.namespace, state.name]) for state in states]
    if as_json:
        output.print_json({"connections": [_document(*row) for row in rows]})
    elif rows:
        columns = ("Connection", "Tenant", "State", "Waiting", "Oldest", "Why")
        output.print_table(columns, [_cells(*row) for row in rows])
    else:
        output.print_line("no connections are published")


ConnectionArgument = Annotated[
    str, typer.Argument(metavar="NAMESPACE/NAME", help="The connection.", show_default=False)
]


@app.command(epilog=EXIT_CODES_HELP)
def show(
    connection: ConnectionArgument,
    history: Annotated[int, typer.Option(min=1, max=10_000, help="Changes of state at most, the latest.")] = 20,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Show one connection: its state and limits, what waits, and every change of its state with the reason.

    Exit code 1 says that there is no such connection.
    """
    namespace, name = parse_name(connection)

    async def read(
        opened: Database,
    ) -> tuple[ConnectionDetails | None, ScopeDetails | None, list[RecordedTransition]]:
        details = await read_connection(opened, namespace, name)
        scope = await read_scope(opened, namespace, name)
        return details, scope, await read_transitions(opened, namespace, name, limit=history)

    details, scope, transitions = ask(database_url(Group.READER, database, local), read)
    if details is None:
        raise NotFoundError(f"there is no connection {connection}; see `integrations connections list`")
    if as_json:
        output.print_json(details_document(connection, details, scope, transitions))
    else:
        print_details(connection, details, scope, transitions)


@app.command(epilog=EXIT_CODES_HELP)
def release(
    connection: ConnectionArgument,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Try a quarantined connection's partner at once; if one delivery succeeds, the backlog follows step by step.

    Exit code 1 says that there is no such connection or that it is not quarantined.
    """
    namespace, name = parse_name(connection)
    dsn = database_url(Group.OPERATOR, database, local)
    if not ask(dsn, lambda opened: release_connection(opened, namespace, name)):
        raise CommandError(f"there is no quarantined connection {connection}; see `integrations connections list`")
    output.print_line(f"{connection} tries its partner now")


def parse_name(connection: str) -> tuple[str, str]:
    """Read NAMESPACE/NAME; raise UsageError."""
    namespace, slash, name = connection.partition("/")
    if not (namespace and slash and name):
        raise UsageError("a connection is named NAMESPACE/NAME, such as acme/crm")
    return namespace, name


async def _read(database: Database) -> tuple[list[ConnectionState], dict[tuple[str, str], BacklogRow]]:
    states = await connection_states(database)
    return states, {(row.namespace, row.connection): row for row in await read_backlog(database)}


def _state(state: ConnectionState) -> str:
    if not state.active:
        return "Retired"
    return "Suspended" if state.suspended else state.state


def _why(state: ConnectionState) -> str:
    if state.quarantine_reason is not None:
        return state.quarantine_reason
    return "" if state.owned else "no worker has it"


def _cells(state: ConnectionState, backlog: BacklogRow) -> list[str | Text]:
    oldest = output.age(backlog.oldest_seconds) if backlog.jobs else ""
    name = f"{state.namespace}/{state.name}"
    return [name, state.tenant, output.state(_state(state)), str(backlog.jobs), oldest, _why(state)]


def _document(state: ConnectionState, backlog: BacklogRow) -> dict[str, object]:
    return {
        "connection": f"{state.namespace}/{state.name}",
        "tenant": state.tenant,
        "provider": state.provider,
        "state": _state(state),
        "quarantined_at": state.quarantined_at,
        "quarantine_reason": state.quarantine_reason,
        "next_probe_at": state.probe_at,
        "paused_until": state.paused_until,
        "waiting": backlog.jobs,
        "oldest_seconds": round(backlog.oldest_seconds, 1) if backlog.jobs else None,
    }
