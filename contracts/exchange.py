"""What of a request and its answer is kept with an attempt, for whoever asks what was sent and what was answered.

Every attempt keeps the digest of its body and its timings, which cost little. One that did not deliver keeps the
particulars, too. Nothing in here is a secret: see `connectors.recording`, which writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Particulars:
    """Method, place and headers; `address` is without path and query, values of headers are there if they are safe."""

    method: str
    address: str
    request_headers: Mapping[str, str]
    response_headers: Mapping[str, str]


class Exchange(NamedTuple):
    """One request and its answer; None stands for what was not measured or did not happen.

    `body_digest` is the SHA-256 of the body that was sent, or was to be. `resolving_seconds` is what finding the host's
    addresses took, None if they were known. `answering_seconds` is from handing the request to the HTTP client until
    the head of the answer was there; it holds connecting and TLS where no connection was open, which the client does
    not tell apart.
    """

    body_digest: bytes | None = None
    resolving_seconds: float | None = None
    answering_seconds: float | None = None
    particulars: Particulars | None = None


NO_EXCHANGE = Exchange()
"""No request was made."""
