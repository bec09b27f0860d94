"""Replays and dry runs in words and as documents."""

from rich.text import Text

from contracts.ids import public_event_id
from integrations import output
from integrations.replay_requests import Plan
from store.replay_selection import Selection, Source, Verdict
from store.replays import Outcome, Replay

PLAN_COLUMNS = ("Connection", "Jobs", "Superseded", "Still queued", "Gone", "Filter fails", "The first of them")
REPLAY_COLUMNS = ("Replay", "Connection", "State", "Jobs", "Delivered", "Dead", "Passed over", "Requested by", "Why")


def plan_row(plan: Plan) -> list[str | Text]:
    """Write what a replay would do, for people."""
    counts = plan.found.counts
    numbers = [counts[verdict] for verdict in (Verdict.QUEUED, Verdict.SUPERSEDED, Verdict.UNFINISHED)]
    numbers += [counts[Verdict.GONE], counts[Verdict.FILTER_FAILED]]
    sample = ", ".join(f"{event.type} of {event.subject}" for event in plan.sample)
    return [f"{plan.target.namespace}/{plan.target.name}", *map(str, numbers), sample]


def plan_document(plan: Plan) -> dict[str, object]:
    """Write what a replay would do, for programs."""
    counts = plan.found.counts
    return {
        "connection": f"{plan.target.namespace}/{plan.target.name}",
        "tenant": plan.target.tenant,
        "jobs": counts[Verdict.QUEUED],
        "superseded": counts[Verdict.SUPERSEDED],
        "unfinished": counts[Verdict.UNFINISHED],
        "gone": counts[Verdict.GONE],
        "filter_failed": counts[Verdict.FILTER_FAILED],
        "sample": [
            {
                "event": public_event_id(event.id, event.nonce),
                "at": event.at,
                "type": event.type,
                "subject": event.subject,
            }
            for event in plan.sample
        ],
    }


def replay_row(replay: Replay, outcome: Outcome) -> list[str | Text]:
    """Write a replay for people."""
    progress = replay.progress
    jobs = (
        str(progress.queued) if replay.request.expected is None else f"{progress.queued} of {replay.request.expected}"
    )
    return [
        str(replay.id),
        f"{replay.namespace}/{replay.name}",
        output.state(replay.state),
        jobs,
        str(outcome.delivered),
        str(outcome.dead),
        str(_passed_over(replay)),
        replay.request.requested_by,
        " · ".join(filter(None, (replay.request.reason, status(replay)))),
    ]


def replay_lines(replay: Replay, outcome: Outcome) -> list[list[str | Text]]:
    """Write all about a replay for people, line by line."""
    request, progress = replay.request, replay.progress
    passed = (
        (progress.superseded, "superseded by newer events"),
        (progress.unfinished, "still in the queue"),
        (progress.gone, "gone"),
        (progress.filter_failed, "refused by a failing filter"),
    )
    lines: list[list[str | Text]] = [
        ["State", Text.assemble(output.state(replay.state), f" {status(replay)}".rstrip())],
        ["Connection", f"{replay.namespace}/{replay.name}, tenant {request.selection.tenant}"],
        ["Requested", f"{output.moment(replay.requested_at)} by {request.requested_by}: {request.reason}"],
        ["Selects", _selects(request.selection)],
        ["Message ids", "new" if request.new_message_ids else "those of the first delivery"],
        ["Jobs", replay_row(replay, outcome)[3]],
        ["", f"{outcome.delivered} delivered, {replay.in_queue} in the queue, {outcome.dead} given up"],
        ["Passed over", ", ".join(f"{number} {what}" for number, what in passed if number) or "nothing"],
        ["Last moved", output.moment(progress.moved_at)],
    ]
    if progress.ended_at is not None:
        lines.append(["Ended", output.moment(progress.ended_at)])
    return lines


def replay_document(replay: Replay, outcome: Outcome) -> dict[str, object]:
    """Write a replay for programs."""
    request, progress, selection = replay.request, replay.progress, replay.request.selection
    return {
        "id": replay.id,
        "connection": f"{replay.namespace}/{replay.name}",
        "tenant": selection.tenant,
        "state": replay.state,
        "status": status(replay),
        "requested_at": replay.requested_at,
        "requested_by": request.requested_by,
        "reason": request.reason,
        "source": selection.source,
        "since": selection.since,
        "until": selection.until,
        "types": list(selection.types),
        "cause": selection.cause,
        "include_superseded": selection.include_superseded,
        "new_message_ids": request.new_message_ids,
        "dry_run": request.dry_run,
        "resource_uid": request.resource and str(request.resource),
        "expected": request.expected,
        "jobs": progress.queued,
        "delivered": outcome.delivered,
        "in_queue": replay.in_queue,
        "dead": outcome.dead,
        "superseded": progress.superseded,
        "unfinished": progress.unfinished,
        "gone": progress.gone,
        "filter_failed": progress.filter_failed,
        "moved_at": progress.moved_at,
        "ended_at": progress.ended_at,
        "cancelled_by": replay.cancelled_by,
    }


def status(replay: Replay) -> str:
    """Say what a replay is doing, or why it ended."""
    if replay.request.dry_run and replay.state in ("Running", "Completed"):
        return "dry run: nothing is sent"
    if replay.state == "Cancelled":
        return f"by {replay.cancelled_by}: {replay.detail}"
    if replay.state != "Running":
        return replay.detail
    if replay.lane.waits_for:
        return f"waits: {replay.lane.waits_for}"
    return "waits for its last jobs" if replay.progress.read_to_end else ""


def _selects(selection: Selection) -> str:
    if selection.source is Source.JOBS:
        return f"{len(selection.letters)} named job{'s' if len(selection.letters) > 1 else ''}"
    what = "dead letters" if selection.source is Source.DEAD_LETTERS else "events"
    named = f"{len(selection.events)} named " if selection.events is not None else ""
    cause = f", cause {selection.cause}" if selection.cause else ""
    since = f" from {output.moment(selection.since)}" if selection.since else ""
    return f"{named}{what} of {', '.join(selection.types)}{cause}{since} until {output.moment(selection.until)}"


def _passed_over(replay: Replay) -> int:
    progress = replay.progress
    return progress.superseded + progress.unfinished + progress.gone + progress.filter_failed
