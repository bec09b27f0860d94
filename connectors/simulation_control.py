"""What other processes may set at every simulated CRM, as JSON."""

import re
from collections.abc import Iterable
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from connectors.simulation_faults import Fault


class Target(Protocol):
    """What faults can befall."""

    def befall(self, pattern: str, *faults: Fault, applied: bool = False) -> None:
        """Have faults befall requests whose `METHOD path` the pattern finds."""


class Faults(BaseModel):
    """A script of faults; if `applied`, what it befalls takes effect all the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    script: tuple[Fault, ...]
    applied: bool = False


class Befalling(Faults):
    """A script for the requests whose `METHOD path` a pattern finds."""

    pattern: re.Pattern[str] = re.compile("")


def befall_all(target: Target, befallings: Iterable[Befalling]) -> None:
    """Have scripts befall a target, in their order."""
    for each in befallings:
        target.befall(each.pattern.pattern, *each.script, applied=each.applied)
