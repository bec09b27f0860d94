"""The command `local`: the whole layer on this machine, and its demo."""

import logging
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from integrations.errors import EXIT_CODES_HELP, ExitCode, UsageError
from integrations.signals import stop_on_signals
from local.access import DATA_FOLDER
from local.demo import demonstrate
from local.demo_counts import Summary
from local.layer import LocalOptions
from local.reports import Reporter, ReporterHandler
from local.serving import serve

LOCAL_HELP = (
    "Workers may call addresses of this machine (127.0.0.0/8 and ::1) beside public ones, and no other private"
    " address. Press Ctrl-C once to finish what is under way and stop, twice to end at once. "
    + EXIT_CODES_HELP
    + " With --demo --once, 1 also says that something was lost, repeated, out of order or unverified."
)


def local(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of manifests, *.yaml and *.yml.")] = Path(),
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"Where data is kept between runs; by default {DATA_FOLDER} in the folder."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Worker processes.")] = 1,
    demo: Annotated[bool, typer.Option("--demo", help="Play the demo with a simulated partner, then stay up.")] = False,
    once: Annotated[bool, typer.Option("--once", help="With --demo: end after the summary.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --demo: print the summary as JSON, alone on standard output.")
    ] = False,
) -> None:
    """Run the whole layer on this machine, without Kubernetes: PostgreSQL, a dispatcher and workers.

    Connections and Secrets come from plain Kubernetes manifests, and files that change are applied at once.

    A manifest with a mistake changes nothing that runs; the mistake is told.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name one with manifests, such as examples/local")
    if (once or as_json) and not demo:
        raise UsageError("--once and --json are for the demo; add --demo")
    options = LocalOptions(folder.resolve(), (data or folder / DATA_FOLDER).resolve(), workers)
    reporter = Reporter(Console(stderr=True))
    logging.basicConfig(handlers=[ReporterHandler(reporter)], level=logging.WARNING, force=True)
    if not demo:
        uvloop.run(_serve(options, reporter))
    elif not uvloop.run(_play(options, reporter, once=once, as_json=as_json)):
        raise typer.Exit(ExitCode.NOT_FINE)


async def _serve(options: LocalOptions, reporter: Reporter) -> None:
    await serve(options, reporter, stop_on_signals())


async def _play(options: LocalOptions, reporter: Reporter, *, once: bool, as_json: bool) -> bool:
    """Play the demo; False if it was to be played once and did not go well."""

    def tell(summary: Summary) -> None:
        if as_json:
            typer.echo(summary.as_json())

    summary = await demonstrate(options, reporter, stop_on_signals(), once=once, tell=tell)
    return not once or (summary is not None and summary.is_good)
