"""Which database a command asks, and asking it one question.

In order: `--local DIR`; `--database URL`, or INTEGRATIONS_DATABASE_URL; a layer that `integrations local` runs in the
current folder.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict

from integrations.errors import UsageError
from local.access import DATA_FOLDER, find_access
from store.database import Database, connect
from store.roles import Group

T = TypeVar("T")

DATABASE_VARIABLE = "INTEGRATIONS_DATABASE_URL"

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", envvar=DATABASE_VARIABLE, metavar="URL", help="PostgreSQL connection string."),
]
LocalOption = Annotated[
    Path | None,
    typer.Option(
        "--local",
        metavar="DIR",
        help="Folder that `integrations local` serves, or its data folder; found by itself in the current folder.",
    ),
]

# Stricter than libpq, which would take what follows an unquoted @ or / in a password for the host or the port, and
# then repeat it in its error message.
_URI = re.compile(
    r"postgres(ql)?://"
    r"([^@/?#\s]*@)?"
    r"([^@:/?#\s,]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?(,([^@:/?#\s,]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?)*"
    r"(/[^@?#\s]*)?(\?[^@#\s]*)?"
)
_KEYWORDS = re.compile(r"\s*\w+\s*=.*", re.DOTALL)


def database_url(group: Group, database: str | None, local: Path | None) -> str:
    """Return the connection string that a command uses; raise UsageError. `group` is the local role that suits it."""
    if local is not None:
        access = find_access(local)
        if access is None:
            raise UsageError(f"no layer has run in {local}; start one with: integrations local {local}")
        return access.dsn(group)
    if database is not None:
        return checked_url(database)
    access = find_access(Path.cwd())
    if access is None:
        message = (
            f"no database is named: give --database or set {DATABASE_VARIABLE}, name a local layer with --local, or"
            f" go to the folder of one (it has a folder {DATA_FOLDER})"
        )
        raise UsageError(message)
    return access.dsn(group)


def checked_url(text: str) -> str:
    """Return a connection string that can be read; raise UsageError without repeating any of it."""
    if _URI.fullmatch(text) or (_KEYWORDS.fullmatch(text) and "://" not in text.split("=")[0]):
        try:
            conninfo_to_dict(text)
        except psycopg.ProgrammingError:
            pass
        else:
            return text
    message = (
        f"the database connection string (--database or {DATABASE_VARIABLE}) cannot be read; it is written"
        " postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters in the password percent-encoded"
    )
    raise UsageError(message)


def ask(dsn: str, question: Callable[[Database], Awaitable[T]]) -> T:
    """Connect, ask one question and disconnect."""

    async def main() -> T:
        database = await connect(dsn, "cli")
        async with database:
            return await question(database)

    return asyncio.run(main())
