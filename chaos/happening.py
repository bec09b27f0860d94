"""That something befell the layer, from when to when."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Happening:
    """A misfortune that came about; `ended` is None while it lasts. Times in seconds since 1970."""

    kind: str
    whom: str
    began: float
    ended: float | None = None

    def touches(self, first: float, last: float) -> bool:
        """Say whether any of it fell between two moments."""
        return self.began <= last and (self.ended is None or self.ended >= first)


@dataclass(slots=True)
class Lasting:
    """A misfortune that goes on, when that is over, and how it is undone."""

    happening: Happening
    is_over: Callable[[], bool]
    undo: Callable[[], None]
