"""What HubSpot tells an app of: proven by its signatures, and read as changes of companies.

Signatures as HubSpot's page on validating requests has them: v1 and v2 are plain SHA-256 digests over the secret and
what is sent, v3 is an HMAC-SHA256 over method, URI, body and time. Only v3 has a time, so only v3 is taken unless a
connection allows others; where a request carries several that are allowed, the highest counts and no other.

Events are thin and may come twice, late and in any order, in arrays of up to a hundred.
"""

import hashlib
import hmac
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from connectors.inbound import (
    ChangeKind,
    Doubt,
    InboundChange,
    InboundRequest,
    Proof,
    Told,
    UnprovenError,
    check_time,
    header,
    text_of,
    unreadable,
)
from connectors.verification import require_equal

V3_SIGNATURE: Final = "x-hubspot-signature-v3"
V3_TIME: Final = "x-hubspot-request-timestamp"
LEGACY_SIGNATURE: Final = "x-hubspot-signature"
LEGACY_VERSION: Final = "x-hubspot-signature-version"

COMPANY_TYPE: Final = "0-2"

_MILLISECONDS: Final = re.compile(r"[1-9][0-9]{0,13}", re.ASCII)
_DECODED: Final = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
"""The escapes that HubSpot decodes in a URI before it signs, and no other."""


class SignatureVersion(IntEnum):
    """A version of HubSpot's signatures; the higher, the better."""

    V1 = 1
    V2 = 2
    V3 = 3


_LEGACY: Final = {"v1": SignatureVersion.V1, "v2": SignatureVersion.V2}


@dataclass(frozen=True, slots=True)
class HubSpotSignatures:
    """Proves by an app's client secrets, of which several may be valid while one is being replaced."""

    secrets: Sequence[str] = field(repr=False)
    allowed: frozenset[SignatureVersion] = frozenset({SignatureVersion.V3})

    def verify(self, request: InboundRequest) -> Proof:
        """Return how it was proven; raise UnprovenError."""
        version = max(self.allowed & _carried(request), default=None)
        match version:
            case SignatureVersion.V3:
                return self._v3(request)
            case SignatureVersion.V2:
                self._legacy(request, _heads(request))
                return Proof("HubSpotV2")
            case SignatureVersion.V1:
                self._legacy(request, [""])
                return Proof("HubSpotV1")
            case None:
                raise UnprovenError(Doubt.NO_PROOF)

    def _v3(self, request: InboundRequest) -> Proof:
        told, time = header(request, V3_SIGNATURE), header(request, V3_TIME)
        if _MILLISECONDS.fullmatch(time) is None:
            raise UnprovenError(Doubt.MALFORMED)
        check_time(int(time) / 1000, request.received_at)
        right = [
            b64encode(hmac.digest(secret.encode(), head.encode() + request.body + time.encode(), "sha256")).decode()
            for secret in self.secrets
            for head in _heads(request)
        ]
        require_equal(right, [told])
        return Proof("HubSpotV3", told)

    def _legacy(self, request: InboundRequest, heads: Sequence[str]) -> None:
        told = header(request, LEGACY_SIGNATURE)
        right = [
            hashlib.sha256(f"{secret}{head}".encode() + request.body).hexdigest()
            for secret in self.secrets
            for head in heads
        ]
        require_equal(right, [told])


def _carried(request: InboundRequest) -> frozenset[SignatureVersion]:
    carried = set()
    if V3_SIGNATURE in request.headers:
        carried.add(SignatureVersion.V3)
    named = request.headers.get(LEGACY_VERSION, "v1")
    if LEGACY_SIGNATURE in request.headers and named in _LEGACY:
        carried.add(_LEGACY[named])
    return frozenset(carried)


def _heads(request: InboundRequest) -> list[str]:
    """Return the method and the URI as HubSpot may have signed it: decoded as it says, or as it was called."""
    decoded = _DECODED.sub(lambda found: unquote(found[0]), request.url)
    return [f"{request.method}{uri}" for uri in dict.fromkeys((decoded, request.url))]


class _Event(BaseModel):
    """One event; what is not read here may be anything."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    subscription_type: str = Field(alias="subscriptionType", max_length=128)
    subscription_id: int = Field(alias="subscriptionId", default=0)
    portal_id: int = Field(alias="portalId")
    occurred_at: int = Field(alias="occurredAt", ge=0, le=10**14)
    object_id: int | None = Field(alias="objectId", default=None, ge=0)
    object_type: str | None = Field(alias="objectTypeId", default=None, max_length=64)
    property_name: str | None = Field(alias="propertyName", default=None, max_length=512)
    property_value: str | int | float | bool | None = Field(alias="propertyValue", default=None)
    change_source: str | None = Field(alias="changeSource", default=None)
    source_id: str | None = Field(alias="sourceId", default=None)
    primary: int | None = Field(alias="primaryObjectId", default=None)
    merged: list[int] = Field(alias="mergedObjectIds", default_factory=list, max_length=1_000)
    new: int | None = Field(alias="newObjectId", default=None)

    @property
    def is_about_companies(self) -> bool:
        """Whether it is about a company, in the older form of subscriptions or in the generic one."""
        subject = self.subscription_type.partition(".")[0]
        return subject == "company" or (subject == "object" and self.object_type == COMPANY_TYPE)


_EVENTS: Final = TypeAdapter(list[_Event])


def read_events(body: bytes, app_id: str | None = None) -> Told:
    """Return the changes that a body tells of; with our app's id, what we wrote is known as such.

    Raise UnreadableError. Merges say where each of the merged companies went; companies are told by their ids alone.
    """
    try:
        events = _EVENTS.validate_json(body)
    except ValidationError as error:
        raise unreadable("HubSpot's events", error) from None
    told = [change for event in events if event.is_about_companies for change in _changes(event, app_id)]
    about_others = sum(not event.is_about_companies for event in events)
    return Told(tuple({change.key: change for change in told}.values()), about_others)


def _changes(event: _Event, app_id: str | None) -> Iterator[InboundChange]:
    kind = event.subscription_type.partition(".")[2]
    at = event.occurred_at / 1000
    echo = event.change_source == "INTEGRATION" and app_id is not None and event.source_id == app_id
    if kind == "merge":
        into = event.new if event.new is not None else event.primary
        for gone in dict.fromkeys([*event.merged, *([] if event.primary is None else [event.primary])]):
            if into is not None and gone != into:
                key = _key(event, gone, into)
                yield InboundChange(key, ChangeKind.MERGED, str(gone), at, into=str(into), echo=echo)
        return
    named = _KINDS.get(kind)
    if named is None or event.object_id is None:
        return
    key = _key(event, event.object_id, event.property_name, event.property_value)
    changed = (event.property_name, text_of(event.property_value)) if named is ChangeKind.CHANGED else (None, None)
    yield InboundChange(key, named, str(event.object_id), at, *changed, echo=echo)


_KINDS: Final = {
    "creation": ChangeKind.CREATED,
    "restore": ChangeKind.CREATED,
    "propertyChange": ChangeKind.CHANGED,
    "deletion": ChangeKind.DELETED,
    "privacyDeletion": ChangeKind.DELETED,
}


def _key(event: _Event, *parts: Any) -> str:
    """Return what is the same in every sending: `eventId` is not, and attempts are numbered."""
    said = (event.portal_id, event.subscription_id, event.subscription_type, event.occurred_at, *parts)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
