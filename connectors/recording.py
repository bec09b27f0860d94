"""What of a request and its answer may be written down: an allow-list, never a deny-list.

Names of headers are kept, values only of those listed here, which identify a message, describe its content or tell
when to come back. Of an address the path and the query are left out: in both partners put secrets.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from connectors.http import Headers, HttpAnswer, Timings
from connectors.redaction import MASK, Redactor
from contracts.exchange import Exchange, Particulars

VALUE_LIMIT: Final = 200
"""Characters of a header's value that are kept."""

HEADER_LIMIT: Final = 50
"""Request headers that are kept."""

SAFE_REQUEST_HEADERS: Final = frozenset(
    {
        "accept",
        "ce-id",
        "ce-source",
        "ce-specversion",
        "ce-time",
        "ce-type",
        "content-type",
        "idempotency-key",
        "webhook-id",
        "webhook-request-origin",
        "webhook-request-rate",
        "webhook-timestamp",
    }
)

SAFE_RESPONSE_HEADERS: Final = (
    "allow",
    "cf-ray",
    "content-length",
    "content-type",
    "date",
    "ratelimit",
    "ratelimit-policy",
    "request-id",
    "retry-after",
    "server",
    "webhook-allowed-origin",
    "webhook-allowed-rate",
    "x-amzn-requestid",
    "x-correlation-id",
    "x-hubspot-correlation-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
)


def brief(body: bytes, timings: Timings) -> Exchange:
    """Record what every attempt keeps."""
    return Exchange(sha256(body).digest(), timings.resolving_seconds, timings.answering_seconds)


def full(
    method: str,
    url: str,
    headers: Headers,
    body: bytes,
    timings: Timings,
    answer: HttpAnswer | None,
    redactor: Redactor,
) -> Exchange:
    """Record an attempt that did not deliver; `answer` is None if there was none."""
    response = [] if answer is None else _response_headers(answer)
    particulars = Particulars(
        method,
        redactor.clean(redacted_address(url)),
        {name: _value(name, value, redactor) for name, value in headers[:HEADER_LIMIT]},
        {name: redactor.clean(value, limit=VALUE_LIMIT) for name, value in response},
    )
    return brief(body, timings)._replace(particulars=particulars)


def redacted_address(url: str) -> str:
    """Write an address without what may be secret in it: path, query and user."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    if parts.hostname is None:
        return MASK
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    rest = "/" if parts.path in {"", "/"} and not parts.query else f"/{MASK}"
    return f"{parts.scheme}://{host}{port}{rest}"


def _value(name: str, value: str, redactor: Redactor) -> str:
    return redactor.clean(value, limit=VALUE_LIMIT) if name.lower() in SAFE_REQUEST_HEADERS else MASK


def _response_headers(answer: HttpAnswer) -> Iterable[tuple[str, str]]:
    return ((name, value) for name in SAFE_RESPONSE_HEADERS if (value := answer.header(name)) is not None)
