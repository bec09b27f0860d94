"""Emitting events from Python, inside the caller's own transaction.

`emit` takes whatever the caller has open: a SQLAlchemy session or connection, or a psycopg connection. The event
exists if and only if the caller commits. A psycopg AsyncConnection gets an awaitable; a SQLAlchemy AsyncSession calls
`await session.run_sync(emit, event)`.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, overload

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from contracts.events import validate_event
from contracts.ids import PublicEventId
from store.errors import NotMigratedError

_PSYCOPG = b"select integration.emit_event(%s, %s, %s, cast(%s as jsonb), %s)"
_SQLALCHEMY = text("select integration.emit_event(:tenant, :type, :subject, cast(:data as jsonb), :dedupe_key)")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact to be emitted. `subject` is the id of what it is about: events of one subject keep their order.

    With a `dedupe_key`, a second emission under the same key returns the first event's id and emits nothing.
    """

    tenant: str
    type: str
    subject: str
    data: Mapping[str, object] = field(repr=False)
    dedupe_key: str | None = None


@overload
def emit(on: Session | Connection | psycopg.Connection[Any], event: NewEvent) -> PublicEventId: ...
@overload
def emit(on: AsyncConnection[Any], event: NewEvent) -> Awaitable[PublicEventId]: ...


def emit(
    on: Session | Connection | psycopg.Connection[Any] | AsyncConnection[Any], event: NewEvent
) -> PublicEventId | Awaitable[PublicEventId]:
    """Emit one event in the open transaction of `on` and return its public id; raise InvalidEventError."""
    data = validate_event(event.tenant, event.type, event.subject, event.data, dedupe_key=event.dedupe_key).decode()
    if isinstance(on, Session | Connection):
        named = {
            "tenant": event.tenant,
            "type": event.type,
            "subject": event.subject,
            "data": data,
            "dedupe_key": event.dedupe_key,
        }
        return PublicEventId(on.execute(_SQLALCHEMY, named).scalar_one())
    parameters = (event.tenant, event.type, event.subject, data, event.dedupe_key)
    if isinstance(on, psycopg.Connection):
        cursor = psycopg.Cursor(on, row_factory=tuple_row)
        return _only(cursor.execute(_PSYCOPG, parameters).fetchone())
    return _emit_async(on, parameters)


async def _emit_async(on: AsyncConnection[Any], parameters: tuple[str | None, ...]) -> PublicEventId:
    cursor = psycopg.AsyncCursor(on, row_factory=tuple_row)
    await cursor.execute(_PSYCOPG, parameters)
    return _only(await cursor.fetchone())


def _only(row: tuple[Any, ...] | None) -> PublicEventId:
    if row is None:
        raise NotMigratedError("emit_event returned nothing; run `integrations migrate`")
    return PublicEventId(row[0])
