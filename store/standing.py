"""How connections stand with their partners, where that is not as their specs say: read by the operator, each second.

Only what stands out is read, through partial indexes and one probe for each connection with dead letters, so thousands
of connections that are well cost nothing.
"""

from datetime import datetime
from typing import NamedTuple

from contracts.ids import ConnectionUid
from store.database import Database, run
from store.statement import statement

READ_STANDINGS = statement(
    "read_standings",
    "Connections that are quarantined, go slower than their specs, have made all calls of their day, or have dead "
    "letters.",
    """
    with recursive given_up (connection_id) as (
        (select connection_id from integration.dead_letter order by connection_id limit 1)
        union all
        select (select d.connection_id from integration.dead_letter d where d.connection_id > g.connection_id
                order by d.connection_id limit 1)
        from given_up g where g.connection_id is not null
    ),
    outstanding as (
        select connection_id from integration.lane where state = 'Quarantined'
        union
        select connection_id from integration.lane where effective_rps is not null
        union
        select connection_id from integration.lane where effective_concurrency is not null
        union
        select l.connection_id from integration.throttle_scope s join integration.lane l on l.scope_id = s.id
        where s.spent >= s.daily_limit and s.resets_at > now()
        union
        select connection_id from given_up where connection_id is not null
    )
    select c.uid, l.quarantined_at, l.quarantine_reason, l.effective_rps, l.effective_concurrency,
           exists (select from integration.dead_letter d where d.connection_id = c.id), s.daily_limit, s.resets_at,
           l.state <> 'Quarantined' or l.probe_at is not null
    from outstanding o
    join integration.connection c on c.id = o.connection_id
    join integration.lane l on l.connection_id = o.connection_id
    left join integration.throttle_scope s
        on s.id = l.scope_id and s.spent >= s.daily_limit and s.resets_at > now()
    """,
    hot=True,
)


class Standing(NamedTuple):
    """How a connection stands.

    `rate` and `concurrency` are None where the spec's are in force; `daily_limit` and `rests_until` are there while all
    calls of the day are made; `is_probed` says whether a quarantine ends by itself once the partner is back.
    """

    quarantined_at: datetime | None = None
    quarantine_reason: str | None = None
    rate: float | None = None
    concurrency: int | None = None
    dead_letters: bool = False
    daily_limit: int | None = None
    rests_until: datetime | None = None
    is_probed: bool = True


AS_THE_SPEC_SAYS = Standing()


async def read_standings(database: Database) -> dict[ConnectionUid, Standing]:
    """Return how connections stand, those left out with which all is as their specs say."""
    return {row[0]: Standing(*row[1:]) for row in await run(database, READ_STANDINGS)}
