"""From everything known about a replay to its status: pure, so that the same facts always give the same words.

Conditions follow kstatus: a replay is Ready once it has done what it was asked for, Reconciling until it ends, and
Stalled if it ended otherwise or only a person can help. Deliveries that were given up again do not make it fail: they
are dead letters of their connection, which tells of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from contracts.replay_status import ReplayCounts, ReplayStatus
from contracts.status import ConditionStatus
from integration_operator.conditions import Found, cut, dated
from integration_operator.kube import Json
from integration_operator.names import TENANT_CLAIM_PREFIX
from integration_operator.replay_objects import ReplayObject
from store.replay_resources import Part, ResourceProgress, ResourceState
from store.replays import Lane, ReplayState

_SAMPLE: Final = 10
_STALLED: Final = frozenset({"Invalid", "Failed", "Cancelled"})
_CARRIED: Final = ("connections", "counts", "progress", "sample", "startedAt")
"""What stays as it was told while the database cannot be asked."""


@dataclass(frozen=True, slots=True)
class ReplayFacts:
    """Everything that a replay's status is concluded from."""

    replay: ReplayObject
    claimed: bool
    requested_by: str | None
    progress: ResourceProgress | None = None
    database_error: str | None = None


class _Stand(NamedTuple):
    """How a replay stands: its state, a reason for it, words for people, and when it ended."""

    state: str
    reason: str
    message: str
    finished_at: datetime | None = None


def conclude_replay(facts: ReplayFacts, now: datetime) -> Json:
    """Return the status in its wire form; what has not changed keeps its time of transition."""
    replay, progress = facts.replay, facts.progress
    moment = now.astimezone(UTC).replace(microsecond=0)
    stand = _stand(facts, moment)
    parts = progress.parts if progress else ()
    counts = _counts(parts) if parts else None
    dry_run = replay.spec is not None and replay.spec.dry_run
    status = ReplayStatus(
        observed_generation=replay.generation,
        conditions=dated(_conditions(stand), replay.generation, replay.status, moment),
        state=stand.state,
        progress=_progress(counts, dry_run=dry_run) if counts else None,
        connections=len(parts) if parts else None,
        counts=counts,
        sample=tuple(event for part in parts for event in part.sample)[:_SAMPLE] if dry_run and parts else None,
        requested_by=facts.requested_by,
        started_at=progress.decided_at if progress and progress.state is ResourceState.STARTED else None,
        finished_at=stand.finished_at,
    )
    written = status.model_dump(mode="json", exclude_none=True)
    if progress is None:
        written |= {name: replay.status[name] for name in _CARRIED if name in replay.status}
    return written


def renewed(status: Json, generation: int) -> Json:
    """Return the status of a finished replay as one about a newer generation of its spec."""
    conditions = [{**condition, "observedGeneration": generation} for condition in status.get("conditions") or ()]
    return status | {"observedGeneration": generation, "conditions": conditions}


def _stand(facts: ReplayFacts, now: datetime) -> _Stand:
    replay, progress = facts.replay, facts.progress
    if replay.spec is None:
        return _Stand("Invalid", "InvalidSpec", "; ".join(replay.problems))
    if facts.database_error is not None:
        message = f"{cut(facts.database_error)}; it is tried again until the database answers"
        return _Stand("Waiting", "DatabaseUnavailable", message)
    if progress is None:
        return _lost(now) if replay.has_started else _forbidden(replay)
    match progress.state:
        case ResourceState.ASKED if progress.detail:
            return _Stand("Waiting", "ConnectionNotFound", f"{progress.detail}; it starts as soon as there is one")
        case ResourceState.ASKED:
            return _Stand("Waiting", "Asked", "the dispatcher is about to start it")
        case ResourceState.REFUSED:
            message = f"{cut(progress.detail)}; create another one that asks for what there is"
            return _Stand("Failed", "Refused", message, progress.decided_at)
        case ResourceState.CANCELLED:
            message = f"cancelled before it was started: {cut(progress.detail)}"
            return _Stand("Cancelled", "Cancelled", message, progress.decided_at)
        case ResourceState.STARTED if not progress.parts:
            return _lost(now)
        case ResourceState.STARTED:
            return _started(progress.parts, dry_run=replay.spec.dry_run)


def _lost(now: datetime) -> _Stand:
    message = "the database knows nothing of it any more; create another one if it is still wanted"
    return _Stand("Failed", "Lost", message, now)


def _forbidden(replay: ReplayObject) -> _Stand:
    tenant, namespace = replay.spec.tenant if replay.spec else "", replay.key.namespace
    message = (
        f"namespace {namespace} may not hold replays of tenant {tenant}; if it should, a cluster administrator"
        f" runs: kubectl label namespace {namespace} {TENANT_CLAIM_PREFIX}{tenant}="
    )
    return _Stand("Invalid", "ForbiddenTenant", message)


def _started(parts: Sequence[Part], *, dry_run: bool) -> _Stand:
    counts = _counts(parts)
    by_state = {state: [part for part in parts if part.state is state] for state in ReplayState}
    if running := by_state[ReplayState.RUNNING]:
        return _running(running, counts, dry_run=dry_run)
    finished_at = max(part.ended_at for part in parts if part.ended_at)
    if failed := by_state[ReplayState.FAILED]:
        message = f"{_told(failed)}; create another one for what is missing"
        return _Stand("Failed", "Failed", message, finished_at)
    if cancelled := by_state[ReplayState.CANCELLED]:
        left = f"; {counts.in_queue} queued before are still delivered" if counts.in_queue else ""
        return _Stand("Cancelled", "Cancelled", f"{cut(cancelled[0].detail)}{left}", finished_at)
    if dry_run:
        message = f"{counts.jobs} would be delivered again{_passed_over(counts)}; nothing was"
        return _Stand("Completed", "Counted", message, finished_at)
    if counts.dead:
        message = (
            f"{counts.delivered} delivered again, {counts.dead} given up again{_passed_over(counts)}; look at those:"
            " integrations dead-letters list"
        )
        return _Stand("Completed", "DeadLetters", message, finished_at)
    return _Stand("Completed", "Completed", f"{counts.delivered} delivered again{_passed_over(counts)}", finished_at)


def _running(running: Sequence[Part], counts: ReplayCounts, *, dry_run: bool) -> _Stand:
    if dry_run:
        return _Stand("Running", "Running", f"{counts.selected} looked at so far")
    waits = [Lane(part.lane, part.suspended, 0, 0).waits_for for part in running]
    if all(waits):
        message = f"{running[0].connection}: {waits[0]}; the replay goes on by itself when that is over"
        return _Stand("Running", "Held", message)
    return _Stand("Running", "Running", f"{counts.delivered} delivered again, {counts.in_queue} in the queue")


def _conditions(stand: _Stand) -> Iterator[Found]:
    done = ConditionStatus.TRUE if stand.state == "Completed" else ConditionStatus.FALSE
    yield "Ready", done, stand.reason, stand.message
    if stand.state in _STALLED:
        yield "Stalled", ConditionStatus.TRUE, stand.reason, stand.message
    elif stand.finished_at is None:
        yield "Reconciling", ConditionStatus.TRUE, stand.reason, stand.message
    finished = ConditionStatus.FALSE if stand.finished_at is None else ConditionStatus.TRUE
    yield "Finished", finished, stand.reason, ""


def _counts(parts: Sequence[Part]) -> ReplayCounts:
    jobs, superseded, unfinished, gone, filter_failed = (
        sum(numbers)
        for numbers in zip(
            *((part.queued, part.superseded, part.unfinished, part.gone, part.filter_failed) for part in parts),
            strict=True,
        )
    )
    return ReplayCounts(
        selected=jobs + superseded + unfinished + gone + filter_failed,
        jobs=jobs,
        delivered=sum(part.delivered for part in parts),
        in_queue=sum(part.in_queue for part in parts),
        dead=sum(part.dead for part in parts),
        superseded=superseded,
        unfinished=unfinished,
        gone=gone,
        filter_failed=filter_failed,
    )


def _progress(counts: ReplayCounts, *, dry_run: bool) -> str:
    return str(counts.jobs) if dry_run else f"{counts.delivered}/{counts.jobs}"


def _passed_over(counts: ReplayCounts) -> str:
    why = (
        (counts.superseded, "superseded"),
        (counts.unfinished, "still queued"),
        (counts.gone, "gone"),
        (counts.filter_failed, "refused by a failing filter"),
    )
    told = ", ".join(f"{number} {what}" for number, what in why if number)
    return f"; passed over: {told}" if told else ""


def _told(failed: Sequence[Part]) -> str:
    first = f"{failed[0].connection}: {cut(failed[0].detail)}"
    return first if len(failed) == 1 else f"{first}; and {len(failed) - 1} more connection(s)"
