"""Replays as people ask for them: start, look at, cancel. How they are carried out is in `store.replaying`.

A replay belongs to one connection and is a row from the first moment on, so it survives everything that dies, and says
who asked for it and why. Its jobs, their attempts and their dead letters carry its id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from contracts.ids import ConnectionId, EventId, JobId, ReplayId, ReplayUid, RouteId, TenantId
from store.database import Database, run, transaction
from store.replay_selection import Moment, Selection, Source
from store.statement import statement

UNFINISHED_AT_MOST = 20
"""Jobs of replays that a connection may have unfinished: so many places live events may have to wait behind."""

BACKLOG_AT_MOST = 1_000
"""A replay waits while its connection has more unfinished jobs than this, of whatever origin."""


class ReplayState(StrEnum):
    """How a replay stands."""

    RUNNING = "Running"
    """It makes jobs, or waits until it may, or for its jobs to end."""
    COMPLETED = "Completed"
    """All that it selects was read, and all its jobs have ended."""
    CANCELLED = "Cancelled"
    """A person stopped it; what it had queued is still delivered."""
    FAILED = "Failed"
    """It cannot go on; `detail` says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants what delivered again, and why. `expected` is what a dry run counted, if there was one.

    With `dry_run` nothing is delivered: those that would be are counted. `resource` is how it was asked for, if that
    was no command.
    """

    selection: Selection
    requested_by: str
    reason: str
    new_message_ids: bool = False
    expected: int | None = None
    dry_run: bool = False
    resource: ReplayUid | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay has come: `queued` jobs were made, or would be, the others were passed over (see `Verdict`)."""

    cursor: int
    read_to_end: bool
    queued: int
    superseded: int
    unfinished: int
    gone: int
    filter_failed: int
    moved_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lane:
    """What a replay's connection is doing; no state if it has ended for good. The counts are exact up to their limits:
    `replayed` unfinished jobs of replays, `backlog` of any origin.
    """

    state: str | None
    suspended: bool
    replayed: int
    backlog: int

    @property
    def waits_for(self) -> str | None:
        """Say what keeps a replay from making jobs now."""
        if self.suspended:
            return "the connection is suspended"
        if self.state == "Quarantined":
            return "the connection is quarantined"
        if self.backlog > BACKLOG_AT_MOST:
            return f"the connection has more than {BACKLOG_AT_MOST} unfinished jobs"
        return None


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as it is in the database. `in_queue` are its unfinished jobs, `sample` the events of a dry run."""

    id: ReplayId
    namespace: str
    name: str
    request: Request
    requested_at: datetime
    state: ReplayState
    detail: str
    cancelled_by: str | None
    revision: int
    progress: Progress
    lane: Lane
    in_queue: int
    sample: tuple[str, ...]

    @property
    def room(self) -> int:
        """How many jobs it may make now."""
        return 0 if self.lane.waits_for else max(0, UNFINISHED_AT_MOST - self.lane.replayed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a replay's jobs so far, as long as attempts are kept."""

    delivered: int
    dead: int


READ_MOMENT = statement(
    "read_moment",
    "The time, and what is dispatched by now.",
    "select now(), c.lower::text, c.upper::text, c.last_event_id from integration.dispatch_cursor c",
)

START_REPLAY = statement(
    "start_replay",
    "Record a request; the dispatcher does the rest. $1..$8 selection, $9..$11 events, routes, dead letters or null, "
    "$12..$14 what was dispatched, $15 and $16 options, $17 expected, $18 who, $19 why, $20 dry run, $21 resource.",
    """
    insert into integration.replay
        (tenant_id, connection_id, source, since, until, types, cause, requested_at, event_ids, route_ids, letter_ids,
         dispatched, dispatching, dispatching_to, include_superseded, new_message_ids, expected, requested_by, reason,
         dry_run, resource_uid)
    values ($1::text, $2::int, $3::text, $4::timestamptz, $5::timestamptz, $6::text[], $7::text, $8::timestamptz,
            $9::bigint[], $10::int[], $11::bigint[], $12::text::pg_snapshot, $13::text::pg_snapshot, $14::bigint,
            $15::boolean, $16::boolean, $17::bigint, $18::text, $19::text,
            $20::boolean, $21::uuid)
    returning id
    """,
)

_REPLAY = """
    select p.id, c.namespace, c.name, p.requested_at, p.state, p.detail, p.cancelled_by, p.revision,
           p.source, p.tenant_id, p.connection_id, p.since, p.until, p.types, p.cause, p.event_ids, p.route_ids,
           p.letter_ids, p.dispatched::text, p.dispatching::text, p.dispatching_to, p.include_superseded,
           p.requested_by, p.reason, p.new_message_ids, p.expected,
           p.cursor, p.read_to_end, p.queued, p.superseded, p.unfinished, p.gone, p.filter_failed, p.moved_at,
           p.ended_at,
           l.state, coalesce(l.suspended, false),
           (select count(*) from (
               select from integration.job j
               where j.connection_id = p.connection_id and j.replay_id is not null limit 20
           ) r),
           (select count(*) from (
               (select from integration.job where state = 0 and connection_id = p.connection_id limit 1001)
               union all
               (select from integration.job where state = 1 and connection_id = p.connection_id limit 1001)
               union all
               (select from integration.job where state = 2 and connection_id = p.connection_id
                and not exists (
                    select from integration.dead_letter d where d.connection_id = p.connection_id and d.blocks
                ) limit 1001)
           ) b),
           (select count(*) from integration.job j where j.connection_id = p.connection_id and j.replay_id = p.id),
           p.dry_run, p.resource_uid, p.sample
    from integration.replay p
    join integration.connection c on c.id = p.connection_id
    left join integration.lane l on l.connection_id = p.connection_id
"""

READ_RUNNING = statement(
    "read_running_replays",
    "Replays that may be able to go on or are to be ended, those first that have waited longest.",
    _REPLAY
    + """
    where p.state = 'Running'
      and (l.connection_id is null or p.read_to_end or p.dry_run or (l.state = 'Open' and not l.suspended))
    order by p.moved_at, p.id limit 500
    """,
)

LIST_REPLAYS = statement(
    "list_replays",
    "Replays, the newest first. $1 tenant or null, $2 connection name or null, $3 whether running ones only, $4 limit.",
    _REPLAY
    + """
    where ($1::text is null or p.tenant_id = $1::text) and ($2::text is null or c.name = $2::text)
      and (not $3::boolean or p.state = 'Running')
    order by p.id desc limit $4::int
    """,
)

READ_REPLAY = statement("read_replay", "One replay. $1 id.", _REPLAY + " where p.id = $1::bigint")

# A dead letter that was resent or discarded since did die all the same.
COUNT_OUTCOMES = statement(
    "count_outcomes",
    "What came of the jobs of some replays. $1 ids.",
    """
    select p.id,
           (select count(*) from integration.attempt a where a.replay_id = p.id and a.outcome = 'Delivered'),
           (select count(*) from integration.dead_letter d where d.replay_id = p.id)
           + (select count(*) from integration.dead_letter_end e where e.replay_id = p.id)
    from unnest($1::bigint[]) as p (id)
    """,
)

CANCEL_REPLAY = statement(
    "cancel_replay",
    "Let a running replay make no more jobs. $1 id, $2 who, $3 why.",
    """
    update integration.replay
    set state = 'Cancelled', cancelled_by = $2::text, detail = $3::text, ended_at = now(), revision = revision + 1
    where id = $1::bigint and state = 'Running'
    returning id
    """,
)


async def read_moment(database: Database) -> Moment:
    """Return the time and what is dispatched, as a new replay keeps them."""
    rows = await run(database, READ_MOMENT)
    return Moment(*rows[0])


async def start(database: Database, requests: Sequence[Request]) -> list[ReplayId]:
    """Record requests, all or none; return the ids of their replays in that order."""
    async with transaction(database):
        return [await start_one(database, request) for request in requests]


async def start_one(database: Database, request: Request) -> ReplayId:
    """Record a request in the transaction under way."""
    selection = request.selection
    moment = selection.moment
    by_job = selection.source is Source.JOBS
    parameters = (
        selection.tenant,
        selection.connection,
        selection.source,
        selection.since,
        selection.until,
        list(selection.types),
        selection.cause,
        moment.at,
        None if selection.events is None else list(selection.events),
        list(selection.routes) if by_job else None,
        list(selection.letters) if by_job else None,
        moment.dispatched,
        moment.dispatching,
        moment.dispatching_to,
        selection.include_superseded,
        request.new_message_ids,
        request.expected,
        request.requested_by,
        request.reason,
        request.dry_run,
        request.resource,
    )
    rows = await run(database, START_REPLAY, parameters)
    return ReplayId(rows[0][0])


async def running_replays(database: Database) -> list[Replay]:
    """Return the replays that may be able to go on, those first that have waited longest."""
    return list(map(_replay, await run(database, READ_RUNNING)))


async def list_replays(
    database: Database, *, tenant: str | None, connection: str | None, running: bool, limit: int
) -> list[Replay]:
    """List replays, the newest first."""
    return list(map(_replay, await run(database, LIST_REPLAYS, (tenant, connection, running, limit))))


async def read_replay(database: Database, replay: ReplayId) -> Replay | None:
    """Return a replay, or None if there is none of that id (any more)."""
    rows = await run(database, READ_REPLAY, (replay,))
    return _replay(rows[0]) if rows else None


async def outcomes(database: Database, replays: Sequence[ReplayId]) -> dict[ReplayId, Outcome]:
    """Count what came of the jobs of replays."""
    return {ReplayId(row[0]): Outcome(*row[1:]) for row in await run(database, COUNT_OUTCOMES, (list(replays),))}


async def cancel(database: Database, replay: ReplayId, *, by: str, why: str) -> bool:
    """Stop a replay; False if it is not running. Jobs that it has queued, few at any time, are still delivered."""
    return bool(await run(database, CANCEL_REPLAY, (replay, by, why)))


def _replay(row: tuple[Any, ...]) -> Replay:
    selection = Selection(
        source=Source(row[8]),
        tenant=TenantId(row[9]),
        connection=ConnectionId(row[10]),
        moment=Moment(row[3], row[18], row[19], EventId(row[20])),
        since=row[11],
        until=row[12],
        types=tuple(row[13]),
        cause=row[14],
        events=None if row[15] is None else tuple(map(EventId, row[15])),
        routes=tuple(map(RouteId, row[16] or ())),
        letters=tuple(None if letter is None else JobId(letter) for letter in row[17] or ()),
        include_superseded=row[21],
    )
    return Replay(
        id=ReplayId(row[0]),
        namespace=row[1],
        name=row[2],
        request=Request(selection, *row[22:26], *row[40:42]),
        requested_at=row[3],
        state=ReplayState(row[4]),
        detail=row[5],
        cancelled_by=row[6],
        revision=row[7],
        progress=Progress(*row[26:35]),
        lane=Lane(*row[35:39]),
        in_queue=row[39],
        sample=tuple(row[42]),
    )
