"""Commands about attempts: `attempts export`."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer

from contracts.ids import EventId
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, UsageError
from integrations.lives import attempt_document
from store.export import Selection, export_attempts
from store.history import Attempt
from store.roles import Group

app = typer.Typer(no_args_is_help=True, help="Every try of every job, as an archive or an audit wants it.")

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


# A group of commands, though it has but one.
@app.callback()
def _group() -> None:
    pass


@app.command(epilog=EXIT_CODES_HELP)
def export(
    begin: Annotated[datetime, typer.Option("--from", formats=_TIMES, help="Beginning, in UTC.", show_default=False)],
    end: Annotated[
        datetime | None, typer.Option("--to", formats=_TIMES, help="End, in UTC and not included; by default now.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's attempts.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only attempts of connections of this name.")] = None,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Write attempts to standard output as JSON Lines: one object a line, as `jobs show --json` has them.

    They come day by day, nearly in the order of time. Memory stays the same however many there are.
    """
    until = end.replace(tzinfo=UTC) if end else datetime.now(UTC)
    selection = Selection(begin.replace(tzinfo=UTC), until, tenant, connection)
    if selection.begin >= selection.end:
        raise UsageError(
            f"--from {selection.begin:%Y-%m-%dT%H:%M:%S} is not before --to {selection.end:%Y-%m-%dT%H:%M:%S}"
        )
    dsn = database_url(Group.READER, database, local)
    count = ask(dsn, lambda opened: export_attempts(opened, selection, _write))
    typer.echo(f"{count} attempts", err=True)


async def _write(attempts: list[tuple[EventId, Attempt]]) -> None:
    lines = [
        orjson.dumps({"tenant": attempt.tenant, **attempt_document(event, attempt)}, option=orjson.OPT_UTC_Z)
        for event, attempt in attempts
    ]
    sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
    sys.stdout.buffer.flush()
