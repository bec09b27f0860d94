"""From everything known about a connection to its status: pure, so that the same facts always give the same words.

Conditions follow kstatus: Reconciling and Stalled exist only while they are true. Stalled is what only a person can
end, by changing the object or what it depends on. A quarantine makes a connection not Ready, but not Stalled: it heals
by itself when the partner does, and must not fail the deployment of a whole release.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contracts.status import (
    Condition,
    ConditionStatus,
    ConnectionStatus,
    Drain,
    EffectiveThrottle,
    EndpointCheck,
    Quarantine,
)
from contracts.throttle import ThrottleSpec
from integration_operator.conditions import LONGEST_MESSAGE, Found, cut, dated
from integration_operator.kube import Json
from integration_operator.names import CREDENTIALS_LABEL, TENANT_CLAIM_PREFIX, ObjectKey
from integration_operator.observed import ConnectionObject
from store.standing import AS_THE_SPEC_SAYS, Standing


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is known of the Secrets: which references lead nowhere, what is wrong with the others, a digest of all."""

    digest: str
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndedCheck:
    """A test of a partner's endpoint that has ended: which request asked for it, and what came of it."""

    request: str
    result: EndpointCheck


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a status is concluded from."""

    connection: ConnectionObject
    claimed: bool
    problems: tuple[str, ...]
    credentials: Credentials | None = None
    pool: ObjectKey | None = None
    epoch: int | None = None
    refusal: str | None = None
    database_error: str | None = None
    workers_problem: str | None = None
    standing: Standing = AS_THE_SPEC_SAYS
    drain_deadline: datetime | None = None
    check: EndedCheck | None = None


def conclude(facts: Facts, now: datetime) -> Json:
    """Return the status in its wire form; what has not changed keeps its time of transition."""
    connection = facts.connection
    spec = connection.spec
    moment = now.astimezone(UTC).replace(microsecond=0)
    conditions = dated(_conditions(facts), connection.generation, connection.status, moment)
    ready = conditions[0]
    credentials = facts.credentials
    throttle = spec.delivery.throttle if spec else None
    status = ConnectionStatus(
        observed_generation=connection.generation,
        conditions=conditions,
        state=_state(facts, ready),
        pool=str(facts.pool) if facts.pool else None,
        observed_secret_hash=credentials.digest if credentials and not credentials.missing else None,
        routing_epoch=facts.epoch,
        effective_throttle=throttle
        and _in_force(throttle, facts.standing, connection.status.get("effectiveThrottle") or {}),
        quarantine=_quarantine(facts.standing),
        drain=Drain(since=connection.deleted_at, deadline=facts.drain_deadline)
        if connection.deleted_at and facts.drain_deadline
        else None,
        last_handled_reconcile_at=connection.reconcile_at,
        last_handled_release_at=connection.release_at,
        endpoint_check=facts.check.result if facts.check else None,
        last_handled_test_at=facts.check.request if facts.check else None,
    )
    # What came of a test stays until the next one.
    told = {} if facts.check else {name: connection.status.get(name) for name in ("endpointCheck", "lastHandledTestAt")}
    return status.model_dump(mode="json", exclude_none=True) | {
        name: former for name, former in told.items() if former is not None
    }


def _conditions(facts: Facts) -> list[Found]:
    details = [*_credentials(facts), *_routing(facts), *_workers(facts), *_runtime(facts)]
    ready = _ready(facts, details)
    found = [ready]
    if ready[1] is ConditionStatus.FALSE:
        if ready[2] in _STALLING:
            found.append(("Stalled", ConditionStatus.TRUE, ready[2], ready[3]))
        elif ready[2] in _MOVING:
            found.append(("Reconciling", ConditionStatus.TRUE, ready[2], ready[3]))
    return [*found, *details]


_STALLING: Final = frozenset({"InvalidSpec", "ForbiddenTenant", "ImmutableField"})
_MOVING: Final = frozenset({"Publishing", "DatabaseUnavailable", "Draining"})


def _ready(facts: Facts, details: Sequence[Found]) -> Found:
    connection = facts.connection
    no = ConditionStatus.FALSE
    if facts.drain_deadline is not None:
        message = (
            f"deleted; delivers what is left, until {facts.drain_deadline:%Y-%m-%dT%H:%M:%SZ} at the latest;"
            " what is left then becomes dead letters"
        )
        return "Ready", no, "Draining", message
    if not facts.claimed and connection.spec:
        tenant, namespace = connection.spec.tenant, connection.key.namespace
        message = (
            f"namespace {namespace} may not hold connections of tenant {tenant}; if it should, a cluster administrator"
            f" runs: kubectl label namespace {namespace} {TENANT_CLAIM_PREFIX}{tenant}="
        )
        return "Ready", no, "ForbiddenTenant", message
    if facts.problems:
        return "Ready", no, "InvalidSpec", "; ".join(facts.problems)
    if facts.refusal is not None:
        return "Ready", no, "ImmutableField", facts.refusal
    for type_, status, reason, message in details:
        healthy = ConditionStatus.FALSE if type_ == "Quarantined" else ConditionStatus.TRUE
        if status is not healthy:
            return "Ready", no, reason, message
    if connection.spec and connection.spec.suspend:
        return "Ready", ConditionStatus.TRUE, "Suspended", "suspended as its spec says; events wait until it is resumed"
    for type_, status, reason, message in details:
        if type_ == "BudgetSpent":
            return "Ready", status, reason, message
    return "Ready", ConditionStatus.TRUE, "Ready", "events are routed and delivered"


def _credentials(facts: Facts) -> Iterator[Found]:
    credentials = facts.credentials
    if credentials is None:
        return
    if credentials.missing:
        names = cut(", ".join(credentials.missing))
        message = f"not found: {names}; create it, and deliveries go on by themselves; until then events wait"
        yield "CredentialsValid", ConditionStatus.FALSE, "CredentialsMissing", message
    elif credentials.problems:
        message = (
            cut("; ".join(credentials.problems)) + "; the value used before, if any, stays in use; correct the Secret"
        )
        yield "CredentialsValid", ConditionStatus.FALSE, "CredentialsInvalid", message
    elif credentials.unwatched:
        names = cut(", ".join(credentials.unwatched))
        message = f"present; label Secret {names} with {CREDENTIALS_LABEL}=true, and changes are noticed at once"
        yield "CredentialsValid", ConditionStatus.TRUE, "Unwatched", message
    else:
        yield "CredentialsValid", ConditionStatus.TRUE, "Valid", "all referenced keys are present"


def _routing(facts: Facts) -> Iterator[Found]:
    if facts.problems or not facts.claimed:
        return
    if facts.drain_deadline is not None:
        yield "RoutingPublished", ConditionStatus.FALSE, "Draining", "deleted; takes in no new events"
    elif facts.refusal is not None:
        yield "RoutingPublished", ConditionStatus.FALSE, "ImmutableField", facts.refusal
    elif facts.database_error is not None:
        message = f"{cut(facts.database_error)}; it is tried again until the database answers"
        yield "RoutingPublished", ConditionStatus.FALSE, "DatabaseUnavailable", message
    elif facts.epoch is None:
        yield "RoutingPublished", ConditionStatus.FALSE, "Publishing", "the routing is about to be published"
    else:
        yield "RoutingPublished", ConditionStatus.TRUE, "Published", "events are routed by this spec"


def _workers(facts: Facts) -> Iterator[Found]:
    if facts.pool is None or facts.problems or not facts.claimed:
        return
    if facts.workers_problem is not None:
        yield "WorkersAvailable", ConditionStatus.FALSE, "WorkersUnavailable", facts.workers_problem
    else:
        yield (
            "WorkersAvailable",
            ConditionStatus.TRUE,
            "Available",
            f"pool {facts.pool} works whenever there are events",
        )


def _runtime(facts: Facts) -> Iterator[Found]:
    standing = facts.standing
    if standing.quarantined_at is not None:
        since, reason = standing.quarantined_at, standing.quarantine_reason or ""
        tried_again = "tried again from time to time," if standing.is_probed else "tried again only"
        message = (
            f"deliveries are stopped since {since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, events wait: {cut(reason)};"
            f" {tried_again} when a credential changes, and on request by the annotation releaseAt"
        )
        yield "Quarantined", ConditionStatus.TRUE, "Quarantined", message
    if standing.rests_until is not None:
        message = (
            f"the {standing.daily_limit} calls of this day are made; deliveries go on at"
            f" {standing.rests_until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, events wait; a larger"
            " delivery.throttle.dailyBudget ends that at once"
        )
        yield "BudgetSpent", ConditionStatus.TRUE, "DailyBudgetSpent", message
    if standing.dead_letters:
        namespace, name = facts.connection.key.namespace, facts.connection.key.name
        message = (
            "deliveries were given up and are kept; look at them, and resend or discard them: integrations dead-letters"
            f" list --connection {namespace}/{name}"
        )
        yield "DeadLetters", ConditionStatus.TRUE, "Waiting", message
    if facts.connection.spec and facts.connection.spec.suspend:
        yield "Suspended", ConditionStatus.TRUE, "Suspended", "spec.suspend is true; events wait"


def _in_force(spec: ThrottleSpec, standing: Standing, former: Json) -> EffectiveThrottle:
    rate = _told(standing.rate, spec.requests_per_second, former.get("requestsPerSecond"))
    concurrency = _told(standing.concurrency, spec.concurrency, former.get("concurrency"))
    return EffectiveThrottle(requests_per_second=rate, burst=spec.burst, concurrency=math.ceil(concurrency))


def _told(limit: float | None, ceiling: float, former: float | None) -> float:
    """Return what to tell of a limit: it moves all the time, between the half and the whole of what a partner bears.

    So what was told stays until the limit has left that range; then the ceiling is halved as often as it takes.
    """
    if limit is None:
        return ceiling
    known = min(former or ceiling, ceiling)
    if known / 2 <= limit < known * 2:
        return known
    halvings = math.floor(math.log2(ceiling / limit))
    return math.ldexp(ceiling, -max(0, halvings))


def _quarantine(standing: Standing) -> Quarantine | None:
    if standing.quarantined_at is None:
        return None
    reason = (standing.quarantine_reason or "")[:LONGEST_MESSAGE]
    return Quarantine(since=standing.quarantined_at.replace(microsecond=0), reason=reason)


def _state(facts: Facts, ready: Condition) -> str:
    if facts.drain_deadline is not None:
        return "Draining"
    if ready.reason in _STALLING:
        return "Invalid"
    if facts.connection.spec and facts.connection.spec.suspend:
        return "Suspended"
    if facts.standing.quarantined_at is not None:
        return "Quarantined"
    if facts.standing.rests_until is not None and ready.status is ConditionStatus.TRUE:
        return "Resting"
    if ready.status is ConditionStatus.TRUE:
        return "Delivering"
    return "Waiting"
