"""Commands about replays: `replays start|list|show|cancel`."""

from typing import Annotated

import typer

from contracts.ids import ReplayId
from integrations import output
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, CommandError, ExitCode, NotFoundError, UsageError
from integrations.output import JsonOption
from integrations.replay_requests import Asked, Plan, plan
from integrations.replay_words import (
    PLAN_COLUMNS,
    REPLAY_COLUMNS,
    plan_document,
    plan_row,
    replay_document,
    replay_lines,
    replay_row,
)
from store.database import Database
from store.replay_edits import read_changes
from store.replay_selection import Source, Verdict
from store.replays import Outcome, Replay, Request, cancel, list_replays, outcomes, read_replay, start
from store.roles import Group

app = typer.Typer(no_args_is_help=True, help="Deliver again what was delivered or given up.")

RequestedByOption = Annotated[
    str | None, typer.Option("--requested-by", metavar="WHO", help="Who wants it, such as an e-mail address.")
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; it is kept with what comes of it.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Count what would be sent, and send nothing.")]
SupersededOption = Annotated[
    bool,
    typer.Option(
        "--include-superseded",
        help="Send events too that a newer one of their subject has overtaken; they overwrite it at the partner.",
    ),
]
NewIdsOption = Annotated[
    bool, typer.Option("--new-message-ids", help="Send under new message ids, so that a partner does not discard them.")
]
TenantOption = Annotated[str | None, typer.Option(help="To all connections of this tenant.")]
ConnectionOption = Annotated[str | None, typer.Option(metavar="NAMESPACE/NAME", help="To this connection.")]
TypeOption = Annotated[list[str] | None, typer.Option("--type", help="Types such as company.updated or company.*.")]
SinceOption = Annotated[str | None, typer.Option(metavar="TIME", help="From this time, or as long ago: 2h, 30m.")]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time, or as long ago; else now.")]
ReplayArgument = Annotated[int, typer.Argument(min=1, metavar="REPLAY", help="The replay's number.")]


@app.command("start", epilog=EXIT_CODES_HELP)
def start_command(
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    event: Annotated[list[str] | None, typer.Option(help="This event, such as evt_1f_0a1b2c3d; repeatable.")] = None,
    job: Annotated[list[str] | None, typer.Option(help="This ended job, such as job_1f_2c; repeatable.")] = None,
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
    """Deliver events again, along the routes that connections have now: a replay for each connection.

    All conditions must hold. Try --dry-run first. Exit code 1 says that nothing is there to be sent.
    """
    asked = Asked(
        Source.JOBS if job else Source.EVENTS,
        tenant,
        connection,
        event or (),
        job or (),
        event_type or (),
        since,
        until,
        include_superseded=include_superseded,
    )
    if dry_run:
        plans = ask(database_url(Group.READER, database, local), lambda opened: plan(opened, asked))
        tell(plans, None, as_json=as_json)
        return
    who, why = required(requested_by, reason)

    async def question(opened: Database) -> tuple[list[Plan], list[ReplayId]]:
        plans = await plan(opened, asked)
        return plans, await begin(opened, plans, who, why, new_message_ids=new_message_ids)

    tell(*ask(database_url(Group.SUPPORT, database, local), question), as_json=as_json)


@app.command("list", epilog=EXIT_CODES_HELP)
def list_command(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's replays.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only replays to connections of this name.")] = None,
    running: Annotated[bool, typer.Option("--running", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Replays at most, the newest first.")] = 50,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """List replays: how far they have come, who asked for them and why."""

    async def question(opened: Database) -> list[tuple[Replay, Outcome]]:
        found = await list_replays(opened, tenant=tenant, connection=connection, running=running, limit=limit)
        counted = await outcomes(opened, [replay.id for replay in found])
        return [(replay, counted[replay.id]) for replay in found]

    rows = ask(database_url(Group.READER, database, local), question)
    if as_json:
        output.print_json({"replays": [replay_document(*row) for row in rows]})
    elif rows:
        output.print_table(REPLAY_COLUMNS, [replay_row(*row) for row in rows])
    else:
        output.print_line("no replays")


@app.command(epilog=EXIT_CODES_HELP)
def show(
    replay: ReplayArgument, as_json: JsonOption = False, database: DatabaseOption = None, local: LocalOption = None
) -> None:
    """Show one replay: what it selects, how far it has come, and what came of its jobs.

    Exit code 0 says that it is completed and all its jobs are delivered, 1 anything else.
    """

    async def question(opened: Database) -> tuple[Replay, Outcome, list[dict[str, object]]]:
        found = await read_replay(opened, ReplayId(replay))
        if found is None:
            raise NotFoundError(f"there is no replay {replay}, or it is no longer kept")
        return found, (await outcomes(opened, [found.id]))[found.id], await read_changes(opened, found.id)

    found, outcome, changes = ask(database_url(Group.READER, database, local), question)
    if as_json:
        output.print_json({**replay_document(found, outcome), "changes": changes})
    else:
        lines = replay_lines(found, outcome)
        lines += [["Edited", f"{each['path']}: {each['from']!r} → {each['to']!r}"] for each in changes]
        output.print_table((f"Replay {found.id}", ""), lines)
    if found.state != "Completed" or outcome.dead:
        raise typer.Exit(ExitCode.NOT_FINE)


@app.command("cancel", epilog=EXIT_CODES_HELP)
def cancel_command(
    replay: ReplayArgument,
    requested_by: RequestedByOption = None,
    reason: ReasonOption = None,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Stop a replay. What it has queued, a few jobs at most, is still delivered."""
    who, why = required(requested_by, reason)
    dsn = database_url(Group.SUPPORT, database, local)
    if not ask(dsn, lambda opened: cancel(opened, ReplayId(replay), by=who, why=why)):
        raise CommandError(f"there is no running replay {replay}; see `integrations replays list`")
    output.print_line(f"replay {replay} makes no more jobs")


def required(requested_by: str | None, reason: str | None) -> tuple[str, str]:
    """Return who and why; raise UsageError if either is missing or too long."""
    who, why = (requested_by or "").strip(), (reason or "").strip()
    if not who or not why:
        raise UsageError("--requested-by and --reason are required: they are kept with what comes of it")
    if len(who) > 200 or len(why) > 1_000:
        raise UsageError("--requested-by has at most 200 characters, --reason at most 1000")
    return who, why


async def begin(
    database: Database, plans: list[Plan], who: str, why: str, *, new_message_ids: bool = False
) -> list[ReplayId]:
    """Start a replay for each plan that has something to send; the ids stand beside those."""
    requests = [Request(each.selection, who, why, new_message_ids, each.found.queued) for each in worthwhile(plans)]
    return await start(database, requests)


def worthwhile(plans: list[Plan]) -> list[Plan]:
    """Return the plans that have something to send."""
    return [each for each in plans if each.found.queued]


def tell(plans: list[Plan], started: list[ReplayId] | None, *, as_json: bool) -> None:
    """Print what was planned and, unless it was a dry run, what was started; exit with 1 if nothing is sent."""
    ids = {each.target: number for each, number in zip(worthwhile(plans), started or (), strict=started is not None)}
    if as_json:
        documents = [{"id": ids.get(each.target), **plan_document(each)} for each in plans]
        output.print_json({"dry_run": started is None, "replays": documents})
    else:
        output.print_table(PLAN_COLUMNS, map(plan_row, plans))
        for target, number in ids.items():
            output.print_line(f"replay {number} to {target.namespace}/{target.name} is started")
        if any(each.found.counts[Verdict.SUPERSEDED] for each in plans):
            output.print_line(
                "superseded: a newer event of the subject has gone out; --include-superseded sends them too"
            )
    if not worthwhile(plans):
        raise typer.Exit(ExitCode.NOT_FINE)
