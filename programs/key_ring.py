"""Keys that seal what may be in the database but not be read there: AES-256-GCM, by name, the newest name seals.

An installation has one Secret with master keys. Every pool of workers gets keys of its own, derived from them (HKDF,
RFC 5869), so that no pool can open what another has sealed, and a pool that is made anew finds its keys again. To
rotate, add a key under a name that sorts last; everything is sealed with it as it is written next.
"""

import json
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class KeyRingError(Exception):
    """Keys are missing or are none; the message says which and what to do, and holds none."""


class NoKeyError(KeyRingError):
    """The key that something was sealed with is not there."""


class NotSealedHereError(KeyRingError):
    """What was to be opened was changed, belongs elsewhere, or was sealed with another key of that name."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by name; at least one."""

    keys: Mapping[str, bytes] = field(repr=False)

    def seal(self, content: bytes, bound_to: bytes) -> tuple[str, bytes]:
        """Seal with the newest key; return its name and the sealed bytes. They open only with the same `bound_to`."""
        name = max(self.keys)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return name, nonce + AESGCM(self.keys[name]).encrypt(nonce, content, bound_to)

    def open(self, name: str, sealed: bytes, bound_to: bytes) -> bytes:
        """Open; raise NoKeyError or NotSealedHereError."""
        if name not in self.keys:
            raise NoKeyError(f"the key {name} is not there any more; put it back")
        try:
            return AESGCM(self.keys[name]).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError):
            raise NotSealedHereError(f"it was not sealed with the key {name} that is there, or was changed") from None

    def derived(self, purpose: str) -> "KeyRing":
        """Return other keys under the same names, from which these cannot be told."""
        return KeyRing({name: _derive(key, purpose) for name, key in self.keys.items()})

    def written(self) -> str:
        """Write the keys as `read_key_file` reads them."""
        return json.dumps({name: b64encode(key).decode() for name, key in sorted(self.keys.items())})


def read_key_file(file: Path) -> KeyRing:
    """Read a JSON object of base64 keys by name; raise KeyRingError."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KeyRingError(f"there are no keys for OAuth grants ({file} is missing); see docs/oauth.md") from None
    except (OSError, ValueError):
        raise KeyRingError(f"the keys in {file} cannot be read") from None
    if not isinstance(document, dict) or not document:
        raise KeyRingError(f"there is no key in {file}")
    return KeyRing({name: _parsed(name, str(value)) for name, value in document.items()})


def read_key_folder(folder: Path) -> KeyRing | None:
    """Read a mounted Secret, a key in each file; None if it has none; raise KeyRingError."""
    files = sorted(each for each in folder.glob("[!.]*") if each.is_file())
    try:
        keys = {file.name: _parsed(file.name, file.read_text(encoding="ascii")) for file in files}
    except (OSError, ValueError):
        raise KeyRingError(f"the keys in {folder} cannot be read") from None
    return KeyRing(keys) if keys else None


def new_key() -> str:
    """Draw a key and write it as it is put into a Secret."""
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _parsed(name: str, text: str) -> bytes:
    try:
        key = b64decode(text.strip(), validate=True)
    except Base64Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyRingError(f"the key {name} is not {KEY_BYTES} bytes in base64; make one: openssl rand -base64 32")
    return key


def _derive(key: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(key)
