"""Commands about attempts: `attempts export`."""

import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from contracts.ids import EventId
from integrations.archives import Archive, Format, open_archive, whole_file
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, UsageError
from integrations.lives import attempt_document
from store.export import Selection, Take, export_attempts
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
    written_as: Annotated[Format, typer.Option("--format", help="JSON Lines, or Parquet.")] = Format.JSON_LINES,
    output: Annotated[
        Path | None,
        typer.Option(help="File to write or replace, whole or not at all; by default standard output.", dir_okay=False),
    ] = None,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Write attempts as JSON Lines, one object a line, as `jobs show --json` has them, or as Parquet.

    They come day by day, nearly in the order of time. Memory stays the same however many there are.
    """
    until = end.replace(tzinfo=UTC) if end else datetime.now(UTC)
    selection = Selection(begin.replace(tzinfo=UTC), until, tenant, connection)
    if selection.begin >= selection.end:
        raise UsageError(
            f"--from {selection.begin:%Y-%m-%dT%H:%M:%S} is not before --to {selection.end:%Y-%m-%dT%H:%M:%S}"
        )
    if written_as is Format.PARQUET and output is None:
        raise UsageError("a Parquet file is no text: name the file to write with --output")
    dsn = database_url(Group.READER, database, local)
    with (
        whole_file(output) if output else nullcontext(sys.stdout.buffer) as stream,
        open_archive(written_as, stream) as archive,
    ):
        count = ask(dsn, lambda opened: export_attempts(opened, selection, _writing_to(archive)))
    typer.echo(f"{count} attempts", err=True)


def _writing_to(archive: Archive) -> Take:
    async def write(attempts: list[tuple[EventId, Attempt]]) -> None:
        archive.write([{"tenant": each.tenant, **attempt_document(event, each)} for event, each in attempts])

    return write
