"""From what a person names to selections, one for each connection that is meant: for commands and resources alike.

Where a tenant is named, nothing of another tenant is found, whatever ids are given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contracts.ids import ConnectionId, EventId, parse_event_id, parse_job_id, public_event_id, public_job_id
from delivery.errors import NoConnectionError, NotKeptError
from store.database import Database
from store.replay_requests import EndedJob, FoundEvent, Target, find_ended_jobs, find_events, read_targets
from store.replay_selection import Moment, Selection, Source


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person names; all conditions must hold. Jobs are named without any other but tenant and connection."""

    source: Source
    tenant: str | None = None
    namespace: str | None = None
    name: str | None = None
    events: Sequence[str] = ()
    jobs: Sequence[str] = ()
    types: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    cause: str | None = None
    include_superseded: bool = False


async def find_selections(database: Database, wanted: Wanted, moment: Moment) -> list[tuple[Target, Selection]]:
    """Make a selection for each connection that is meant; raise NoConnectionError, NotKeptError, MalformedIdError."""
    if wanted.jobs:
        return await _of_jobs(database, wanted, moment)
    return await _of_connections(database, wanted, moment)


async def _of_connections(database: Database, wanted: Wanted, moment: Moment) -> list[tuple[Target, Selection]]:
    events = await _find_events(database, wanted) if wanted.events else None
    tenants = None if events is None else sorted({event.tenant for event in events.values()})
    until = moment.at if wanted.until is None else min(wanted.until, moment.at)
    return [
        (
            target,
            Selection(
                source=wanted.source,
                tenant=target.tenant,
                connection=target.id,
                moment=moment,
                until=until,
                since=wanted.since,
                types=tuple(wanted.types) or ("*",),
                cause=wanted.cause,
                events=None if events is None else tuple(events),
                include_superseded=wanted.include_superseded,
            ),
        )
        for target in await _targets(database, wanted, tenants)
    ]


async def _of_jobs(database: Database, wanted: Wanted, moment: Moment) -> list[tuple[Target, Selection]]:
    jobs = await _find_jobs(database, wanted)
    targets = await _targets(database, wanted, None, ids=sorted({job.connection for job in jobs}))
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
                include_superseded=wanted.include_superseded,
            ),
        )
        for target, mine in by_target.items()
        if mine
    ]


async def _targets(
    database: Database, wanted: Wanted, tenants: Sequence[str] | None, *, ids: Sequence[ConnectionId] | None = None
) -> list[Target]:
    if wanted.tenant:
        tenants = [wanted.tenant]
    found = await read_targets(database, tenants=tenants, namespace=wanted.namespace, name=wanted.name, ids=ids)
    if not found:
        raise NoConnectionError("there is no such connection; see `integrations connections list`")
    active = [target for target in found if target.active]
    if not active:
        retired = f"{found[0].namespace}/{found[0].name}"
        raise NoConnectionError(f"{retired} is retired: it takes no events any more, so nothing can be replayed to it")
    return active


async def _find_events(database: Database, wanted: Wanted) -> dict[EventId, FoundEvent]:
    ids = {parse_event_id(text): text for text in wanted.events}
    found = await find_events(database, list(ids))
    for id_, text in ids.items():
        event = found.get(id_)
        if event is None or public_event_id(id_, event.nonce) != text or wanted.tenant not in (None, event.tenant):
            raise NotKeptError(f"there is no event {text}, or it is no longer kept")
    return found


async def _find_jobs(database: Database, wanted: Wanted) -> list[EndedJob]:
    named = list(dict.fromkeys(map(parse_job_id, wanted.jobs)))
    jobs = [
        job
        for job in await find_ended_jobs(database, named)
        if (wanted.source is Source.JOBS or job.letter is not None) and wanted.tenant in (None, job.tenant)
    ]
    known = {(job.event, job.id) for job in jobs}
    for event, job in named:
        if (event, job) not in known:
            kind = "dead letter" if wanted.source is Source.DEAD_LETTERS else "job that was delivered or given up"
            raise NotKeptError(f"there is no {kind} {public_job_id(event, job)}, or it is no longer kept")
    return jobs
