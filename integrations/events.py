"""Commands about events: `emit`, `events show`."""

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.text import Text

from contracts.ids import PublicEventId, parse_event_id, public_event_id
from integrations import output
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, ExitCode, NotFoundError, UsageError
from integrations.lives import Step, attempt_document, attempt_step, job_document, print_steps, unfinished_step
from integrations.output import JsonOption
from store.database import Database
from store.history import EventLife, event_life
from store.outbox import NewEvent
from store.outbox import emit as emit_event
from store.roles import Group

app = typer.Typer(no_args_is_help=True, help="What happened, and what came of it.")


def emit(
    tenant: Annotated[str, typer.Option(help="Whose event it is.", show_default=False)],
    event_type: Annotated[str, typer.Option("--type", help="Such as company.updated.", show_default=False)],
    subject: Annotated[str, typer.Option(help="Id of what it is about; its events keep their order.")],
    data: Annotated[str, typer.Option(help="The event's data: a JSON object, or @FILE, or - for standard input.")],
    dedupe_key: Annotated[str | None, typer.Option(help="At most one event is emitted under one key.")] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Emit one event and print its id. Services call integration.emit_event in their own transaction instead.

    Exit code 1 says that the event was refused and nothing was stored.
    """
    event = NewEvent(tenant, event_type, subject, read_data(data), dedupe_key)

    async def question(opened: Database) -> PublicEventId:
        return await emit_event(opened, event)

    event_id = ask(database_url(Group.PRODUCER, database, local), question)
    if as_json:
        output.print_json({"id": event_id})
    else:
        output.print_line(event_id)


@app.command(epilog=EXIT_CODES_HELP)
def show(
    event: Annotated[str, typer.Argument(help="The event's id, such as evt_1f_0a1b2c3d.", show_default=False)],
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Show the whole life of an event in order: emitted, dispatched, every attempt, and what is unfinished and why.

    Exit code 0 says that all that follows from the event is delivered, 1 that something is not, or no such event.
    """
    event_id = parse_event_id(event)
    life = ask(database_url(Group.READER, database, local), lambda opened: event_life(opened, event_id))
    if life is None or public_event_id(life.id, life.nonce) != event:
        raise NotFoundError(f"there is no event {event}, or it is no longer kept")
    if as_json:
        output.print_json(_document(life))
    else:
        _print(life)
    if life.unfinished or not life.dispatched:
        raise typer.Exit(ExitCode.NOT_FINE)


def _print(life: EventLife) -> None:
    title = Text.assemble((public_event_id(life.id, life.nonce), "bold"), f" {life.type} of {life.subject}")
    output.print_line(title)
    steps = [Step(life.at, Text("emitted"), f"tenant {life.tenant}", f"{len(life.data.encode())} bytes of data")]
    jobs = {attempt.job for attempt in life.attempts} | {job.id for job in life.unfinished}
    if not life.dispatched:
        steps.append(Step(None, Text("not dispatched", style="yellow"), "", "waits for the dispatcher"))
    elif not jobs:
        steps.append(Step(None, Text("dispatched"), "", "no route selected it, or its history is no longer kept"))
    else:
        steps.append(Step(life.at, Text("dispatched"), "", f"as {len(jobs)} job{'s' if len(jobs) > 1 else ''}"))
    steps += map(attempt_step, life.attempts)
    steps += map(unfinished_step, life.unfinished)
    print_steps(life.at, steps)


def _document(life: EventLife) -> dict[str, object]:
    return {
        "id": public_event_id(life.id, life.nonce),
        "at": life.at,
        "tenant": life.tenant,
        "type": life.type,
        "subject": life.subject,
        "data": orjson.loads(life.data),
        "dispatched": life.dispatched,
        "attempts": [attempt_document(life.id, attempt) for attempt in life.attempts],
        "unfinished": [job_document(job) for job in life.unfinished],
    }


def read_data(given: str) -> dict[str, object]:
    """Read the JSON object that --data gives, itself or as @FILE or -; raise UsageError."""
    try:
        document = orjson.loads(_text_of(given))
    except orjson.JSONDecodeError as error:
        raise UsageError(f"--data is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError('--data is not a JSON object; it is written like \'{"id": "c1", "name": "Acme"}\'')
    return document


def _text_of(given: str) -> str:
    if given == "-":
        return sys.stdin.read()
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--data: cannot read the file {given[1:]}: {error}") from error
