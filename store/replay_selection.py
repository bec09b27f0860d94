"""What a replay selects, read in parts, and what would become of each candidate: for the dry run and the runner alike.

A candidate is an event for a route of the replay's connection, and the dead letter it comes from if there is one. The
verdict on it is worked out in one place, `VERDICTS`, so that a dry run and the replay itself cannot disagree:

- `Queued`: a job is made for it.
- `Superseded`: the route keeps order, and a newer event of the same subject that the route selects has gone out or
  will. Sent now, the old one would overwrite it at the partner. Newer events do not count if they are part of the same
  selection, since they follow in order, or if they are dead letters themselves, since they never arrived. Behind a
  dead letter that blocks its subject nothing newer has gone out.
- `Unfinished`: its job is still in the queue and is delivered anyway.
- `Gone`: the event is no longer kept, the route is retired, or somebody else has taken the dead letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from contracts.ids import ConnectionId, EventId, JobId, RouteId, TenantId
from store.database import Database, run
from store.dispatch import NewEvent, RouteRow
from store.statement import statement

SAMPLE = 5
"""Events that a dry run names at most."""


class Source(StrEnum):
    """Where a replay finds what it sends again."""

    EVENTS = "Events"
    """Events, along the routes that the connection has now."""
    JOBS = "Jobs"
    """Jobs by their ids, delivered ones and dead letters."""
    DEAD_LETTERS = "DeadLetters"
    """The dead letters of the connection."""


class Verdict(StrEnum):
    """What becomes of a candidate; see the module."""

    QUEUED = "Queued"
    SUPERSEDED = "Superseded"
    UNFINISHED = "Unfinished"
    GONE = "Gone"
    FILTER_FAILED = "FilterFailed"
    """The route's filter fails on it. Found before the database is asked."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a replay was asked for, and what had been dispatched by then (see `store.dispatch`)."""

    at: datetime
    dispatched: str
    dispatching: str | None
    dispatching_to: EventId


@dataclass(frozen=True, slots=True)
class Selection:
    """What a replay sends again. All conditions must hold; `until` is never later than the moment.

    With `events` only those. Where jobs are named, `routes` and `letters` stand beside `events`, position by position.
    """

    source: Source
    tenant: TenantId
    connection: ConnectionId
    moment: Moment
    until: datetime
    since: datetime | None = None
    types: tuple[str, ...] = ("*",)
    cause: str | None = None
    events: tuple[EventId, ...] | None = None
    routes: tuple[RouteId, ...] = ()
    letters: tuple[JobId | None, ...] = ()
    include_superseded: bool = False


class Candidate(NamedTuple):
    """An event for a route; `letter` is the dead letter that its job replaces."""

    event: EventId
    route: RouteId
    letter: JobId | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Selected events in order; `reached` is the cursor after them, `end` says that nothing follows."""

    events: list[NewEvent]
    reached: int
    end: bool


# What is scanned is bounded, and not what is found: among other tenants' events the next one may be far away.
_IN_RANGE = """
    with scanned as materialized (
        select id, at, xid, tenant_id, type, subject, data from integration.event
        where id > $1::bigint and at >= coalesce($11::timestamptz, '-infinity') and at < $12::timestamptz
        order by id limit $9::int
    ),
"""

_NAMED = """
    with scanned as materialized (
        select id, at, xid, tenant_id, type, subject, data from integration.event
        where id > $1::bigint and id = any ($11::bigint[])
        order by id limit $9::int
    ),
"""

_SELECTED_EVENTS = """
    reached as (select coalesce(max(id), 0) as id, count(*) as number from scanned)
    select r.id, r.number, e.id, e.at::text, e.tenant_id, e.type, hashtextextended(e.subject, 0),
           case when $10::boolean then e.subject end, case when $10::boolean then e.data::text end
    from reached r left join (
        select * from scanned
        where tenant_id = $4::text and at >= coalesce($2::timestamptz, '-infinity') and at < $3::timestamptz
          and integration.selects($5::text[], type)
          and (pg_visible_in_snapshot(xid, $6::text::pg_snapshot) or coalesce(
              id <= $8::bigint and pg_visible_in_snapshot(xid, $7::text::pg_snapshot), false))
    ) e on true
    order by e.id
"""

READ_REPLAY_EVENTS = statement(
    "read_replay_events",
    "The next events of a replay's time range, and how far they reach. $1 cursor, $2 since, $3 until, $4 tenant, "
    "$5 types, $6..$8 dispatched, $9 events to scan, $10 whether data is wanted, $11 and $12 the days of the range.",
    _IN_RANGE + _SELECTED_EVENTS,
)

READ_NAMED_EVENTS = statement(
    "read_named_events",
    "The next of a replay's events that are named by id, and how far they reach. $1 cursor, $2 since, $3 until, "
    "$4 tenant, $5 types, $6..$8 dispatched, $9 events to scan, $10 whether data is wanted, $11 ids.",
    _NAMED + _SELECTED_EVENTS,
)

READ_REPLAY_LETTERS = statement(
    "read_replay_letters",
    "The next dead letters of a connection that a replay selects, in the order of their jobs. "
    "$1 connection, $2 cursor, $3 since, $4 until, $5 types, $6 cause or null, $7 limit.",
    """
    select d.event_id, d.route_id, d.job_id
    from integration.dead_letter d
    where d.connection_id = $1::int and d.job_id > $2::bigint
      and d.dead_at >= coalesce($3::timestamptz, '-infinity') and d.dead_at < $4::timestamptz
      and ($6::text is null or d.reason = $6::text)
      and exists (
          select from integration.event e
          where e.id = d.event_id and e.at = d.event_at and integration.selects($5::text[], e.type)
      )
    order by d.connection_id, d.job_id limit $7::int
    """,
)

READ_CONNECTION_ROUTES = statement(
    "read_connection_routes",
    "The active routes of one connection. $1 connection.",
    """
    select r.id, r.connection_id, r.tenant_id, l.pool_id, r.events, r.filter, r.ordered
    from integration.route r join integration.lane l on l.connection_id = r.connection_id
    where r.active and r.connection_id = $1::int
    order by r.id
    """,
)

# A newer event has a larger id; its time, which finds its partition, may be earlier only by as much as clocks differ.
VERDICTS = """
    with candidate as materialized (
        select * from unnest($2::bigint[], $3::int[], $4::bigint[]) with ordinality
            as c (event_id, route_id, letter, position)
    ),
    unfinished as materialized (
        select event_id, route_id from integration.job where state = 0 and connection_id = $1::int
        union all
        select event_id, route_id from integration.job where state = 1 and connection_id = $1::int
        union all
        select event_id, route_id from integration.job where state = 2 and connection_id = $1::int
    ),
    judged as materialized (
        select c.position, c.event_id, c.route_id, c.letter, e.at, e.subject, r.ordered,
               case
                   when r.id is null or e.at is null or (c.letter is not null and d.job_id is null) then 'Gone'
                   when (c.event_id, c.route_id) in (select u.event_id, u.route_id from unfinished u) then 'Unfinished'
                   when r.ordered and not $5::boolean and not coalesce(d.blocks, false) and exists (
                       select from integration.event n
                       where hashtextextended(n.subject, 0) = e.subject and n.id > c.event_id
                         and n.at >= e.at - interval '1 day' and n.tenant_id = r.tenant_id
                         and integration.selects(r.events, n.type)
                         and not (
                             n.at >= coalesce($6::timestamptz, '-infinity') and n.at < $7::timestamptz
                             and integration.selects($8::text[], n.type)
                             and ($9::bigint[] is null or n.id = any ($9::bigint[]))
                             and (pg_visible_in_snapshot(n.xid, $10::text::pg_snapshot) or coalesce(
                                 n.id <= $12::bigint and pg_visible_in_snapshot(n.xid, $11::text::pg_snapshot), false))
                         )
                         and not exists (
                             select from integration.dead_letter o where o.event_id = n.id and o.route_id = r.id
                         )
                   ) then 'Superseded'
                   else 'Queued'
               end as verdict
        from candidate c
        left join integration.route r on r.id = c.route_id and r.connection_id = $1::int and r.active
        left join lateral (
            select v.at, hashtextextended(v.subject, 0) as subject from integration.event v
            where v.id = c.event_id and v.tenant_id = r.tenant_id limit 1
        ) e on true
        left join integration.dead_letter d on d.job_id = c.letter
    )
"""
"""Begins a statement with the CTEs `candidate`, `unfinished` and `judged`: $1 connection, $2..$4 candidates, $5 whether
superseded ones are sent, $6..$12 what else is selected: since, until, types, ids or null, what had been dispatched."""

_JUDGED = "select verdict from judged order by position"

JUDGE_CANDIDATES = statement(
    "judge_candidates",
    "What a replay would do with some candidates, in their order. $1 connection, $2..$4 candidates, $5..$12 selection.",
    VERDICTS + _JUDGED,
)


async def read_events(
    database: Database, selection: Selection, cursor: int, *, scan: int, with_data: bool
) -> EventPage:
    """Read what a selection of events holds among the next `scan` events after the cursor."""
    moment = selection.moment
    parameters = (
        cursor,
        selection.since,
        selection.until,
        selection.tenant,
        list(selection.types),
        moment.dispatched,
        moment.dispatching,
        moment.dispatching_to,
        scan,
        with_data,
    )
    if selection.events is not None:
        rows = await run(database, READ_NAMED_EVENTS, (*parameters, list(selection.events)))
    else:
        first = None if selection.since is None else _midnight(selection.since)
        after = _midnight(selection.until) + timedelta(days=1)
        rows = await run(database, READ_REPLAY_EVENTS, (*parameters, first, after))
    reached, scanned = rows[0][:2]
    events = [NewEvent._make(row[2:]) for row in rows if row[2] is not None]
    return EventPage(events, max(cursor, reached), scanned < scan)


async def read_letters(database: Database, selection: Selection, cursor: int, *, limit: int) -> list[Candidate]:
    """Read the next dead letters that a selection holds, after the job that the cursor names."""
    parameters = (
        selection.connection,
        cursor,
        selection.since,
        selection.until,
        list(selection.types),
        selection.cause,
        limit,
    )
    return list(map(Candidate._make, await run(database, READ_REPLAY_LETTERS, parameters)))


async def read_connection_routes(database: Database, connection: ConnectionId) -> list[RouteRow]:
    """Return the active routes of a connection; none if it is retired."""
    return [RouteRow(*row) for row in await run(database, READ_CONNECTION_ROUTES, (connection,))]


async def judge(database: Database, selection: Selection, candidates: Sequence[Candidate]) -> list[Verdict]:
    """Say what a replay would do with candidates now; nothing is written."""
    rows = await run(database, JUDGE_CANDIDATES, verdict_parameters(selection, candidates))
    return [Verdict(row[0]) for row in rows]


def verdict_parameters(selection: Selection, candidates: Sequence[Candidate]) -> tuple[Any, ...]:
    """Return the parameters of `VERDICTS`."""
    events, routes, letters = zip(*candidates, strict=True) if candidates else ((), (), ())
    # Of dead letters, newer ones of the same selection are recognised by being dead letters.
    named = () if selection.source is Source.DEAD_LETTERS else selection.events
    return (
        selection.connection,
        list(events),
        list(routes),
        list(letters),
        selection.include_superseded,
        selection.since,
        selection.until,
        list(selection.types),
        None if named is None else list(named),
        selection.moment.dispatched,
        selection.moment.dispatching,
        selection.moment.dispatching_to,
    )


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
