"""Commands about jobs: `jobs list`, `jobs show`."""

from typing import Annotated

import typer
from rich.text import Text

from contracts.ids import parse_job_id, public_event_id, public_job_id
from integrations import output
from integrations.database import DatabaseOption, LocalOption, ask, database_url
from integrations.errors import EXIT_CODES_HELP, ExitCode, NotFoundError
from integrations.lives import SUPERSEDED, attempt_document, attempt_step, job_document, print_steps, unfinished_step
from integrations.output import JsonOption
from store.history import JobRow, event_life, list_jobs
from store.roles import Group

app = typer.Typer(no_args_is_help=True, help="What is to be delivered: one job is one event for one connection.")

_COLUMNS = ("Job", "Tenant", "Connection", "Route", "State", "Attempts", "Next attempt", "Why")


@app.command("list", epilog=EXIT_CODES_HELP)
def list_command(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's jobs.")] = None,
    connection: Annotated[str | None, typer.Option(help="Only jobs of connections of this name.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Dead letters instead: jobs that were given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs at most, the oldest first.")] = 100,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """List unfinished jobs, or with --dead the dead letters, and say why they are unfinished.

    A delivered job is in no list; `integrations events show` tells of it.
    """
    dsn = database_url(Group.READER, database, local)
    jobs = ask(dsn, lambda opened: list_jobs(opened, tenant=tenant, connection=connection, dead=dead, limit=limit + 1))
    shown = jobs[:limit]
    if as_json:
        output.print_json({"jobs": [job_document(job) for job in shown], "more": len(jobs) > limit})
        return
    if not shown:
        output.print_line("no dead letters" if dead else "no unfinished jobs: everything is delivered")
        return
    output.print_table(_COLUMNS, [_row(job) for job in shown])
    if len(jobs) > limit:
        output.print_line(f"… and more; the first {limit} are shown, see --limit")


@app.command(epilog=EXIT_CODES_HELP)
def show(
    job: Annotated[str, typer.Argument(help="The job's id, such as job_1f_2c.", show_default=False)],
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    local: LocalOption = None,
) -> None:
    """Show one job: every attempt in order, and what is unfinished and why.

    Exit code 1 says that there is no such job, or that it is not delivered.
    """
    event_id, job_id = parse_job_id(job)
    dsn = database_url(Group.READER, database, local)
    life = ask(dsn, lambda opened: event_life(opened, event_id))
    attempts = [attempt for attempt in life.attempts if attempt.job == job_id] if life else []
    unfinished = [row for row in life.unfinished if row.id == job_id] if life else []
    if life is None or not (attempts or unfinished):
        raise NotFoundError(f"there is no job {job}, or its history is no longer kept")
    if as_json:
        document = {
            "id": job,
            "event": public_event_id(life.id, life.nonce),
            "delivered": not unfinished and attempts[-1].outcome != SUPERSEDED,
            "attempts": [attempt_document(life.id, attempt) for attempt in attempts],
            "unfinished": [job_document(row) for row in unfinished],
        }
        output.print_json(document)
    else:
        of_event = f"of {public_event_id(life.id, life.nonce)} ({life.type} of {life.subject}, tenant {life.tenant})"
        output.print_line(Text.assemble((job, "bold"), " ", of_event))
        print_steps(life.at, [*map(attempt_step, attempts), *map(unfinished_step, unfinished)])
    if unfinished:
        raise typer.Exit(ExitCode.NOT_FINE)


def _row(job: JobRow) -> list[str | Text]:
    document = job_document(job)
    return [
        public_job_id(job.event, job.id),
        job.tenant,
        f"{job.namespace}/{job.connection}",
        job.route,
        output.state(job.state),
        str(job.attempts),
        output.moment(job.next_attempt_at) if job.next_attempt_at else "",
        str(document["why"]),
    ]
