"""What became of lanes over time: every change between delivering, quarantined and recovering, with its reason.

A transition is written with the lane's new state, in one transaction: there is none without the other.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from contracts.ids import ConnectionId
from store.database import Database, run
from store.statement import statement

COUNTED_AT_MOST = 100_000

RECORD_TRANSITIONS = statement(
    "record_transitions",
    "Record changes of lanes' states, each with the undelivered jobs at that moment, counted up to a limit. "
    "$1 connections, $2 and $3 states before and after, $4 who, $5 why, $6 limit.",
    """
    insert into integration.lane_transition (connection_id, tenant_id, from_state, to_state, actor, reason, held)
    select t.connection_id, l.tenant_id, t.from_state, t.to_state, t.actor, t.reason, least($6::int, (
        select count(*) from (
            (select from integration.job where state = 0 and connection_id = t.connection_id
             order by connection_id, id limit $6::int)
            union all
            (select from integration.job where state = 1 and connection_id = t.connection_id
             order by connection_id, run_at, id limit $6::int)
            union all
            (select from integration.job where state = 2 and connection_id = t.connection_id
             order by connection_id, subject, id limit $6::int)
        ) j
    ))
    from unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[]) with ordinality
        as t (connection_id, from_state, to_state, actor, reason, place)
    join integration.lane l using (connection_id)
    order by t.place
    """,
)

READ_TRANSITIONS = statement(
    "read_transitions",
    "The latest changes of a connection's state, oldest first. $1 namespace, $2 name, $3 how many at most.",
    """
    select * from (
        select t.id, t.at, t.from_state, t.to_state, t.actor, t.reason, t.held
        from integration.lane_transition t join integration.connection c on c.id = t.connection_id
        where c.namespace = $1::text and c.name = $2::text
        order by t.id desc limit $3::int
    ) latest order by id
    """,
)

FORGET_TRANSITIONS = statement(
    "forget_transitions",
    "Delete what is older than dead letters are kept. $1 days by default, $2 by tenant.",
    """
    delete from integration.lane_transition
    where at < now() - make_interval(days => coalesce(($2::jsonb ->> tenant_id)::int, $1::int))
    """,
)


class Transition(NamedTuple):
    """A change of a lane's state, by whom and why."""

    before: str
    after: str
    actor: str
    reason: str


class RecordedTransition(NamedTuple):
    """A change of a lane's state as it was written down; `held` are the jobs that were undelivered then."""

    id: int
    at: datetime
    before: str
    after: str
    actor: str
    reason: str
    held: int


async def record_transitions(database: Database, changes: Sequence[tuple[ConnectionId, Transition]]) -> None:
    """Record changes of lanes' states, in order, within the transaction under way."""
    rows = [(connection, *transition) for connection, transition in changes]
    columns = [list(column) for column in zip(*rows, strict=True)]
    await run(database, RECORD_TRANSITIONS, (*columns, COUNTED_AT_MOST))


async def read_transitions(database: Database, namespace: str, name: str, *, limit: int) -> list[RecordedTransition]:
    """Return the latest changes of a connection's state, oldest first."""
    rows = await run(database, READ_TRANSITIONS, (namespace, name, limit))
    return list(map(RecordedTransition._make, rows))
