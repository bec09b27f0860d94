r"""Text from partners made safe to store and show.

A partner may answer with anything, our own credentials included: many echo the request they refuse. What passes here
holds no secret of the connection, in any spelling that survives a round trip through JSON, a form, a URL or HTML;
nothing else that looks like a credential; and no control or invisible characters.

The mask is made of characters that occur in no secret (secrets are ASCII), so masking can never join what stands
left and right of it into a secret. Every pattern's repetitions are bounded or cannot overlap, because the text is
chosen by somebody else: the time taken is linear in its length.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from contracts.outcomes import DETAIL_LIMIT

MASK: Final = "•••"

SHORTEST_SECRET: Final = 4
"""Shorter values are not masked by themselves: they would hide half of every text and protect nothing."""

LONGEST_SPELLING: Final = 12
"""Characters that one character of a secret may be written with."""

_NAMES: Final = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|api[ _-]?key|access[ _-]?key|private[ _-]?key|"
    r"signature|credentials?|session[ _-]?id|cookie|authorization)"
)
_ASSIGNED: Final = rf"({_NAMES}[\w.\[\]-]{{0,40}}\\?[\"']?\s{{0,4}}(?:[:=]|=>|%3D|%3A)\s{{0,4}})"
_SCHEME: Final = r"(?:(?:bearer|basic|digest|negotiate|token)\s{1,4})?"
_VALUE: Final = r"(?:\\?\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s,;&<>\"'}\]]+)"
_NO_WORD_BEFORE: Final = r"(?<![A-Za-z0-9_-])"

_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)", MASK),
        (r"whs(?:ec|k)_[A-Za-z0-9+/_\\=%-]*", MASK),
        (_NO_WORD_BEFORE + r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?", MASK),
        (r"\b(bearer|basic|digest|negotiate)(\s{1,4}|%20|\+)[^\s\"'<>,;]{4,}", rf"\1\2{MASK}"),
        (r"(://)[^\s/@\"'<>]{1,512}@", rf"\1{MASK}@"),
        (_ASSIGNED + _SCHEME + _VALUE, rf"\1{MASK}"),
        (_NO_WORD_BEFORE + r"(?:[sprg]k|pat|xox[a-z]|gh[a-z]|glpat|github_pat)[_-][A-Za-z0-9_-]{12,}", MASK),
        (_NO_WORD_BEFORE + r"AKIA[A-Z0-9]{16}", MASK),
    )
)
"""What looks like a credential, whoever's it is."""


class Redactor:
    """Takes the secrets of one connection, and all that looks like a secret, out of text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        parts = sorted({part for secret in secrets for part in _parts(secret)}, key=len, reverse=True)
        self._whole = _any_of(parts)
        self._beginning = _any_of([part[:SHORTEST_SECRET] for part in parts])
        self._longest = LONGEST_SPELLING * len(parts[0]) if parts else 0

    def clean(self, text: str | bytes, *, cut: bool = False, limit: int = DETAIL_LIMIT) -> str:
        """Return the text without secrets, in one line of at most `limit` characters.

        `cut` says that the text is the beginning of a longer one, so that a secret may have lost its end.
        """
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        if not text.isprintable():
            text = "".join(character if character.isprintable() else " " for character in text)
        text = self._whole.sub(MASK, text)
        if cut and (broken := self._beginning.search(text, max(0, len(text) - self._longest))):
            text = text[: broken.start()] + MASK
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        text = " ".join(text.split())
        return text if len(text) <= limit else text[: limit - 1] + "…"


def _any_of(secrets: Sequence[str]) -> re.Pattern[str]:
    """Match any of the secrets in any spelling, the longest first; nothing if there are none."""
    return re.compile("|".join(map(_any_spelling, secrets)) or r"(?!)")


def _parts(secret: str) -> Iterator[str]:
    """Split a value into what is secret on its own: `whsec_` and `Bearer` in front of it are not."""
    stripped = secret.strip()
    candidates = [stripped, *stripped.split(), stripped.removeprefix("whsec_")]
    scheme, _, rest = stripped.partition(" ")
    if scheme.lower() == "basic":
        candidates += _basic_credentials(rest)
    yield from (part for part in candidates if len(part) >= SHORTEST_SECRET and part.lower() not in _SCHEMES)


_SCHEMES: Final = frozenset({"basic", "bearer", "digest", "negotiate", "token"})


def _basic_credentials(encoded: str) -> list[str]:
    try:
        pair = b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        return []
    return [pair, pair.partition(":")[2]]


def _any_spelling(secret: str) -> str:
    """Write a pattern for the secret in which every character may be escaped for JSON, a URL, a form or HTML."""
    return "".join(character if character.isalnum() else _spellings(character) for character in secret)


def _spellings(character: str) -> str:
    code = ord(character)
    spellings = [
        re.escape(character),
        re.escape("\\" + character),
        f"%(?i:{code:02x})",
        rf"\\u(?i:{code:04x})",
        f"&#0{{0,6}}{code};",
        f"&#(?i:x0{{0,6}}{code:x});",
    ]
    if character in _HTML_NAMES:
        spellings.append(f"&{_HTML_NAMES[character]};")
    if character == " ":
        spellings += [r"\+", r"\s"]
    return f"(?:{'|'.join(spellings)})"


_HTML_NAMES: Final = {
    "&": "amp",
    "<": "lt",
    ">": "gt",
    '"': "quot",
    "'": "apos",
    "+": "plus",
    "/": "sol",
    "=": "equals",
}
