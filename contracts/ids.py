"""Ids as distinct types, so that a job can never be taken for an event.

Internal ids are PostgreSQL bigints: short in every row and index. What people and partners see is a *public* id,
which adds a random part: a database restored to an earlier moment hands out the same bigints again, and a partner
that de-duplicates must not mistake a new event for the old one of that number.
"""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import NewType
from uuid import UUID

TenantId = NewType("TenantId", str)
ConnectionId = NewType("ConnectionId", int)
ConnectionUid = NewType("ConnectionUid", UUID)
RouteId = NewType("RouteId", int)
PoolId = NewType("PoolId", int)
SessionId = NewType("SessionId", int)
EventId = NewType("EventId", int)
JobId = NewType("JobId", int)
ReplayId = NewType("ReplayId", int)
ScopeId = NewType("ScopeId", int)
ReplayUid = NewType("ReplayUid", UUID)
PublicEventId = NewType("PublicEventId", str)
PublicJobId = NewType("PublicJobId", str)
MessageId = NewType("MessageId", str)


_EVENT = re.compile(r"evt_([0-9a-f]{1,16})_[0-9a-f]{8}")
_JOB = re.compile(r"job_([0-9a-f]{1,16})_([0-9a-f]{1,16})")


class MalformedIdError(ValueError):
    """Text that is not an id of the expected kind."""


def public_event_id(event: EventId, nonce: int) -> PublicEventId:
    """Write an event's id and nonce (signed 32 bits) as `evt_<hex>_<8 hex>`."""
    return PublicEventId(f"evt_{event:x}_{nonce & 0xFFFFFFFF:08x}")


def parse_event_id(text: str) -> EventId:
    """Read the internal id out of `evt_…`; raise MalformedIdError for anything else."""
    match = _EVENT.fullmatch(text)
    if match is None:
        raise MalformedIdError(f"{text!r} is not an event id; they look like evt_1f_0a1b2c3d")
    return EventId(_bigint(match[1], text))


def public_job_id(event: EventId, job: JobId) -> PublicJobId:
    """Write a job's id as `job_<event hex>_<job hex>`; the event part finds its history by index."""
    return PublicJobId(f"job_{event:x}_{job:x}")


def parse_job_id(text: str) -> tuple[EventId, JobId]:
    """Read event and job out of `job_…`; raise MalformedIdError for anything else."""
    match = _JOB.fullmatch(text)
    if match is None:
        raise MalformedIdError(f"{text!r} is not a job id; they look like job_1f_2c")
    return EventId(_bigint(match[1], text)), JobId(_bigint(match[2], text))


def message_id(connection: ConnectionUid, event: PublicEventId, route: str) -> MessageId:
    """Derive the idempotency key (connection, event, route) that the partner sees, equal in every attempt."""
    key = hashlib.blake2b(f"{event} {route}".encode(), key=connection.bytes, digest_size=15).digest()
    return MessageId("msg_" + urlsafe_b64encode(key).decode())


def replayed_message_id(message: MessageId, replay: ReplayId) -> MessageId:
    """Derive the key of the same message as a replay sends it under an id of its own."""
    return MessageId(f"{message}_r{replay:x}")


def batch_message_id(messages: Sequence[MessageId]) -> MessageId:
    """Derive the key of a request with these messages, whatever their order; that of one message is its own."""
    if len(messages) == 1:
        return messages[0]
    key = hashlib.blake2b(" ".join(sorted(messages)).encode(), digest_size=15).digest()
    return MessageId("msgs_" + urlsafe_b64encode(key).decode())


def _bigint(digits: str, text: str) -> int:
    number = int(digits, 16)
    if number >= 2**63:
        raise MalformedIdError(f"{text!r} is not an id: its number is too large")
    return number
