"""The command line: which commands there are, and how each of them ends."""

import sys

import typer

from delivery.settings import DispatcherSettings, WorkerSettings
from integration_operator.settings import OperatorSettings
from integrations import connections, dead_letters, events, jobs, replays
from integrations.errors import EXIT_CODES_HELP, explain
from integrations.machine import LOCAL_HELP, local
from integrations.programs import dispatcher, migrate, operator, settings_help, worker

app = typer.Typer(
    name="integrations",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Carry a product's events to its customers' CRMs and webhooks.",
    epilog=EXIT_CODES_HELP,
)
app.command(epilog=LOCAL_HELP, rich_help_panel="On one machine")(local)
app.command(epilog=EXIT_CODES_HELP, rich_help_panel="Look and act")(events.emit)
app.add_typer(events.app, name="events", rich_help_panel="Look and act")
app.add_typer(jobs.app, name="jobs", rich_help_panel="Look and act")
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel="Look and act")
app.add_typer(replays.app, name="replays", rich_help_panel="Look and act")
app.add_typer(connections.app, name="connections", rich_help_panel="Look and act")
app.command(epilog=EXIT_CODES_HELP, rich_help_panel="Programs")(migrate)
app.command(epilog=settings_help(DispatcherSettings), rich_help_panel="Programs")(dispatcher)
app.command(epilog=settings_help(WorkerSettings), rich_help_panel="Programs")(worker)
app.command(epilog=settings_help(OperatorSettings), rich_help_panel="Programs")(operator)


def main() -> None:
    """Run the command line; errors that were to be expected end in one message and an exit code."""
    try:
        app()
    except Exception as error:
        explanation = explain(error)
        if explanation is None:
            raise
        typer.secho(explanation.message, err=True, fg=typer.colors.RED)
        sys.exit(explanation.exit_code)


if __name__ == "__main__":
    main()
