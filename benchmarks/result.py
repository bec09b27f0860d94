"""One measured figure and its goal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Result:
    """A figure; `met` is None where there is no goal."""

    name: str
    value: float
    goal: float | None
    met: bool | None
    unit: str
    detail: str

    @classmethod
    def at_least(cls, name: str, value: float, goal: float | None, unit: str, detail: str) -> Self:
        """Make a figure that should not be below its goal."""
        return cls(name, value, goal, None if goal is None else value >= goal, unit, detail)

    @classmethod
    def at_most(cls, name: str, value: float, goal: float | None, unit: str, detail: str) -> Self:
        """Make a figure that should not be above its goal."""
        return cls(name, value, goal, None if goal is None else value <= goal, unit, detail)

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written to results.json."""
        return asdict(self)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
