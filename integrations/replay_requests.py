"""From what a person names on the command line to plans: what a replay to each connection that is meant would do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contracts.durations import parse_duration
from contracts.errors import MalformedDurationError
from contracts.patterns import EVENT_TYPE_PATTERN
from delivery.replay_targets import Wanted, find_selections
from delivery.surveying import Survey, survey
from integrations.errors import UsageError
from store.database import Database
from store.replay_requests import FoundEvent, Target, find_events
from store.replay_selection import Selection, Source
from store.replays import read_moment

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
    plans = []
    for target, selection in await find_selections(database, _wanted(asked, moment.at), moment):
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


def _wanted(asked: Asked, now: datetime) -> Wanted:
    namespace, name = split_name(asked.connection) if asked.connection else (None, None)
    since, until = _time("--since", asked.since, now), _time("--until", asked.until, now)
    if since is not None and since >= min(until or now, now):
        raise UsageError("--since must be before --until and in the past")
    return Wanted(
        asked.source,
        asked.tenant,
        namespace,
        name,
        events=asked.events,
        jobs=asked.jobs,
        types=asked.types,
        since=since,
        until=until,
        cause=asked.cause,
        include_superseded=asked.include_superseded,
    )


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
