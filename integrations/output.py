"""What commands print: tables for people, JSON for programs.

JSON is one document on standard output, with the names of the fields as they are documented here and nothing else.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table for people.")]

_WIDTH_WITHOUT_TERMINAL = 200

STATE_STYLES = {
    "Cancelled": "dim",
    "Completed": "green",
    "Dead": "bold red",
    "Deferred": "yellow",
    "Failed": "bold red",
    "Delivered": "green",
    "Held": "yellow",
    "Open": "green",
    "Quarantined": "bold red",
    "Running": "yellow",
    "Suspended": "dim",
}
"""How the states of jobs, replays and connections are coloured."""


def print_json(document: object) -> None:
    """Print a document as JSON."""
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print rows under their headings; only the last column is ever wrapped."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console().print(table)


def print_line(text: str | Text) -> None:
    """Print one line as it is."""
    console().print(Text(text) if isinstance(text, str) else text, soft_wrap=True)


def console() -> Console:
    """Return standard output; where it is no terminal, wide enough that nothing is cut."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)


def state(word: str) -> Text:
    """Colour a state."""
    return Text(word, style=STATE_STYLES.get(word, ""))


def moment(at: datetime) -> str:
    """Write a time for people: local, to the millisecond."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def age(seconds: float) -> str:
    """Write a duration for people in its largest fitting unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.1f}s"
