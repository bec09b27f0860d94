"""The status of an IntegrationConnection: what the operator tells people and programs about it.

These models are the one source of the status' shape; the custom resource definition follows from them. Every field
is bounded, because what a partner answered may end here. Unlike in a spec, unknown fields are passed over: an older
operator has to read what a newer one wrote.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints
from pydantic.alias_generators import to_camel


class StatusModel(BaseModel):
    """A part of the status: open, immutable, camelCase on the wire."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


def _write_timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Timestamp = Annotated[AwareDatetime, PlainSerializer(_write_timestamp, return_type=str, when_used="json")]
"""An aware time in Python; on the wire in UTC and whole seconds, as Kubernetes writes its own."""

Generation = Annotated[int, Field(ge=-1, le=2**63 - 1)]
AnsweredRequest = Annotated[str, StringConstraints(max_length=253)]


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One aspect of the object, in the form that all of Kubernetes uses."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    """What it is about, such as Ready."""
    status: ConditionStatus
    """Whether it holds."""
    observed_generation: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """Generation of the spec that this was found out for."""
    last_transition_time: Timestamp
    """When `status` changed last."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_]*)$")]
    """Why, in one word for programs."""
    message: Annotated[str, StringConstraints(max_length=4096)]
    """Why, and what to do next, in words for people."""


class EffectiveThrottle(StatusModel):
    """How fast the partner is called at present, told in halves of the spec's limits, so that it changes seldom."""

    requests_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Requests that are started each second, at most."""
    burst: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """Requests that may be started at once after a pause."""
    concurrency: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """Requests in flight at once, at most."""


class Quarantine(StatusModel):
    """That deliveries are stopped because the partner kept failing."""

    since: Timestamp
    """When they were stopped."""
    reason: Annotated[str, StringConstraints(max_length=1024)]
    """What the partner answered last, in words."""


class Drain(StatusModel):
    """That the connection is deleted and delivers what is left."""

    since: Timestamp
    """When it was deleted."""
    deadline: Timestamp
    """When what is still left becomes dead letters."""


class EndpointCheckStep(StatusModel):
    """One step on the way to the partner."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    """credentials, resolve, vet, connect, tls, request, status or account."""
    passed: bool
    """Whether it went well."""
    milliseconds: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """What it took."""
    found: Annotated[str, StringConstraints(max_length=512)]
    """What was found."""
    advice: Annotated[str, StringConstraints(max_length=512)] | None = None
    """What to do, if it did not go well."""


class EndpointCheck(StatusModel):
    """What came of the last test event that was asked for by the annotation integrations.queast.io/testAt."""

    at: Timestamp
    """When the test ended."""
    passed: bool
    """Whether the partner took the test event."""
    message: Annotated[str, StringConstraints(max_length=1024)]
    """What came of it in one sentence, and what to do."""
    steps: Annotated[tuple[EndpointCheckStep, ...], Field(max_length=16)] = ()
    """The steps that were taken, in order; the last one decides."""


class ConnectionStatus(StatusModel):
    """What became of the spec."""

    observed_generation: Generation = -1
    """Generation of the spec that this status is about; -1 until the operator has seen the connection."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """The aspects of the connection; Ready sums them up."""
    state: Annotated[str, StringConstraints(max_length=63)] | None = None
    """What the connection does, in one word, such as Delivering, Resting, Quarantined, Draining or Invalid."""
    pool: Annotated[str, StringConstraints(max_length=317)] | None = None
    """The workers that deliver for it: namespace and name of their Deployment."""
    observed_secret_hash: Annotated[str, StringConstraints(max_length=128)] | None = None
    """Fingerprint of the credentials in use; changes when one of them does."""
    routing_epoch: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """Number of the published routing that the spec is part of."""
    effective_throttle: EffectiveThrottle | None = None
    """How fast the partner is called at present."""
    quarantine: Quarantine | None = None
    """Only while deliveries are stopped because the partner kept failing."""
    drain: Drain | None = None
    """Only while the connection is deleted and delivers what is left."""
    endpoint_check: EndpointCheck | None = None
    """What came of the last test of the partner's endpoint."""
    last_handled_reconcile_at: AnsweredRequest | None = None
    """Value of the annotation integrations.queast.io/reconcileAt that was answered last."""
    last_handled_release_at: AnsweredRequest | None = None
    """Value of the annotation integrations.queast.io/releaseAt that was answered last."""
    last_handled_test_at: AnsweredRequest | None = None
    """Value of the annotation integrations.queast.io/testAt that was answered last, by endpointCheck."""
