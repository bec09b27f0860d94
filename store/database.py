"""Connections to PostgreSQL as all programs make them.

Every connection is in autocommit mode: each statement is its own transaction, so no transaction can stay open while
a program waits for a partner. Where several statements belong together, the caller opens a `transaction`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, AsyncRawCursor, OperationalError, ProgrammingError, errors, sql
from psycopg.conninfo import conninfo_to_dict

from store.errors import DatabaseUnreachableError, NotMigratedError
from store.statement import Statement

Database = AsyncConnection[tuple[Any, ...]]

ConnectionString = Callable[[], str]
"""Says how to connect, anew for every connection; raises DatabaseUnreachableError while it cannot be said."""

_OPTIONS = (
    # A frozen program must not hold locks for ever, and a lost network must be noticed.
    "-c idle_in_transaction_session_timeout=10s -c statement_timeout=60s -c jit=off "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)

_QUEUE_OPTIONS = (
    # The job table is empty one minute and holds millions the next, and prepared plans outlive the statistics they
    # were made from. Every hot statement has its index, and reading through it is right at every size: a hash join
    # planned on the empty table took 88 ms a batch at 11,000 jobs, the nested loop 1 ms.
    " -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
)


async def connect(dsn: str, program: str, *, queue: bool = False) -> Database:
    """Open a connection for `program`; raise DatabaseUnreachableError if the server does not answer.

    With `queue` the planner is held to the indexes, as the statements on jobs and events need it.
    """
    try:
        connection: Database = await AsyncConnection.connect(
            dsn,
            autocommit=True,
            prepare_threshold=0,
            cursor_factory=AsyncRawCursor,
            application_name=f"integrations-{program}",
            options=_OPTIONS + _QUEUE_OPTIONS if queue else _OPTIONS,
            connect_timeout=10,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
    except OperationalError as error:
        raise DatabaseUnreachableError(f"cannot reach the database: {_first_line(error)}") from error
    return connection


async def run(database: Database, what: Statement, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Execute a statement and return its rows; connection failures become DatabaseUnreachableError."""
    try:
        cursor = await database.execute(what.sql, parameters, binary=True)
        return await cursor.fetchall() if cursor.description else []
    except (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn, errors.UndefinedFunction) as error:
        raise NotMigratedError(f"{what.name}: {_first_line(error)}; run `integrations migrate`") from error
    except (OperationalError, errors.InterfaceError) as error:
        raise DatabaseUnreachableError(f"{what.name}: {_first_line(error)}") from error


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[None]:
    """Run statements in one transaction; failures of `begin` and `commit` become DatabaseUnreachableError."""
    try:
        async with database.transaction():
            yield
    except (OperationalError, errors.InterfaceError) as error:
        raise DatabaseUnreachableError(f"transaction: {_first_line(error)}") from error


def read_connection_string(file: Path) -> str:
    """Read a connection string from a file; raise DatabaseUnreachableError, saying nothing of what is in it."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DatabaseUnreachableError(f"cannot read the connection string in {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    try:
        known = conninfo_to_dict(text)
    except ProgrammingError:
        known = {}
    if not known:
        raise DatabaseUnreachableError(f"{file} holds no connection string; write postgresql://USER:PASSWORD@HOST/DB")
    return text


class Listener:
    """Wakes somebody when one of several channels is notified, over a connection of its own.

    Only a hint: whoever relies on it also polls, since a notification can be lost with the connection.
    """

    def __init__(self, dsn: ConnectionString, program: str, wake: Callable[[str], None]) -> None:
        self._dsn = dsn
        self._program = program
        self._wake = wake

    async def run(self, channels: Sequence[str]) -> None:
        """Listen until cancelled, reconnecting after failures; wakes once after every (re)connection."""
        while True:
            try:
                await self._listen(channels)
            except (DatabaseUnreachableError, OperationalError):
                await asyncio.sleep(0.5)

    async def _listen(self, channels: Sequence[str]) -> None:
        database = await connect(self._dsn(), f"{self._program}-listener")
        async with database:
            for channel in channels:
                await database.execute(sql.SQL("listen {}").format(sql.Identifier(channel)).as_bytes(None))
                self._wake(channel)
            async for notification in database.notifies():
                self._wake(notification.channel)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
