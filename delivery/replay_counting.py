"""A dry run that was asked for with a resource: the replay's own steps and verdicts, counted on its row.

It waits for nobody, since it delivers nothing, and goes on from its cursor like any replay.
"""

from collections import Counter

from contracts.ids import public_event_id
from delivery.replay_steps import next_step
from store.database import Database
from store.dispatch import RouteRow
from store.replay_requests import find_events
from store.replay_selection import SAMPLE, Candidate, Verdict, judge
from store.replaying import count
from store.replays import Replay

CANDIDATES_AT_ONCE = 1_000


async def count_step(database: Database, replay: Replay, routes: list[RouteRow]) -> bool:
    """Count what a replay's next step would do; False if it is not as it was read."""
    selection = replay.request.selection
    step = await next_step(database, selection, routes, replay.progress.cursor, limit=CANDIDATES_AT_ONCE)
    verdicts = await judge(database, selection, step.candidates) if step.candidates else []
    queued = [each for each, verdict in zip(step.candidates, verdicts, strict=True) if verdict is Verdict.QUEUED]
    sample = await _public_ids(database, queued[: SAMPLE - len(replay.sample)])
    return await count(database, replay, step, Counter(verdicts), sample)


async def _public_ids(database: Database, candidates: list[Candidate]) -> list[str]:
    if not candidates:
        return []
    found = await find_events(database, [candidate.event for candidate in candidates])
    return [public_event_id(event.id, event.nonce) for event in found.values()]
