"""From what a person names on the command line to selections, one for each connection, and what they would do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contracts.durations import parse_duration
from contracts.errors import MalformedDurationError
from contracts.ids import ConnectionId, EventId, parse_event_id, parse_job_id, public_event_id, public_job_id
from contracts.patterns import EVENT_TYPE_PATTERN
from delivery.surveying import Survey, survey
from integrations.errors import CommandError, NotFoundError, UsageError
from store.database import Database
from store.replay_requests import FoundEvent, find_ended_jobs, find_events
from store.replay_selection import Moment, Selection, Source
from store.replays import Target, read_moment, read_targets

NAMED_AT_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person names; all conditions must hold."""

    source: Source
    tenant: str | None = None
    connection: str | None = None
    events: Sequence[str] = ()
    jobs: Sequence[str] = ()
    types: Sequence[str] = ()
    since: str | None = None
    until: str | None = None
    cause: str | None = None
    include_superseded: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay to one connection would do."""

    target: Target
    selection: Selection
    found: Survey
    sample: list[FoundEvent]


async def plan(database: Database, asked: Asked) -> list[Plan]:
    """Make a selection for each connection that is meant, and go through it without writing anything."""
    _check(asked)
    moment = await read_moment(database)
    if asked.jobs:
        selections = await _of_jobs(database, asked, moment)
    else:
        selections = await _of_connections(database, asked, moment)
    plans = []
    for target, selection in selections:
        found = await survey(database, selection)
        events = await find_events(database, [candidate.event for candidate in found.sample])
        plans.append(Plan(target, selection, found, list(events.values())))
    return plans


def split_name(connection: str) -> tuple[str, str]:
    """Split NAMESPACE/NAME; raise UsageError."""
    namespace, slash, name = connection.partition("/")
    if not (namespace and slash and name):
        raise UsageError("a connection is named NAMESPACE/NAME, such as acme/crm")
    return namespace, name


def _check(asked: Asked) -> None:
    if not (asked.tenant or asked.connection or asked.events or asked.jobs):
        raise UsageError("say what is meant: --connection, --tenant, or ids")
    if asked.jobs and (asked.events or asked.types or asked.since or asked.until or asked.cause):
        raise UsageError("ids of jobs say exactly what is meant; leave the other conditions out")
    if max(len(asked.events), len(asked.jobs)) > NAMED_AT_MOST:
        raise UsageError(f"at most {NAMED_AT_MOST} ids can be named at once; select by time or connection instead")
    for pattern in asked.types:
        if not re.fullmatch(EVENT_TYPE_PATTERN, pattern):
            raise UsageError(f"--type {pattern} is no type or pattern; write company.updated, company.* or *")


async def _of_connections(database: Database, asked: Asked, moment: Moment) -> list[tuple[Target, Selection]]:
    since, until = _time("--since", asked.since, moment.at), _time("--until", asked.until, moment.at)
    until = moment.at if until is None else min(until, moment.at)
    if since is not None and since >= until:
        raise UsageError("--since must be before --until and in the past")
    events = await _find_events(database, asked.events) if asked.events else None
    tenants = None if events is None else sorted({event.tenant for event in events.values()})
    targets = await _targets(database, asked, tenants)
    return [
        (
            target,
            Selection(
                source=asked.source,
                tenant=target.tenant,
                connection=target.id,
                moment=moment,
                until=until,
                since=since,
                types=tuple(asked.types) or ("*",),
                cause=asked.cause,
                events=None if events is None else tuple(events),
                include_superseded=asked.include_superseded,
            ),
        )
        for target in targets
    ]


async def _of_jobs(database: Database, asked: Asked, moment: Moment) -> list[tuple[Target, Selection]]:
    named = list(dict.fromkeys(map(parse_job_id, asked.jobs)))
    jobs = await find_ended_jobs(database, named)
    known = {(job.event, job.id) for job in jobs if asked.source is Source.JOBS or job.letter is not None}
    for event, job in named:
        if (event, job) not in known:
            kind = "dead letter" if asked.source is Source.DEAD_LETTERS else "job that was delivered or given up"
            raise NotFoundError(f"there is no {kind} {public_job_id(event, job)}, or it is no longer kept")
    targets = await _targets(database, asked, None, ids=sorted({job.connection for job in jobs}))
    by_target = {target: [job for job in jobs if job.connection == target.id] for target in targets}
    return [
        (
            target,
            Selection(
                source=Source.JOBS,
                tenant=target.tenant,
                connection=target.id,
                moment=moment,
                until=moment.at,
                events=tuple(job.event for job in mine),
                routes=tuple(job.route for job in mine),
                letters=tuple(job.letter for job in mine),
                include_superseded=asked.include_superseded,
            ),
        )
        for target, mine in by_target.items()
        if mine
    ]


async def _targets(
    database: Database, asked: Asked, tenants: Sequence[str] | None, *, ids: Sequence[ConnectionId] | None = None
) -> list[Target]:
    namespace, name = split_name(asked.connection) if asked.connection else (None, None)
    if asked.tenant:
        tenants = [asked.tenant]  # of named events, those of other tenants match no route of its connections
    found = await read_targets(database, tenants=tenants, namespace=namespace, name=name, ids=ids)
    if not found:
        raise NotFoundError("there is no such connection; see `integrations connections list`")
    active = [target for target in found if target.active]
    if not active:
        retired = f"{found[0].namespace}/{found[0].name}"
        raise CommandError(f"{retired} is retired: it takes no events any more, so nothing can be replayed to it")
    return active


async def _find_events(database: Database, named: Sequence[str]) -> dict[EventId, FoundEvent]:
    ids = {parse_event_id(text): text for text in named}
    found = await find_events(database, list(ids))
    for event, text in ids.items():
        if event not in found or public_event_id(event, found[event].nonce) != text:
            raise NotFoundError(f"there is no event {text}, or it is no longer kept")
    return found


def _time(option: str, text: str | None, now: datetime) -> datetime | None:
    """Read a time, or a duration before now."""
    if text is None:
        return None
    try:
        return now - parse_duration(text)
    except MalformedDurationError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise UsageError(f"{option} {text}: write 2026-01-31T10:00:00+00:00, or how long ago, such as 2h or 30m")
    return time
