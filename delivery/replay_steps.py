"""The parts of a replay, one after the other: from its cursor to the next candidates.

Events go along the routes that the connection has now, filters included, as they would if they were new. Jobs and dead
letters go along the route that they had.
"""

from delivery.routing import RoutingTable
from store.database import Database
from store.dispatch import RouteRow
from store.replay_selection import Candidate, Selection, Source, read_events, read_letters
from store.replaying import Step

EVENTS_AT_ONCE = 5_000
"""Events of all tenants that are looked at for one step, if the nearest hold none that are selected."""

EVENTS_WITH_DATA = 250
"""The same when filters need their data, which may be 256 KiB each."""


async def next_step(
    database: Database, selection: Selection, routes: list[RouteRow], cursor: int, *, limit: int
) -> Step:
    """Return the next `limit` candidates, or as many as one reading finds; more only if one event has more routes."""
    match selection.source:
        case Source.EVENTS:
            return await _events(database, selection, RoutingTable(0, routes), cursor, limit)
        case Source.JOBS:
            end = cursor + limit
            found = zip(selection.events or (), selection.routes, selection.letters, strict=True)
            candidates = list(map(Candidate._make, found))[cursor:end]
            return Step(candidates, cursor + len(candidates), end >= len(selection.letters))
        case Source.DEAD_LETTERS:
            letters = await read_letters(database, selection, cursor, limit=limit)
            reached = letters[-1].letter if letters else None
            return Step(letters, reached or cursor, len(letters) < limit)


async def _events(database: Database, selection: Selection, table: RoutingTable, cursor: int, limit: int) -> Step:
    most = EVENTS_WITH_DATA if table.reads_data else EVENTS_AT_ONCE
    near = min(4 * limit, most)
    page = await read_events(database, selection, cursor, scan=near, with_data=table.reads_data)
    if not page.events and not page.end:
        page = await read_events(database, selection, page.reached, scan=most, with_data=table.reads_data)
    routed, jobs, failures = table.route(page.events, limit)
    candidates = [Candidate(job.event, job.route) for job in jobs]
    if routed == len(page.events):
        return Step(candidates, page.reached, page.end, len(failures))
    return Step(candidates, page.events[routed - 1].id, end=False, filter_failed=len(failures))
