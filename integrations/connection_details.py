"""One connection in words and as a document: what it does, with which limits, and how it came to that."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text

from contracts.connection import parse_connection_spec
from contracts.throttle import ThrottleSpec
from integrations import output
from store.connections import ConnectionDetails
from store.scopes import ScopeDetails
from store.transitions import RecordedTransition

_COLUMNS = ("Time", "From", "To", "By", "Held", "Why")


def print_details(
    name: str, of: ConnectionDetails, scope: ScopeDetails | None, transitions: Sequence[RecordedTransition]
) -> None:
    """Print a connection for people."""
    output.print_table(("Connection", name), [*_facts(of), *_shared(scope)])
    if transitions:
        output.print_line("")
        output.print_table(_COLUMNS, [_row(transition) for transition in transitions])


def details_document(
    name: str, of: ConnectionDetails, scope: ScopeDetails | None, transitions: Sequence[RecordedTransition]
) -> dict[str, object]:
    """Write a connection for programs."""
    throttle = parse_connection_spec(of.spec).delivery.throttle
    return {
        "connection": name,
        "tenant": of.tenant,
        "provider": of.provider,
        "state": _state(of),
        "consecutive_failures": of.consecutive_failures,
        "quarantined_at": of.quarantined_at,
        "quarantine_reason": of.quarantine_reason,
        "failed_probes": of.probes,
        "next_probe_at": of.probe_at,
        "paused_until": of.paused_until,
        "throttle": {
            "requests_per_second": throttle.requests_per_second,
            "effective_requests_per_second": of.effective_rps or throttle.requests_per_second,
            "concurrency": throttle.concurrency,
            "effective_concurrency": of.effective_concurrency or throttle.concurrency,
        },
        "scope": None if scope is None else scope._asdict(),
        "waiting": {"ready": of.ready, "deferred": of.deferred, "held": of.held, "oldest_at": of.oldest_at},
        "dead_letters": of.dead_letters,
        "blocked_subjects": of.blocked_subjects,
        "transitions": [
            {
                "at": transition.at,
                "from": transition.before,
                "to": transition.after,
                "by": transition.actor,
                "held": transition.held,
                "reason": transition.reason,
            }
            for transition in transitions
        ],
    }


def _facts(of: ConnectionDetails) -> Iterator[tuple[str, str | Text]]:
    yield "tenant", of.tenant
    yield "provider", of.provider
    yield "state", output.state(_state(of))
    if of.quarantine_reason is not None and of.quarantined_at is not None:
        yield "stopped", f"since {output.moment(of.quarantined_at)}: {of.quarantine_reason}"
        yield "next probe", _next_probe(of)
    if not of.owned:
        yield "worker", "none has it"
    if of.paused_until is not None and of.paused_until > datetime.now(UTC):
        yield "paused", f"until {output.moment(of.paused_until)}, as the partner asked"
    yield "limits", _limits(of, parse_connection_spec(of.spec).delivery.throttle)
    yield "waiting", f"{of.ready} ready, {of.deferred} for their next attempt, {of.held} behind an earlier event"
    if of.oldest_at is not None:
        yield "oldest", output.moment(of.oldest_at)
    if of.dead_letters:
        blocking = f", which block {of.blocked_subjects} subject(s)" if of.blocked_subjects else ""
        yield "dead letters", f"{of.dead_letters}{blocking}; see: integrations dead-letters list"


def _shared(scope: ScopeDetails | None) -> Iterator[tuple[str, str]]:
    """Tell what the connection is under: limits that it shares, and what is left of its day."""
    if scope is None:
        return
    if scope.name is not None:
        limits = f"{scope.requests_per_second:g} requests a second, {scope.concurrency} at once"
        paused = ""
        if scope.paused_until is not None and scope.paused_until > datetime.now(UTC):
            paused = f"; paused until {output.moment(scope.paused_until)}, as the partner asked"
        yield "scope", f"{scope.name}: {limits}, for {scope.connections} connection(s) together{paused}"
    if scope.daily_limit is not None and scope.resets_at is not None:
        when = f"midnight in {scope.reset_zone}, {output.moment(scope.resets_at)}"
        rests = "; rests until then, and events wait" if scope.spent >= scope.daily_limit else ""
        yield "today", f"{scope.spent} of {scope.daily_limit} calls made, until {when}{rests}"


def _state(of: ConnectionDetails) -> str:
    if of.suspended:
        return "Suspended"
    return of.state if of.ramp_percent is None else f"Recovering at {of.ramp_percent} %"


def _next_probe(of: ConnectionDetails) -> str:
    if of.probe_at is None:
        return (
            "none by itself: correct the cause, then use `integrations connections release`, or publish the spec anew"
        )
    asked = f", asked for by: {of.probe_asked_by}" if of.probe_asked_by else ""
    return f"{output.moment(of.probe_at)}, after {of.probes} failed{asked}"


def _limits(of: ConnectionDetails, throttle: ThrottleSpec) -> str:
    rate, concurrency = of.effective_rps, of.effective_concurrency
    requests = (
        f"{throttle.requests_per_second:g}" if rate is None else f"{rate:.3g} of {throttle.requests_per_second:g}"
    )
    at_once = f"{throttle.concurrency}" if concurrency is None else f"{concurrency} of {throttle.concurrency}"
    return f"{requests} requests a second, {at_once} at once"


def _row(transition: RecordedTransition) -> list[str | Text]:
    return [
        output.moment(transition.at),
        transition.before,
        output.state(transition.after),
        transition.actor,
        str(transition.held),
        transition.reason,
    ]
