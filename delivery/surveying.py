"""The dry run of a replay: what it would do, counted and with a sample, and nothing written.

It takes the same steps as the replay and asks for the same verdicts, so it says what the replay does if nothing
changes meanwhile.
"""

from collections import Counter
from dataclasses import dataclass, field

from delivery.replay_steps import next_step
from store.database import Database
from store.replay_selection import SAMPLE, Candidate, Selection, Verdict, judge, read_connection_routes

CANDIDATES_AT_ONCE = 1_000


@dataclass(slots=True)
class Survey:
    """What a replay of a selection would do: candidates by verdict, and the first that would be queued."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    sample: list[Candidate] = field(default_factory=list)

    @property
    def queued(self) -> int:
        """How many jobs it would make."""
        return self.counts[Verdict.QUEUED]


async def survey(database: Database, selection: Selection) -> Survey:
    """Go through a selection to its end without writing anything."""
    found = Survey()
    routes = await read_connection_routes(database, selection.connection)
    cursor, end = 0, False
    while not end:
        step = await next_step(database, selection, routes, cursor, limit=CANDIDATES_AT_ONCE)
        cursor, end = step.reached, step.end
        found.counts[Verdict.FILTER_FAILED] += step.filter_failed
        if step.candidates:
            for candidate, verdict in zip(
                step.candidates, await judge(database, selection, step.candidates), strict=True
            ):
                found.counts[verdict] += 1
                if verdict is Verdict.QUEUED and len(found.sample) < SAMPLE:
                    found.sample.append(candidate)
    return found
