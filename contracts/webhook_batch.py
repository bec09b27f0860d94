"""How many events a webhook receiver is sent in one request."""

from datetime import timedelta
from typing import Annotated, Final

from pydantic import Field, Strict

from contracts.durations import Duration, DurationBounds
from contracts.wire import WireModel

BATCH_NEEDS_CLOUD_EVENTS: Final = (
    "batch needs format: CloudEvents, because the other formats hold one event in a request; "
    "set the format, or leave batch out"
)


class WebhookBatch(WireModel):
    """How large a request may become, and how long an event may wait for others."""

    max_items: Annotated[int, Strict(), Field(ge=1, le=1_000)] = 100
    """Events in one request at most."""
    max_bytes: Annotated[int, Strict(), Field(ge=1_000, le=4_000_000)] = 500_000
    """Bytes of one request at most, with 512 allowed for what surrounds the data of an event; a larger event goes
    alone."""
    max_delay: Annotated[Duration, DurationBounds("0s", "10s")] = timedelta(seconds=1)
    """How long an event may wait for others while fewer than maxItems are there; with 0s, what is there goes."""
