"""The ways of proving a request that are no vendor's own.

Standard Webhooks 1.0 (symmetric), an HMAC in a header, HTTP Basic (RFC 7617) and bearer tokens (RFC 6750). Several
secrets are valid at a time, so that a sender can move from one to the next. Every secret is compared with, in constant
time, whatever the first ones said. Basic and bearer prove who sends and nothing about what is sent: TLS has to.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from connectors.inbound import Doubt, InboundRequest, Proof, UnprovenError, check_time, header
from connectors.webhook.signatures import SigningKey, sign

SIGNATURES_AT_MOST: Final = 32

_SECONDS: Final = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """`webhook-id`, `webhook-timestamp` and `webhook-signature`, of which one `v1` signature has to be right."""

    keys: Sequence[SigningKey] = field(repr=False)

    def verify(self, request: InboundRequest) -> Proof:
        """Return how it was proven; raise UnprovenError."""
        id_, timestamp, told = (header(request, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
        if not id_ or not id_.isascii():
            raise UnprovenError(Doubt.MALFORMED)
        seconds = parse_seconds(timestamp)
        check_time(seconds, request.received_at)
        signatures = [each for each in told.split(" ")[:SIGNATURES_AT_MOST] if each.startswith("v1,")]
        ours = [sign([key], id_, seconds, request.body) for key in self.keys]
        require_equal(ours, signatures)
        return Proof("StandardWebhooks", f"{id_}.{seconds}")


class Encoding(StrEnum):
    """How a digest is written."""

    HEX = "Hex"
    BASE64 = "Base64"


class Digest(StrEnum):
    """What an HMAC is made with."""

    SHA256 = "sha256"
    SHA512 = "sha512"


@dataclass(frozen=True, slots=True)
class HmacHeader:
    """An HMAC in a header, after a prefix such as `sha256=`.

    Signed is the body; where the time is sent in a header of its own, `time.body`.
    """

    keys: Sequence[bytes] = field(repr=False)
    signature_header: str
    prefix: str = ""
    digest: Digest = Digest.SHA256
    encoding: Encoding = Encoding.HEX
    timestamp_header: str | None = None

    def verify(self, request: InboundRequest) -> Proof:
        """Return how it was proven; raise UnprovenError."""
        told = header(request, self.signature_header)
        if not told.startswith(self.prefix):
            raise UnprovenError(Doubt.MALFORMED)
        signed, seconds = request.body, None
        if self.timestamp_header is not None:
            seconds = parse_seconds(header(request, self.timestamp_header))
            check_time(seconds, request.received_at)
            signed = f"{seconds}.".encode() + signed
        signature = told.removeprefix(self.prefix)
        require_equal([self._write(hmac.digest(key, signed, self.digest.value)) for key in self.keys], [signature])
        return Proof("Hmac", None if seconds is None else signature)

    def _write(self, digest: bytes) -> str:
        return digest.hex() if self.encoding is Encoding.HEX else b64encode(digest).decode()


@dataclass(frozen=True, slots=True)
class Basic:
    """User and password, each pair as `user:password` (RFC 7617)."""

    pairs: Sequence[str] = field(repr=False)

    def verify(self, request: InboundRequest) -> Proof:
        """Return how it was proven; raise UnprovenError."""
        require_equal([b64encode(pair.encode()).decode() for pair in self.pairs], [credentials(request, "basic")])
        return Proof("Basic")


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token (RFC 6750, 2.1)."""

    tokens: Sequence[str] = field(repr=False)

    def verify(self, request: InboundRequest) -> Proof:
        """Return how it was proven; raise UnprovenError."""
        require_equal(self.tokens, [credentials(request, "bearer")])
        return Proof("Bearer")


def credentials(request: InboundRequest, scheme: str) -> str:
    """Return what follows the scheme (lower-case) in `Authorization`; raise UnprovenError."""
    told = header(request, "authorization")
    named, _, rest = told.partition(" ")
    if named.lower() != scheme:
        raise UnprovenError(Doubt.NO_PROOF)
    if not rest:
        raise UnprovenError(Doubt.MALFORMED)
    return rest


def parse_seconds(text: str) -> int:
    """Read seconds since 1970, written one way only; raise UnprovenError."""
    if _SECONDS.fullmatch(text) is None:
        raise UnprovenError(Doubt.MALFORMED)
    return int(text)


def require_equal(right: Sequence[str], told: Sequence[str]) -> None:
    """Raise UnprovenError unless one of the texts told is right; how long it takes does not tell how far one was."""
    expected = [hashlib.sha256(each.encode()).digest() for each in right]
    found = [hashlib.sha256(each.encode("utf-8", "surrogatepass")).digest() for each in told]
    equal = [hmac.compare_digest(one, other) for one in expected for other in found]
    if not any(equal):
        raise UnprovenError(Doubt.WRONG)
