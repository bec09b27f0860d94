"""The parts of a connection's spec that say which events are delivered, and how."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    Field,
    Strict,
    StringConstraints,
    model_validator,
)

from contracts.durations import Duration, DurationBounds
from contracts.patterns import EVENT_TYPE_LIMIT, EVENT_TYPE_PATTERN
from contracts.spec_values import ACTION, refuse_repeated
from contracts.throttle import ThrottleSpec
from contracts.wire import DNS_LABEL, WireModel


class Ordering(StrEnum):
    """Whether jobs of one subject wait for each other."""

    PER_SUBJECT = "PerSubject"
    """Jobs of one subject are delivered in event order; a failing subject holds back only itself."""
    UNORDERED = "Unordered"
    """No job waits for another."""


class OnDeadLetter(StrEnum):
    """What becomes of the later jobs of a subject when one of its jobs is given up."""

    PASS = "Pass"  # noqa: S105 -- no password
    """They are delivered without it."""
    BLOCK = "Block"
    """They wait until a person resends or discards it."""


TypePattern = Annotated[str, StringConstraints(min_length=1, max_length=EVENT_TYPE_LIMIT, pattern=EVENT_TYPE_PATTERN)]


class FieldEntry(WireModel):
    """What one property of the partner is set to."""

    property: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """Name of the partner's property, once in a route."""
    value: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    """CEL expression over `event`. Null clears the property; a field that the event does not have leaves it alone."""


class RouteSpec(WireModel):
    """A rule that selects events and says what to do with them."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Name of the route, once in a connection; part of the idempotency key, so a renamed route is a new one."""
    events: Annotated[tuple[TypePattern, ...], Field(min_length=1, max_length=32)]
    """Event types: exact (`company.updated`), by prefix (`company.*`), or `*`."""
    filter: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    """CEL expression over `event`; the events for which it is true are delivered."""
    action: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=ACTION)] | None = None
    """What the connector shall do; its default action if left out."""
    fields: Annotated[tuple[FieldEntry, ...], Field(max_length=100)] = ()
    """What the partner's properties are set to, for actions that take fields; if left out, the connector chooses."""
    ordering: Ordering = Ordering.PER_SUBJECT
    """Whether jobs of one subject wait for each other: PerSubject delivers them in event order, Unordered does not."""
    on_dead_letter: OnDeadLetter = OnDeadLetter.PASS
    """What becomes of the later jobs of a subject when one of this route is given up: Pass delivers them without it,
    Block has them wait until a person resends or discards it."""
    collapse: Annotated[bool, Strict()] = False
    """Let a newer event of the same type and subject supersede older ones that are not delivered yet; those are
    recorded as superseded."""

    @model_validator(mode="after")
    def _properties_are_unique(self) -> Self:
        refuse_repeated("property", [field.property for field in self.fields])
        return self

    @model_validator(mode="after")
    def _subjects_are_ordered(self) -> Self:
        if self.ordering is Ordering.UNORDERED and (self.collapse or self.on_dead_letter is OnDeadLetter.BLOCK):
            raise ValueError("collapse and onDeadLetter: Block need ordering: PerSubject; this route is Unordered")
        return self


class RetrySpec(WireModel):
    """What happens after a failed attempt: exponential delays with full jitter, or a schedule."""

    max_attempts: Annotated[int, Strict(), Field(ge=1, le=100)] = 12
    """Attempts before a job becomes a dead letter."""
    schedule: (
        Annotated[tuple[Annotated[Duration, DurationBounds("100ms", "168h")], ...], Field(min_length=1, max_length=32)]
        | None
    ) = None
    """The delays after the first, second, … failed attempt, in the place of initialDelay and maxDelay; the last one
    goes on for as long as maxAttempts allows. Each is lengthened at random by up to a tenth."""
    expire_after: Annotated[Duration, DurationBounds("1s", "720h")] | None = None
    """How long after its event a job may still be tried; then it becomes a dead letter with the reason Expired."""
    initial_delay: Annotated[Duration, DurationBounds("100ms", "1h")] = timedelta(seconds=5)
    """Bound of the first delay; it doubles with each attempt."""
    max_delay: Annotated[Duration, DurationBounds("100ms", "168h")] = timedelta(hours=10)
    """Bound of any delay."""
    retry_after_max: Annotated[Duration, DurationBounds("1s", "168h")] = timedelta(hours=24)
    """The longest wait that a partner can ask for and is granted in full."""

    @model_validator(mode="after")
    def _delays_grow(self) -> Self:
        if self.initial_delay > self.max_delay:
            raise ValueError("initialDelay must not be longer than maxDelay")
        return self


class FailureRateSpec(WireModel):
    """A part of the recent attempts that fails."""

    percent: Annotated[int, Strict(), Field(ge=1, le=100)] = 50
    """Failed attempts of a hundred that stop the connection."""
    window: Annotated[Duration, DurationBounds("10s", "24h")] = timedelta(minutes=5)
    """Time over which attempts are counted."""
    minimum_attempts: Annotated[int, Strict(), Field(ge=1, le=100_000)] = 20
    """Attempts within the window below which nothing is concluded."""


class RampSpec(WireModel):
    """How a connection comes back from quarantine: with 10, 25 and 50 percent of its limits, then with all of them."""

    successes: Annotated[int, Strict(), Field(ge=1, le=10_000)] = 20
    """Deliveries that complete a step."""
    duration: Annotated[Duration, DurationBounds("1s", "24h")] = timedelta(minutes=1)
    """Time without a failure that completes a step as well."""


class QuarantineSpec(WireModel):
    """When a failing connection is stopped, how often it is tried again, and how it comes back."""

    consecutive_failures: Annotated[int, Strict(), Field(ge=1, le=10_000)] = 10
    """Failed attempts in a row, over all jobs, that stop the connection."""
    failure_rate: FailureRateSpec | None = None
    """A rate of failures that stops the connection as well, however few come in a row."""
    probe_interval: Annotated[Duration, DurationBounds("1s", "24h")] = timedelta(minutes=5)
    """Time between two probes of a stopped connection; it doubles with each failed probe, up to an hour."""
    ramp: RampSpec = RampSpec()
    """How the connection comes back."""


class DeliverySpec(WireModel):
    """How jobs are delivered."""

    throttle: ThrottleSpec = ThrottleSpec()
    """How fast the partner is called."""
    retry: RetrySpec = RetrySpec()
    """What happens after a failed attempt."""
    quarantine: QuarantineSpec = QuarantineSpec()
    """When the connection is stopped."""
    weight: Annotated[int, Strict(), Field(ge=1, le=100)] = 1
    """Share of the tenant's turns that the connection gets beside the tenant's other connections."""
    timeout: Annotated[Duration, DurationBounds("100ms", "120s")] = timedelta(seconds=15)
    """Time that one attempt may take."""
