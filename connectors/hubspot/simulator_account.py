"""One simulated HubSpot account, with what befalls it and what was asked of it."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from connectors.hubspot.simulator_limits import Limits
from connectors.hubspot.simulator_records import Records
from connectors.simulation_faults import Fault, Script


@dataclass(slots=True)
class Call:
    """A request as it was received, and what was answered; None if it was not."""

    method: str
    path: str
    body: Any
    status: int | None = None


@dataclass(slots=True)
class Misfortune:
    """A script of faults for the requests whose `METHOD path` matches; `applied` ones are acted on before."""

    pattern: re.Pattern[str]
    script: Script
    applied: bool


@dataclass(slots=True)
class Account:
    """One simulated portal."""

    hub_id: int
    records: Records
    limits: Limits
    scopes: frozenset[str] | None = None
    """What its token may do; None: everything."""
    calls: list[Call] = field(default_factory=list)
    misfortunes: list[Misfortune] = field(default_factory=list)
    locked: set[str] = field(default_factory=set)
    """Ids of records that are locked."""
    migrating_seconds: int | None = None
    """Whether the account is being moved, and how long that shall take."""

    def befall(self, pattern: str, *faults: Fault, applied: bool = False) -> None:
        """Have faults befall requests whose `METHOD path` the pattern finds; if `applied`, these take effect before."""
        self.misfortunes.append(Misfortune(re.compile(pattern), Script(faults), applied))

    def twins(self, type_: str, name: str) -> dict[str, int]:
        """Count living records by a property, those that are there more than once."""
        counted = Counter(each.properties[name] for each in self.records.living(type_) if name in each.properties)
        return {value: number for value, number in counted.items() if number > 1}

    def next_fault(self, call: Call) -> tuple[Fault | None, bool]:
        """Take the fault that befalls a call, and whether the call takes effect all the same."""
        for misfortune in self.misfortunes:
            if misfortune.pattern.search(f"{call.method} {call.path}"):
                fault = misfortune.script.next_fault()
                if fault is not None:
                    return fault, misfortune.applied
        return None, False
