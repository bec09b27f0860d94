"""The spec of an IntegrationReplay: what a person writes to have events delivered again.

As with a connection, the model is the one source of the document's shape, and everything is bounded. A replay is asked
for once: its spec stays as it was written, but for `cancel`, which ends it, and how long it is kept when it has ended.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    Strict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from contracts import connection
from contracts.delivery_spec import TypePattern
from contracts.durations import Duration, DurationBounds
from contracts.errors import InvalidSpecError
from contracts.ids import TenantId
from contracts.problems import Problem, describe, problems_of
from contracts.spec_values import DNS_SUBDOMAIN
from contracts.wire import DNS_LABEL, WireModel

_HEX_BIGINT: Final = "([0-7][0-9a-f]{15}|[0-9a-f]{1,15})"
EVENT_ID: Final = f"^evt_{_HEX_BIGINT}_[0-9a-f]{{8}}$"
JOB_ID: Final = f"^job_{_HEX_BIGINT}_{_HEX_BIGINT}$"
TIME: Final = (
    r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
CAUSE: Final = r"^[A-Z][A-Za-z]*$"
WORDS: Final = r"^[^\x00]*[^\x00-\x20][^\x00]*$"

MEANINGS: Final[Mapping[str, str]] = {
    **connection.MEANINGS,
    EVENT_ID: "the id of an event, such as evt_1f_0a1b2c3d",
    JOB_ID: "the id of a job, such as job_1f_2c",
    TIME: "a time with its zone, such as 2026-01-31T10:00:00Z or 2026-01-31T11:00:00+01:00",
    CAUSE: "a word such as Invalid, as `integrations dead-letters list --by-cause` tells it",
    WORDS: "text that is not blank, without the character U+0000",
}
"""What each pattern of a spec means, in words for the person whose value does not match it."""

SELECTS_NOTHING: Final = (
    "say what is to be delivered again: types, since, until, events, jobs or deadLetters; everything is types: ['*']"
)
JOBS_STAND_ALONE: Final = "ids of jobs say exactly what is meant; leave the other conditions out"
LETTERS_HAVE_NO_EVENTS: Final = "dead letters are selected by cause, types and time; name single ones under jobs"
CAUSE_NEEDS_LETTERS: Final = "a cause is one of dead letters; it needs deadLetters: true"
SINCE_IS_BEFORE_UNTIL: Final = "since must be before until"

FIXED_FIELDS: Final = (
    "tenant",
    "connection",
    "selection",
    "includeSuperseded",
    "newMessageIds",
    "dryRun",
    "reason",
    "requestedBy",
)
"""What stays as it was written."""


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(TIME.strip("^$"), value):
        with suppress(ValueError):  # that month has no such day
            return datetime.fromisoformat(value)
    raise ValueError(f"allowed: {MEANINGS[TIME]}")


def _write_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Time = Annotated[
    datetime,
    BeforeValidator(_read_time),
    PlainSerializer(_write_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "maxLength": 32, "pattern": TIME}),
]
"""An aware datetime in Python; on the wire as RFC 3339 has it, to the microsecond."""

EventIdText = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=EVENT_ID)]
JobIdText = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=JOB_ID)]


class ReplaySelection(WireModel):
    """What is delivered again; all conditions must hold, and there must be one."""

    types: Annotated[tuple[TypePattern, ...], Field(min_length=1, max_length=32)] | None = None
    """Event types: exact (`company.updated`), by prefix (`company.*`), or `*`."""
    since: Time | None = None
    """Events that were emitted at this time or later, or dead letters that were given up then."""
    until: Time | None = None
    """Those before this time; what comes after the replay has started is never part of it."""
    events: Annotated[tuple[EventIdText, ...], Field(min_length=1, max_length=1000)] | None = None
    """Events by their ids."""
    jobs: Annotated[tuple[JobIdText, ...], Field(min_length=1, max_length=1000)] | None = None
    """Jobs that were delivered or given up, by their ids, along the route they had; without any other condition."""
    dead_letters: Annotated[bool, Strict()] = False
    """Not events, but what was given up and kept; each is then no dead letter any more."""
    cause: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=CAUSE)] | None = None
    """Why dead letters were given up, such as Invalid."""

    @model_validator(mode="after")
    def _is_one_selection(self) -> Self:
        others = (self.types, self.since, self.until, self.events, self.cause)
        if self.jobs is None and not self.dead_letters and not any(others):
            raise ValueError(SELECTS_NOTHING)
        if self.jobs is not None and (self.dead_letters or any(others)):
            raise ValueError(JOBS_STAND_ALONE)
        if self.dead_letters and self.events is not None:
            raise ValueError(LETTERS_HAVE_NO_EVENTS)
        if self.cause is not None and not self.dead_letters:
            raise ValueError(CAUSE_NEEDS_LETTERS)
        if self.since and self.until and self.since >= self.until:
            raise ValueError(SINCE_IS_BEFORE_UNTIL)
        return self


class ReplaySpec(WireModel):
    """What the person wants delivered again, to whom, and why. Only cancel and ttlAfterFinished can be changed."""

    tenant: Annotated[TenantId, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """The tenant whose events are delivered again; the namespace must be labelled for it."""
    selection: ReplaySelection
    """What is delivered again."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=WORDS)]
    """Why; it is kept with what comes of it."""
    connection: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)] | None = None
    """The connection of this namespace to deliver to; all that the tenant has in this namespace if left out."""
    dry_run: Annotated[bool, Strict()] = False
    """Count what would be delivered again, and deliver nothing."""
    include_superseded: Annotated[bool, Strict()] = False
    """Deliver events too that a newer one of their subject has overtaken; they overwrite it at the partner."""
    new_message_ids: Annotated[bool, Strict()] = False
    """Deliver under new message ids, so that a partner does not discard what it has already."""
    requested_by: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=WORDS)] | None = None
    """Who wants it, such as an e-mail address; the object's own name if left out."""
    cancel: Annotated[bool, Strict()] = False
    """Deliver nothing more; the few jobs that are queued already are still delivered. Cannot be taken back."""
    ttl_after_finished: Annotated[Duration, DurationBounds("0s", "8760h")] | None = None
    """How long after its end the object is deleted; it stays if this is left out."""


def parse_replay_spec(document: object) -> ReplaySpec:
    """Read a spec in its wire form (camelCase); raise InvalidSpecError with every problem found."""
    if not isinstance(document, dict):
        raise InvalidSpecError((Problem("spec", f"found {describe(document)}; a mapping is required"),))
    try:
        return ReplaySpec.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidSpecError(problems_of(error, ReplaySpec, root="spec", meanings=MEANINGS)) from error
