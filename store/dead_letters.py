"""Dead letters as people deal with them: look at them by cause, discard them, and see later what became of each.

Resending one is a replay (see `store.replays`). Whoever ends a dead letter, by either way, is recorded with the reason
in the same statement that removes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from contracts.ids import EventId, JobId, ReplayId
from store.database import Database, run, transaction
from store.publication import count_epoch, lock_routing
from store.statement import statement

_SELECTED = """
    from integration.dead_letter d
    join integration.connection c on c.id = d.connection_id
    left join lateral (
        select v.nonce, v.type, v.subject from integration.event v where v.id = d.event_id and v.at = d.event_at
    ) e on true
    where ($1::text is null or d.tenant_id = $1::text)
      and ($2::text is null or (c.namespace, c.name) = ($2::text, $3::text))
      and ($4::text is null or d.reason = $4::text) and integration.selects($5::text[], coalesce(e.type, ''))
      and ($6::timestamptz is null or d.dead_at >= $6::timestamptz)
      and ($7::timestamptz is null or d.dead_at < $7::timestamptz)
      and ($8::bigint[] is null or d.job_id = any ($8::bigint[]))
"""
_FILTER = "$1 tenant, $2 and $3 connection, $4 cause, $5 types, $6 since, $7 until, $8 jobs; null for any"

_LISTED = """
    select d.job_id, d.event_id, e.nonce, d.tenant_id, c.namespace, c.name,
           (select r.name from integration.route r where r.id = d.route_id), e.type, e.subject, d.attempts, d.reason,
           d.detail, d.dead_at, d.replay_id
"""
_IN_ORDER = " order by d.job_id limit $9::int"

LIST_LETTERS = statement(
    "list_letters", "Dead letters, the oldest first. " + _FILTER + ", $9 limit.", _LISTED + _SELECTED + _IN_ORDER
)

_GROUPED = "select c.namespace, c.name, d.reason, left(d.detail, 100), count(*), min(d.dead_at), max(d.dead_at)"
_BY_CAUSE = " group by 1, 2, 3, 4 order by 5 desc, 1, 2, 3, 4 limit $9::int"

COUNT_LETTERS = statement(
    "count_letters",
    "Dead letters by connection and cause, the most frequent first. " + _FILTER + ", $9 limit.",
    _GROUPED + _SELECTED + _BY_CAUSE,
)

DISCARD_LETTERS = statement(
    "discard_letters",
    "Remove dead letters for good and record who did and why; lanes with subjects that some of them blocked are read "
    "again. $1 jobs, $2 who, $3 why.",
    """
    with gone as (
        delete from integration.dead_letter where job_id = any ($1::bigint[]) returning *
    ),
    let_go as (
        update integration.lane set revision = revision + 1
        where connection_id in (select connection_id from gone where blocks)
    ),
    recorded as (
        insert into integration.dead_letter_end
            (job_id, tenant_id, connection_id, route_id, event_id, event_at, attempts, cause, detail, dead_at,
             replay_id, action, ended_by, reason)
        select g.job_id, g.tenant_id, g.connection_id, g.route_id, g.event_id, g.event_at, g.attempts, g.reason,
               g.detail, g.dead_at, g.replay_id, 'Discarded', $2::text, $3::text
        from gone g
    )
    select job_id, blocks from gone
    """,
)

READ_ENDED_LETTERS = statement(
    "read_ended_letters",
    "What became of the dead letters of an event, in order. $1 event.",
    """
    select d.job_id, c.namespace, c.name, coalesce(r.name, '?'), d.cause, d.detail, d.dead_at, d.action, d.ended_at,
           d.ended_by, d.reason, d.resent_by_replay
    from integration.dead_letter_end d
    join integration.connection c on c.id = d.connection_id
    left join integration.route r on r.id = d.route_id
    where d.event_id = $1::bigint
    order by d.ended_at, d.job_id
    """,
)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; all conditions must hold. Times are those of being given up."""

    tenant: str | None = None
    namespace: str | None = None
    name: str | None = None
    cause: str | None = None
    types: Sequence[str] = ("*",)
    since: datetime | None = None
    until: datetime | None = None
    jobs: Sequence[JobId] | None = None

    def parameters(self) -> tuple[object, ...]:
        """Return the parameters of the statements that take a filter."""
        jobs = None if self.jobs is None else list(self.jobs)
        return self.tenant, self.namespace, self.name, self.cause, list(self.types), self.since, self.until, jobs


class Letter(NamedTuple):
    """A dead letter; nothing of the event if it is no longer kept."""

    job: JobId
    event: EventId
    nonce: int | None
    tenant: str
    namespace: str
    connection: str
    route: str | None
    type: str | None
    subject: str | None
    attempts: int
    cause: str
    detail: str
    dead_at: datetime
    replay: ReplayId | None


class Cause(NamedTuple):
    """Dead letters of one connection that died alike."""

    namespace: str
    connection: str
    cause: str
    detail: str
    number: int
    first_at: datetime
    last_at: datetime


class EndedLetter(NamedTuple):
    """What a person did about a dead letter; `resent_by` is the replay that took it up."""

    job: JobId
    namespace: str
    connection: str
    route: str
    cause: str
    detail: str
    dead_at: datetime
    action: str
    ended_at: datetime
    ended_by: str
    reason: str
    resent_by: ReplayId | None


async def list_letters(database: Database, which: LetterFilter, *, limit: int) -> list[Letter]:
    """List dead letters, the oldest first."""
    return list(map(Letter._make, await run(database, LIST_LETTERS, (*which.parameters(), limit))))


async def count_letters(database: Database, which: LetterFilter, *, limit: int) -> list[Cause]:
    """Count dead letters by what they died of, the most frequent first."""
    return list(map(Cause._make, await run(database, COUNT_LETTERS, (*which.parameters(), limit))))


async def discard(database: Database, jobs: Sequence[JobId], *, by: str, why: str) -> list[JobId]:
    """Remove dead letters for good, and let go what they blocked; return those that were there."""
    async with transaction(database):
        await lock_routing(database)
        gone = await run(database, DISCARD_LETTERS, (list(jobs), by, why))
        if any(blocks for _, blocks in gone):
            await count_epoch(database)
    return [JobId(job) for job, _ in gone]


async def ended_letters(database: Database, event: EventId) -> list[EndedLetter]:
    """Return what became of the dead letters of an event that a person dealt with."""
    return list(map(EndedLetter._make, await run(database, READ_ENDED_LETTERS, (event,))))
