"""How the ingress hands an authorization code to a worker through the database: HPKE (RFC 9180), base mode.

The ingress holds no key. Each flow has a key pair, made by the worker; what is sealed with the public one opens with
the private one alone.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PURPOSE: Final = b"integration layer: authorization code"


class CodeChangedError(Exception):
    """The code was sealed for another flow, or changed on its way."""


def new_key_pair() -> tuple[bytes, bytes]:
    """Draw a private key; return it and its public one."""
    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def seal_code(code: str, public_key: bytes) -> bytes:
    """Seal a code for the flow that has this public key."""
    return _SUITE.encrypt(code.encode(), X25519PublicKey.from_public_bytes(public_key), _PURPOSE)


def open_code(sealed: bytes, private_key: bytes) -> str:
    """Open a code; raise CodeChangedError."""
    try:
        return _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private_key), _PURPOSE).decode()
    except (InvalidTag, ValueError):
        raise CodeChangedError("the partner's code does not belong to this link; begin again") from None
