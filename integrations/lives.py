"""The life of an event and of its jobs, in words and as documents: what happened when, and what is still to come."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from rich.text import Text

from contracts.ids import EventId, public_job_id
from integrations import output
from store.history import Attempt, JobRow

_FINE = "Delivered"


class Step(NamedTuple):
    """One line of a life; no time for what has not happened."""

    at: datetime | None
    what: Text
    where: str
    details: str


def attempt_step(attempt: Attempt) -> Step:
    """Describe an attempt."""
    status = f"HTTP {attempt.status_code}" if attempt.status_code else ""
    parts = (status, f"{attempt.duration_ms:.0f} ms", f"worker session {attempt.worker}", attempt.detail)
    outcome = (attempt.outcome, "green" if attempt.outcome == _FINE else "yellow")
    return Step(
        attempt.at,
        Text.assemble(f"attempt {attempt.number}: ", outcome),
        _where(attempt),
        ", ".join(filter(None, parts)),
    )


def unfinished_step(job: JobRow) -> Step:
    """Describe a job that is not delivered."""
    return Step(None, output.state(job.state), _where(job), why(job))


def print_steps(began: datetime, steps: Iterable[Step]) -> None:
    """Print steps in order, with the time that passed since the beginning."""
    rows: list[list[str | Text]] = [
        [
            output.moment(step.at) if step.at else "now",
            f"+{output.age(max(0.0, (step.at - began).total_seconds()))}" if step.at else "",
            step.what,
            step.where,
            step.details,
        ]
        for step in steps
    ]
    output.print_table(("Time", "After", "What", "Where", "Details"), rows)


def why(job: JobRow) -> str:
    """Say why a job is not delivered, and what brings it on."""
    match job.state:
        case "Ready":
            return "waits for its turn"
        case "Deferred" if job.next_attempt_at:
            return f"the last attempt failed; the next is at {output.moment(job.next_attempt_at)}"
        case "Held":
            return "waits behind an earlier event of its subject"
        case "Suspended":
            return "the connection is suspended; set spec.suspend to false"
        case "Quarantined":
            return f"the connection is quarantined: {job.reason}"
        case "Dead":
            return f"given up: {job.reason}"
        case _:
            return job.reason


def attempt_document(event: EventId, attempt: Attempt) -> dict[str, object]:
    """Write an attempt for programs."""
    return {
        "at": attempt.at,
        "job": public_job_id(event, attempt.job),
        "connection": f"{attempt.namespace}/{attempt.connection}",
        "route": attempt.route,
        "number": attempt.number,
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "duration_ms": round(attempt.duration_ms, 1),
        "worker_session": attempt.worker,
        "detail": attempt.detail,
        "replay": attempt.replay,
    }


def job_document(job: JobRow) -> dict[str, object]:
    """Write an unfinished job or a dead letter for programs."""
    return {
        "id": public_job_id(job.event, job.id),
        "event_at": job.at,
        "tenant": job.tenant,
        "connection": f"{job.namespace}/{job.connection}",
        "route": job.route,
        "state": job.state,
        "attempts": job.attempts,
        "next_attempt_at": job.next_attempt_at,
        "why": why(job),
        "replay": job.replay,
    }


def _where(of: Attempt | JobRow) -> str:
    replay = "" if of.replay is None else f", replay {of.replay}"
    return f"{of.namespace}/{of.connection}, route {of.route}{replay}"
