"""Attempts of a time range as a stream, for archives and audits: in constant memory, however many there are.

The range is read day by day, each through a cursor in a transaction of its own. So no snapshot is held longer than the
export of one day takes, and rows come in the order in which they were written, which is nearly that of time.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg import AsyncRawServerCursor

from contracts.ids import EventId
from store.database import Database, run, transaction
from store.history import ATTEMPT_COLUMNS, Attempt
from store.statement import statement

FETCHED_ROWS = 2_000

EXPORT_ATTEMPTS = statement(
    "export_attempts",
    "Attempts that ended in a time range. $1 from, $2 before, $3 tenant or null, $4 connection name or null.",
    ATTEMPT_COLUMNS.replace("select", "select a.event_id,", 1)
    + """
    where a.at >= $1::timestamptz and a.at < $2::timestamptz
      and ($3::text is null or a.tenant_id = $3::text) and ($4::text is null or c.name = $4::text)
    """,
)

# A reader that takes its time, such as a slow disk behind a pipe, must not be cut off; one that is gone closes the
# connection, and with it the transaction.
ALLOW_SLOW_READING = statement(
    "allow_slow_reading",
    "Let this transaction wait for whoever reads its rows.",
    "select set_config('idle_in_transaction_session_timeout', '10min', true), "
    "set_config('statement_timeout', '10min', true)",
)


class Selection(NamedTuple):
    """Which attempts: those that ended from `begin` on and before `end`, both aware; None selects all."""

    begin: datetime
    end: datetime
    tenant: str | None = None
    connection: str | None = None


Take = Callable[[list[tuple[EventId, Attempt]]], Awaitable[None]]
"""Receives the next attempts, each with its event."""


async def export_attempts(database: Database, selection: Selection, take: Take) -> int:
    """Hand over all selected attempts, some at a time; return how many there were."""
    count = 0
    for begin, end in _days(selection.begin, selection.end):
        parameters = (begin, end, selection.tenant, selection.connection)
        async with transaction(database):
            await run(database, ALLOW_SLOW_READING)
            async with AsyncRawServerCursor[tuple[Any, ...]](database, "exported_attempts") as cursor:
                await cursor.execute(EXPORT_ATTEMPTS.sql, parameters, binary=True)
                while rows := await cursor.fetchmany(FETCHED_ROWS):
                    await take([(EventId(row[0]), Attempt(*row[1:])) for row in rows])
                    count += len(rows)
    return count


def _days(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a range at each midnight UTC that lies in it, as partitions are."""
    while begin < end:
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        yield begin, min(midnight, end)
        begin = midnight
