"""Notes for people, in the little HTML that CRMs show: escaped, and cut so that nothing is torn.

Lengths are counted in UTF-16 code units, the larger of the two ways in which partners count characters.
"""

from collections.abc import Iterable
from html import escape
from typing import Final

ELLIPSIS: Final = "…"


def note(title: str, lines: Iterable[tuple[str, str]], limit: int) -> str:
    """Write a note: a title, and lines with a label each; at most `limit` UTF-16 code units."""
    parts = [f"<p><strong>{escape(title)}</strong></p>"]
    room = limit - length(parts[0])
    if room < 0:
        return _paragraph("", title, limit) or ""
    for label, text in lines:
        part = _paragraph(label, text, room)
        if part is None:
            break
        parts.append(part)
        room -= length(part)
    return "".join(parts)


def length(text: str) -> int:
    """Count UTF-16 code units."""
    return len(text) + sum(character > "\uffff" for character in text)


def cut(text: str, limit: int) -> str:
    """Shorten text to at most `limit` UTF-16 code units; it ends in an ellipsis if something is missing."""
    if length(text) <= limit:
        return text
    kept, used = [], length(ELLIPSIS)
    for character in text:
        used += length(character)
        if used > limit:
            break
        kept.append(character)
    return "".join(kept).rstrip() + ELLIPSIS if limit >= length(ELLIPSIS) else ""


def _paragraph(label: str, text: str, room: int) -> str | None:
    """Write a line as a paragraph that fits, its text cut before it is escaped; None if not even the label does."""
    begin, end = (f"<p>{escape(label)}: ", "</p>") if label else ("<p>", "</p>")
    available = room - length(begin) - length(end)
    if available < length(ELLIPSIS):
        return None
    shortened = text
    while length(written := escape(shortened).replace("\n", "<br>")) > available:
        # Escaping lengthens by a factor that differs from place to place, so the cut comes closer in steps.
        excess = length(written) - available
        shortened = cut(shortened, max(1, length(shortened) - max(1, excess // 6)))
        if shortened == ELLIPSIS:
            break
    return f"{begin}{written}{end}" if length(written) <= available else None
