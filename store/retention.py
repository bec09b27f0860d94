"""How long history is kept: by default, and for tenants with a retention of their own.

Partitions of events and attempts hold all tenants' rows of a day, and are dropped when the longest retention in force
is over (`store.upkeep`). What outlived a shorter one is deleted from them, a batch in a transaction that also notes
how far it went. A day is read when it becomes due for some tenant, and then not again: every round costs one look at
the list of days. Events that are still needed stay, and are looked at again a day later: those that wait for the
dispatcher, or have an unfinished job or a dead letter.

A replay can queue an event in the same milliseconds in which a batch deletes it; its job becomes a dead letter that
says so, as when a partition is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, NamedTuple

from psycopg.types.json import Jsonb

from store.database import Database, run
from store.statement import statement

BLOCKS_AT_ONCE = 1024
"""Of 8 KiB: some ten thousands of rows, deleted in less than a second."""

KEYS_AT_ONCE = 20_000
LETTERS_AT_ONCE = 5_000

SWEEP = statement(
    "sweep",
    "Delete a batch of what outlived its tenant's retention. $1 relation, $2 days by default, $3 days by tenant, $4 "
    "blocks and $5 keys at once.",
    "select swept_day, deleted, finished from integration.sweep($1::text, $2::int, $3::jsonb, $4::int, $5::int)",
)

FORGET_DEAD_LETTERS = statement(
    "forget_dead_letters",
    "Delete dead letters that outlived their tenant's own retention. $1 days by tenant, $2 how many at once.",
    """
    delete from integration.dead_letter where job_id in (
        select d.job_id from integration.dead_letter d
        where $1::jsonb ? d.tenant_id and d.dead_at < now() - make_interval(days => ($1::jsonb ->> d.tenant_id)::int)
        limit $2::int
    )
    returning job_id
    """,
)

Relation = Literal["event", "event_dedupe", "attempt"]


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that something is kept, by default and for tenants that have days of their own."""

    days: int
    tenants: Mapping[str, int] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """The days after which nobody's rows are kept."""
        return max([self.days, *self.tenants.values()])

    def parameters(self) -> tuple[int, Jsonb]:
        """Write the days by default and by tenant as statements take them."""
        return self.days, Jsonb(dict(self.tenants))


class Swept(NamedTuple):
    """What a batch deleted of a day, and whether it was the day's last."""

    day: date
    deleted: int
    finished: bool


async def sweep(database: Database, relation: Relation, kept: Retention) -> Swept | None:
    """Delete a batch of what outlived its tenant's retention; None if nothing is left to do."""
    rows = await run(database, SWEEP, (relation, *kept.parameters(), BLOCKS_AT_ONCE, KEYS_AT_ONCE))
    return Swept(*rows[0]) if rows else None


async def forget_dead_letters(database: Database, kept: Retention) -> int:
    """Delete dead letters that outlived their tenant's own retention; return how many."""
    if not kept.tenants:
        return 0
    _, tenants = kept.parameters()
    deleted = LETTERS_AT_ONCE
    total = 0
    while deleted == LETTERS_AT_ONCE:
        deleted = len(await run(database, FORGET_DEAD_LETTERS, (tenants, LETTERS_AT_ONCE)))
        total += deleted
    return total
