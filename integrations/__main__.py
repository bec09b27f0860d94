"""The command line: which commands there are, and how each of them ends."""

import logging
import os
import sys
from contextlib import suppress

import typer

from delivery.settings import DispatcherSettings, WorkerSettings
from ingress.settings import IngressSettings
from integration_operator.settings import OperatorSettings
from integrations import attempts, connections, dead_letters, events, jobs, plug_ins, replays
from integrations.connecting import CONNECT_HELP, connect_command
from integrations.errors import EXIT_CODES_HELP, explain
from integrations.machine import LOCAL_HELP, local
from integrations.programs import dispatcher, ingress, migrate, operator, settings_help, worker
from integrations.testing import TEST_HELP, check

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
app.add_typer(attempts.app, name="attempts", rich_help_panel="Look and act")
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel="Look and act")
app.add_typer(replays.app, name="replays", rich_help_panel="Look and act")
app.add_typer(connections.app, name="connections", rich_help_panel="Look and act")
app.add_typer(plug_ins.app, name="connectors", rich_help_panel="Look and act")
app.command("connect", epilog=CONNECT_HELP, rich_help_panel="Look and act")(connect_command)
app.command("test", epilog=TEST_HELP, rich_help_panel="Look and act")(check)
app.command(epilog=EXIT_CODES_HELP, rich_help_panel="Programs")(migrate)
app.command(epilog=settings_help(DispatcherSettings), rich_help_panel="Programs")(dispatcher)
app.command(epilog=settings_help(WorkerSettings), rich_help_panel="Programs")(worker)
app.command(epilog=settings_help(IngressSettings), rich_help_panel="Programs")(ingress)
app.command(epilog=settings_help(OperatorSettings), rich_help_panel="Programs")(operator)


def main() -> None:
    """Run the command line and end the process.

    It ends without finalising the interpreter. By now everything that must be closed is closed; but threads of the HTTP
    library may still be letting go of Python objects, and one that does so during the finalisation aborts the process
    (seen in three of 120 runs of `integrations test` on a busy machine).
    """
    code = _run()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


def _run() -> int:
    """Run a command; errors that were to be expected end in one message and an exit code."""
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:  # noqa: BLE001 -- the outermost of all: a defect is shown with its traceback
        explanation = explain(error)
        if explanation is None:
            sys.excepthook(type(error), error, error.__traceback__)
            return 1
        typer.secho(explanation.message, err=True, fg=typer.colors.RED)
        return explanation.exit_code
    return 0


if __name__ == "__main__":
    main()
