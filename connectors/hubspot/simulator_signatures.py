"""How HubSpot signs its requests, in all three versions.

As its page on validating requests has it: v1 and v2 are plain SHA-256 over the secret and what is sent, v3 is an
HMAC-SHA256 over method, URI, body and time. In the URI of v3 a fixed list of escapes is decoded, and no other.
"""

import base64
import hashlib
import hmac
import re
from typing import Final
from urllib.parse import unquote

_DECODED: Final = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def v1(secret: str, body: bytes) -> str:
    """Sign a body."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


def v2(secret: str, method: str, uri: str, body: bytes) -> str:
    """Sign a request."""
    return hashlib.sha256(f"{secret}{method}{uri}".encode() + body).hexdigest()


def v3(secret: str, method: str, uri: str, body: bytes, timestamp: int) -> str:
    """Sign a request with its time in milliseconds; `uri` as it is signed, see `decoded`."""
    signed = f"{method}{uri}".encode() + body + str(timestamp).encode()
    return base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()


def decoded(uri: str) -> str:
    """Decode the escapes that HubSpot decodes before it signs."""
    return _DECODED.sub(lambda found: unquote(found[0]), uri)
