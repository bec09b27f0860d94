"""Commands about dead letters: `dead-letters list|show|resend|edit-and-resend|discard`."""

from typing import Annotated

import typer
from rich.text import Text

from contracts.ids import ReplayId, parse_job_id, public_event_id, public_job_id
from integrations import output
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.edits import changes_between, read_new_data
from integrations.errors import EXIT_CODES_HELP, CommandError, NotFoundError, UsageError
from integrations.output import JsonOption
from integrations.replay_requests import Asked, Plan, plan, split_name
from integrations.replays import (
    DryRunOption,
    ReasonOption,
    RequestedByOption,
    SinceOption,
    SupersededOption,
    TypeOption,
    UntilOption,
    begin,
    required,
    tell,
)
from store.database import Database
from store.dead_letters import (
    Cause,
    EndedLetter,
    Letter,
    LetterFilter,
    count_letters,
    discard,
    ended_letters,
    list_letters,
)
from store.history import event_life
from store.replay_edits import start_edited
from store.replay_selection import Source
from store.replays import Request
from store.roles import Group

app = typer.Typer(no_args_is_help=True, help="Jobs that were given up: look into them, send them again, discard them.")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, such as job_1f_2c.", show_default=False)]
JobsArgument = Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="Ids of jobs, or none and options.")]
TenantOption = Annotated[str | None, typer.Option(help="Only this tenant's.")]
ConnectionOption = Annotated[str | None, typer.Option(metavar="NAMESPACE/NAME", help="Only this connection's.")]
CauseOption = Annotated[str | None, typer.Option(help="Only of this cause, such as Invalid or AttemptsExhausted.")]
NewIdsOption = Annotated[bool, typer.Option("--new-message-ids", help="Send under new message ids.")]


@app.command("list", epilog=EXIT_CODES_HELP)
def list_command(
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    cause: CauseOption = None,
    event_type: TypeOption = None,
    by_cause: Annotated[bool, typer.Option("--by-cause", help="Count them by connection and cause.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines at most.")] = 100,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """List dead letters, the oldest first, or with --by-cause what they died of, the most frequent first."""
    namespace, name = split_name(connection) if connection else (None, None)
    which = LetterFilter(tenant, namespace, name, cause, tuple(event_type or ("*",)))
    dsn = database_url(Group.READER, database, local)
    if by_cause:
        causes = ask(dsn, lambda opened: count_letters(opened, which, limit=limit))
        _print("causes", [_cause_document(each) for each in causes], _CAUSES, map(_cause_row, causes), as_json=as_json)
    else:
        letters = ask(dsn, lambda opened: list_letters(opened, which, limit=limit))
        documents = [_letter_document(each) for each in letters]
        _print("dead_letters", documents, _LETTERS, map(_letter_row, letters), as_json=as_json)


@app.command(epilog=EXIT_CODES_HELP)
def show(
    job: JobArgument, as_json: JsonOption = False, database: DatabaseOption = None, local: LocalOption = None
) -> None:
    """Show a dead letter, or what became of it: who resent or discarded it, when and why."""
    event_id, job_id = parse_job_id(job)

    async def question(opened: Database) -> tuple[list[Letter], list[EndedLetter]]:
        ended = [each for each in await ended_letters(opened, event_id) if each.job == job_id]
        return await list_letters(opened, LetterFilter(jobs=[job_id]), limit=1), ended

    letters, ended = ask(database_url(Group.READER, database, local), question)
    if not (letters or ended):
        raise NotFoundError(f"there is no dead letter {job}, or it is no longer kept")
    if as_json:
        documents = [*map(_letter_document, letters), *({"job": job, **_ended_document(each)} for each in ended)]
        output.print_json(documents[0])
    elif letters:
        output.print_table(_LETTERS, map(_letter_row, letters))
    else:
        output.print_table(("Job", "Connection", "Cause", "What became of it"), [_ended_row(job, ended[0])])


@app.command(epilog=EXIT_CODES_HELP)
def resend(
    jobs: JobsArgument = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    cause: CauseOption = None,
    event_type: TypeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    include_superseded: SupersededOption = False,
    new_message_ids: NewIdsOption = False,
    dry_run: DryRunOption = False,
    requested_by: RequestedByOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Send dead letters again: by id, or all that meet the conditions. Times are those of being given up.

    A replay for each connection does it; each dead letter goes when its job is made.
    """
    asked = Asked(
        Source.DEAD_LETTERS,
        tenant,
        connection,
        (),
        jobs or (),
        event_type or (),
        since,
        until,
        cause,
        include_superseded,
    )
    if dry_run:
        tell(
            ask(database_url(Group.READER, database, local), lambda opened: plan(opened, asked)), None, as_json=as_json
        )
        return
    who, why = required(requested_by, reason)

    async def question(opened: Database) -> tuple[list[Plan], list[ReplayId]]:
        plans = await plan(opened, asked)
        return plans, await begin(opened, plans, who, why, new_message_ids=new_message_ids)

    tell(*ask(database_url(Group.SUPPORT, database, local), question), as_json=as_json)


@app.command(epilog=EXIT_CODES_HELP)
def edit_and_resend(
    job: JobArgument,
    data: Annotated[
        str, typer.Option(help="The whole data to send: a JSON object, or @FILE, or - for standard input.")
    ],
    include_superseded: SupersededOption = False,
    requested_by: RequestedByOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Send one dead letter again with other data, under a new message id. The event itself stays as it was.

    What was changed is kept with who did it and why; `integrations replays show` tells it.
    """
    who, why = required(requested_by, reason)
    new = read_new_data(data)
    event_id, job_id = parse_job_id(job)
    asked = Asked(Source.DEAD_LETTERS, jobs=(job,), include_superseded=include_superseded)

    async def question(opened: Database) -> ReplayId:
        if not await list_letters(opened, LetterFilter(jobs=[job_id]), limit=1):
            raise NotFoundError(f"there is no dead letter {job}, or it is no longer kept")
        life = await event_life(opened, event_id)
        (planned,) = await plan(opened, asked)
        if life is None or not planned.found.queued:
            raise CommandError(f"{job} cannot be sent: {_obstacle(planned)}")
        changes = changes_between(life.data, new)
        if not changes:
            raise UsageError("the data is the same as the event's; use `integrations dead-letters resend`")
        return await start_edited(opened, Request(planned.selection, who, why, True, 1), new, changes)

    replay = ask(database_url(Group.SUPPORT, database, local), question)
    if as_json:
        output.print_json({"id": replay, "job": job})
    else:
        output.print_line(f"replay {replay} is started; see `integrations replays show {replay}`")


@app.command("discard", epilog=EXIT_CODES_HELP)
def discard_command(
    jobs: JobsArgument = None,
    requested_by: RequestedByOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Remove dead letters for good. Their events stay, and so does the record of who did it and why.

    Exit code 1 says that one of them was no dead letter; the others are discarded.
    """
    if not jobs:
        raise UsageError("name the jobs; `integrations dead-letters list --json` gives their ids")
    who, why = required(requested_by, reason)
    named = dict.fromkeys(map(parse_job_id, jobs))
    ids = [job for _, job in named]
    gone = ask(database_url(Group.SUPPORT, database, local), lambda opened: discard(opened, ids, by=who, why=why))
    missing = [public_job_id(event, job) for event, job in named if job not in gone]
    if as_json:
        output.print_json({"discarded": [public_job_id(event, job) for event, job in named if job in gone]})
    else:
        output.print_line(f"{len(gone)} discarded")
    if missing:
        raise CommandError(f"there is no dead letter {', '.join(missing)}")


_LETTERS = ("Job", "Connection", "Route", "Type", "Subject", "Attempts", "Given up", "Cause")
_CAUSES = ("Number", "Connection", "Cause", "First", "Last", "Detail")


def _print(
    key: str,
    documents: list[dict[str, object]],
    columns: tuple[str, ...],
    rows: "map[list[str | Text]]",
    *,
    as_json: bool,
) -> None:
    if as_json:
        output.print_json({key: documents})
    elif documents:
        output.print_table(columns, rows)
    else:
        output.print_line("no dead letters")


def _letter_row(letter: Letter) -> list[str | Text]:
    replay = f", replay {letter.replay}" if letter.replay is not None else ""
    return [
        public_job_id(letter.event, letter.job),
        f"{letter.namespace}/{letter.connection}",
        letter.route or "?",
        letter.type or "?",
        letter.subject or "?",
        str(letter.attempts),
        output.moment(letter.dead_at),
        ": ".join(filter(None, (letter.cause, letter.detail))) + replay,
    ]


def _letter_document(letter: Letter) -> dict[str, object]:
    return {
        "job": public_job_id(letter.event, letter.job),
        "event": None if letter.nonce is None else public_event_id(letter.event, letter.nonce),
        "tenant": letter.tenant,
        "connection": f"{letter.namespace}/{letter.connection}",
        "route": letter.route,
        "type": letter.type,
        "subject": letter.subject,
        "attempts": letter.attempts,
        "cause": letter.cause,
        "detail": letter.detail,
        "dead_at": letter.dead_at,
        "replay": letter.replay,
    }


def _cause_row(cause: Cause) -> list[str | Text]:
    name = f"{cause.namespace}/{cause.connection}"
    return [
        str(cause.number),
        name,
        cause.cause,
        output.moment(cause.first_at),
        output.moment(cause.last_at),
        cause.detail,
    ]


def _cause_document(cause: Cause) -> dict[str, object]:
    return {
        "connection": f"{cause.namespace}/{cause.connection}",
        "cause": cause.cause,
        "detail": cause.detail,
        "number": cause.number,
        "first_at": cause.first_at,
        "last_at": cause.last_at,
    }


def _ended_row(job: str, ended: EndedLetter) -> list[str | Text]:
    by_replay = f" by replay {ended.resent_by}" if ended.resent_by is not None else ""
    what = f"{ended.action}{by_replay} at {output.moment(ended.ended_at)}, {ended.ended_by}: {ended.reason}"
    return [job, f"{ended.namespace}/{ended.connection}", f"{ended.cause}: {ended.detail}", what]


def _ended_document(ended: EndedLetter) -> dict[str, object]:
    return {
        "connection": f"{ended.namespace}/{ended.connection}",
        "route": ended.route,
        "cause": ended.cause,
        "detail": ended.detail,
        "dead_at": ended.dead_at,
        "action": ended.action,
        "ended_at": ended.ended_at,
        "ended_by": ended.ended_by,
        "reason": ended.reason,
        "resent_by_replay": ended.resent_by,
    }


def _obstacle(planned: Plan) -> str:
    found = next((verdict for verdict, number in planned.found.counts.items() if number), None)
    if found == "Superseded":
        return "a newer event of its subject has gone out; add --include-superseded to send it all the same"
    return "its event or its route is gone"
