"""Signatures as Standard Webhooks 1.0 has them, the symmetric kind `v1`.

What is signed is `id.timestamp.body`. Every active secret signs, and the signatures stand side by side separated by
a space, so that a receiver can move from one secret to the next without losing a delivery.
"""

import hmac
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Final, NewType

SigningKey = NewType("SigningKey", bytes)

KEY_PREFIX: Final = "whsec_"
SHORTEST_KEY: Final = 24
LONGEST_KEY: Final = 64


class MalformedSecretError(ValueError):
    """A signing secret that is not of the agreed form; the message never holds it."""


def parse_signing_secret(raw: bytes) -> SigningKey:
    """Read `whsec_` (which may be missing) followed by 24 to 64 bytes in base64; white space around it is ignored."""
    text = raw.strip().removeprefix(KEY_PREFIX.encode())
    key = _decode(text)
    if key is None:
        raise MalformedSecretError("a signing secret is whsec_ followed by base64; this one is not base64")
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise MalformedSecretError(
            f"a signing secret holds {SHORTEST_KEY} to {LONGEST_KEY} bytes in base64; this one holds {len(key)}"
        )
    return SigningKey(key)


def sign(keys: Sequence[SigningKey], message_id: str, timestamp: int, body: bytes) -> str:
    """Write the value of `webhook-signature`: one `v1` signature for each key."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + b2a_base64(hmac.digest(key, content, "sha256"), newline=False).decode("ascii") for key in keys
    )


def _decode(text: bytes) -> bytes | None:
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
