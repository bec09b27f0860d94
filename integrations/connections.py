"""Commands about connections: `connections list`, `connections release`."""

from typing import Annotated

import typer
from rich.text import Text

from integrations import output
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, CommandError, UsageError
from integrations.output import JsonOption
from store.publication import release as release_connection
from store.roles import Group
from store.upkeep import BacklogRow, read_backlog

app = typer.Typer(no_args_is_help=True, help="The links of tenants to their partners.")


@app.command("list", epilog=EXIT_CODES_HELP)
def list_command(as_json: JsonOption = False, database: DatabaseOption = None, local: LocalOption = None) -> None:
    """List connections with their state and what they have to deliver."""
    rows = sorted(ask(database_url(Group.READER, database, local), read_backlog))
    if as_json:
        output.print_json({"connections": [_document(row) for row in rows]})
    elif rows:
        columns = ("Connection", "Tenant", "State", "Waiting", "Oldest")
        output.print_table(columns, [_cells(row) for row in rows])
    else:
        output.print_line("no connections are published")


@app.command(epilog=EXIT_CODES_HELP)
def release(
    connection: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The connection.", show_default=False)],
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Try a quarantined connection's partner at once; if one delivery succeeds, the backlog follows.

    Exit code 1 says that there is no such connection or that it is not quarantined.
    """
    namespace, slash, name = connection.partition("/")
    if not (namespace and slash and name):
        raise UsageError("a connection is named NAMESPACE/NAME, such as acme/crm")
    dsn = database_url(Group.OPERATOR, database, local)
    if not ask(dsn, lambda opened: release_connection(opened, namespace, name)):
        raise CommandError(f"there is no quarantined connection {connection}; see `integrations connections list`")
    output.print_line(f"{connection} tries its partner now")


def _state(row: BacklogRow) -> str:
    return "Suspended" if row.suspended else row.state


def _cells(row: BacklogRow) -> list[str | Text]:
    oldest = output.age(row.oldest_seconds) if row.jobs else ""
    return [f"{row.namespace}/{row.connection}", row.tenant, output.state(_state(row)), str(row.jobs), oldest]


def _document(row: BacklogRow) -> dict[str, object]:
    return {
        "connection": f"{row.namespace}/{row.connection}",
        "tenant": row.tenant,
        "state": _state(row),
        "waiting": row.jobs,
        "oldest_seconds": round(row.oldest_seconds, 1) if row.jobs else None,
    }
