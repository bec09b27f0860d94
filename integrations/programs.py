"""Commands that are programs: `dispatcher`, `worker`, `ingress`, `operator`, `migrate`.

All but the last take their settings from the environment alone, as a Deployment gives them, and log JSON lines to
standard error. SIGTERM or SIGINT lets them finish what is under way; a second one ends them at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
import uvloop

from delivery.dispatcher import Dispatcher
from delivery.settings import DispatcherSettings, WorkerSettings
from delivery.worker import Worker
from ingress.program import Ingress
from ingress.settings import IngressSettings
from integration_operator.program import Operator
from integration_operator.settings import OperatorSettings
from integrations import output
from integrations.database import DATABASE_VARIABLE, checked_url
from integrations.errors import EXIT_CODES_HELP, UsageError, explain, variable
from integrations.output import JsonOption
from integrations.signals import stop_on_signals
from local.parent import exit_with_parent
from programs.logs import set_up_logging
from programs.settings import ProgramSettings
from store.migrate import migrate as migrate_database

log = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound=ProgramSettings)


def settings_help(settings: type[ProgramSettings]) -> str:
    """List the environment variables that set a program up."""
    lines = [f"{variable(name)}: {field.description}" for name, field in settings.model_fields.items()]
    return "\n\n".join(["Settings, from the environment:", *lines, EXIT_CODES_HELP]).replace("[", r"\[")


def dispatcher() -> None:
    """Run a dispatcher: it turns events into delivery jobs. Any number may run; one works, the others stand by."""
    _run("dispatcher", DispatcherSettings, lambda settings: Dispatcher(settings).run)


def worker() -> None:
    """Run a delivery worker of the pool that its database role belongs to."""
    _run("worker", WorkerSettings, lambda settings: Worker(settings).run)


def ingress() -> None:
    """Run an ingress: it serves the page that partners redirect to after OAuth. Any number may run."""
    _run("ingress", IngressSettings, lambda settings: Ingress(settings).run)


def operator() -> None:
    """Run the operator: it turns IntegrationConnections into routing and workers. Any number may run; one leads."""
    _run("operator", OperatorSettings, lambda settings: Operator(settings).run)


def migrate(
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            envvar=DATABASE_VARIABLE,
            metavar="URL",
            help="PostgreSQL connection string of the schema's owner.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a database to this release's schema. Safe at any time, by several at once, and again after a crash.

    `integrations local` does it by itself.
    """
    if database is None:
        raise UsageError(f"no database is named: give --database or set {DATABASE_VARIABLE}")
    done = migrate_database(checked_url(database))
    if as_json:
        output.print_json({"before": done.before, "after": done.after, "rebased": done.rebased})
        return
    if done.before == done.after:
        output.print_line(f"the schema is at revision {done.after} already")
    else:
        output.print_line(f"the schema is at revision {done.after} now; before: {done.before or 'none'}")
    if done.rebased:
        output.print_line("the database was restored into another cluster; undispatched events were found anew")


def _run(
    name: str,
    settings_class: type[SettingsT],
    program: Callable[[SettingsT], Callable[[asyncio.Event], Awaitable[None]]],
) -> None:
    exit_with_parent()
    settings = settings_class()
    checked_url(settings.database_url.get_secret_value())
    set_up_logging(name, settings.log_level)

    async def main() -> None:
        await program(settings)(stop_on_signals())

    try:
        uvloop.run(main())
    except Exception as error:  # the outermost loop of a program: its log says why it ended
        explanation = explain(error)
        if explanation is None:
            log.exception("ended by a defect")
            raise typer.Exit(1) from error
        log.error(explanation.message)
        raise typer.Exit(explanation.exit_code) from error
    log.info("ended")
