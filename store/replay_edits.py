"""What a replay sends instead of its event's data: edited by a person, beside the event, which never changes."""

from typing import NamedTuple

from psycopg.types.json import Jsonb

from contracts.ids import ReplayId
from store.database import Database, run, transaction
from store.replays import Request, start_one
from store.statement import statement

LOAD_REPLAYED = statement(
    "load_replayed",
    "How the messages of a replay differ from those of its events. $1 replay.",
    """
    select p.new_message_ids, convert_to(e.data::text, 'UTF8')
    from integration.replay p left join integration.replay_edit e on e.replay_id = p.id
    where p.id = $1::bigint
    """,
)

WRITE_EDIT = statement(
    "write_edit",
    "Record what a replay sends instead. $1 replay, $2 tenant, $3 connection, $4 data, $5 changes.",
    """
    insert into integration.replay_edit (replay_id, tenant_id, connection_id, data, changes)
    values ($1::bigint, $2::text, $3::int, $4::jsonb, $5::jsonb)
    """,
)

READ_CHANGES = statement(
    "read_changes",
    "How the data that a replay sends differ from its event's. $1 replay.",
    "select changes from integration.replay_edit where replay_id = $1::bigint",
)


class Replayed(NamedTuple):
    """How the messages of a replay differ: under ids of their own, and with other data (JSON in UTF-8) if any."""

    new_message_ids: bool
    data: bytes | None


async def load_replayed(database: Database, replay: ReplayId) -> Replayed | None:
    """Return how the messages of a replay differ; None if the replay is gone."""
    rows = await run(database, LOAD_REPLAYED, (replay,))
    return Replayed._make(rows[0]) if rows else None


async def start_edited(
    database: Database, request: Request, data: dict[str, object], changes: list[dict[str, object]]
) -> ReplayId:
    """Record a request to send one event with other data; return the id of its replay."""
    selection = request.selection
    async with transaction(database):
        replay = await start_one(database, request)
        await run(database, WRITE_EDIT, (replay, selection.tenant, selection.connection, Jsonb(data), Jsonb(changes)))
    return replay


async def read_changes(database: Database, replay: ReplayId) -> list[dict[str, object]]:
    """Return how the data that a replay sends differ from its event's; empty if they do not."""
    rows = await run(database, READ_CHANGES, (replay,))
    changes: list[dict[str, object]] = rows[0][0] if rows else []
    return changes
