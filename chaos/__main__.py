"""`make chaos`: break the layer at random for a while, then account for every event.

Progress goes to standard error, the account to standard output; with --json it is one line. Exit code 0: every promise
was kept; 1: some were not, and the account names them; 2: the command line is wrong.
"""

import signal
import sys
from typing import Annotated

import orjson
import typer

from chaos.breaks import BREAKS
from chaos.faults import FAULTS
from chaos.misfortunes import KINDS
from chaos.run import Plan, run

ALL_KINDS = (*KINDS, *FAULTS)


def _known(names: list[str] | None) -> list[str]:
    for name in names or ():
        if name not in ALL_KINDS:
            raise typer.BadParameter(f"{name} is no kind of misfortune; there are {', '.join(ALL_KINDS)}")
    return names or []


def _broken(name: str | None) -> str | None:
    if name is not None and name not in BREAKS:
        raise typer.BadParameter(f"{name} is no broken build; there are {', '.join(BREAKS)}")
    return name


def main(
    seconds: Annotated[float, typer.Option(min=5, help="How long misfortunes come about.")] = 60,
    seed: Annotated[int, typer.Option(help="Decides which misfortunes come about, in which order, to whom.")] = 1,
    events_per_second: Annotated[float, typer.Option(min=1, max=5_000, help="Events that are emitted.")] = 150,
    only: Annotated[
        list[str] | None, typer.Option(callback=_known, help="Only this kind of misfortune; repeatable.")
    ] = None,
    broken: Annotated[
        str | None, typer.Option(callback=_broken, help="Run a build that is broken on purpose: the run must fail.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write the account as one line of JSON.")] = False,
) -> None:
    """Break the layer at random for a while, then account for every event."""
    # Told to stop, it takes down what it has put up, the mounted disk above all.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plan = Plan(seconds, seed, events_per_second, only or (), broken)
    account = run(plan, lambda line: print(line, file=sys.stderr, flush=True))
    lines = [orjson.dumps(account.as_json()).decode()] if json else account.as_lines()
    print("\n".join(lines))
    raise typer.Exit(0 if account.is_clean else 1)


if __name__ == "__main__":
    typer.run(main)
