"""The status of an IntegrationReplay: how far it has come, and what came of it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from contracts.status import Condition, Generation, StatusModel, Timestamp

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


class ReplayCounts(StatusModel):
    """What was selected, and what became of it."""

    selected: Count
    """Candidates that were looked at so far: an event counts once for each route that selects it."""
    jobs: Count
    """Those that were queued to be delivered again; of a dry run, those that would be."""
    delivered: Count
    """Jobs that the partner took."""
    in_queue: Count
    """Jobs that are not delivered yet."""
    dead: Count
    """Jobs that were given up."""
    superseded: Count
    """Passed over, because a newer event of the same subject has gone out."""
    unfinished: Count
    """Passed over, because they were still in the queue and are delivered anyway."""
    gone: Count
    """Passed over, because the event is no longer kept, the route is retired, or the dead letter was taken."""
    filter_failed: Count
    """Passed over, because a route's filter fails."""


class ReplayStatus(StatusModel):
    """What became of the request."""

    observed_generation: Generation = -1
    """Generation of the spec that this status is about; -1 until the operator has seen the replay."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """The aspects of the replay; Ready sums them up: it is True once the replay has done what it was asked for."""
    state: Annotated[str, StringConstraints(max_length=63)] | None = None
    """What the replay does, in one word: Waiting, Running, Completed, Cancelled, Failed or Invalid."""
    progress: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Jobs delivered of those made so far, such as 380/412; of a dry run, the jobs that it would make."""
    connections: Count | None = None
    """To how many connections it delivers."""
    counts: ReplayCounts | None = None
    """What was selected, and what became of it."""
    sample: Annotated[tuple[Annotated[str, StringConstraints(max_length=32)], ...], Field(max_length=10)] | None = None
    """Of a dry run, the first events that would be delivered again."""
    requested_by: Annotated[str, StringConstraints(max_length=200)] | None = None
    """Who wants it, as recorded with each of its jobs."""
    started_at: Timestamp | None = None
    """When it was decided what it delivers to which connections."""
    finished_at: Timestamp | None = None
    """When it ended."""
