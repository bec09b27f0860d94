"""One simulated HubSpot account, with what befalls it and what was asked of it."""

from collections import Counter
from dataclasses import dataclass, field

from connectors.hubspot.simulator_limits import Limits
from connectors.hubspot.simulator_records import Records
from connectors.hubspot.simulator_webhooks import App, Webhooks
from connectors.simulation_faults import Call, Fault, Misfortunes


@dataclass(slots=True)
class Account:
    """One simulated portal."""

    hub_id: int
    records: Records
    limits: Limits
    scopes: frozenset[str] | None = None
    """What its token may do; None: everything."""
    calls: list[Call] = field(default_factory=list)
    misfortunes: Misfortunes = field(default_factory=Misfortunes)
    locked: set[str] = field(default_factory=set)
    """Ids of records that are locked."""
    migrating_seconds: int | None = None
    """Whether the account is being moved, and how long that shall take."""
    webhooks: Webhooks | None = None

    def befall(self, pattern: str, *faults: Fault, applied: bool = False) -> None:
        """Have faults befall requests whose `METHOD path` the pattern finds; if `applied`, these take effect before."""
        self.misfortunes.befall(pattern, *faults, applied=applied)

    def connect(self, app: App) -> Webhooks:
        """Have an app told of what changes from now on, in place of one before it."""
        self.webhooks = Webhooks(app, self.hub_id, self.limits.clock)
        self.records.listeners = [self.webhooks.notice]
        return self.webhooks

    def twins(self, type_: str, name: str) -> dict[str, int]:
        """Count living records by a property, those that are there more than once."""
        counted = Counter(each.properties[name] for each in self.records.living(type_) if name in each.properties)
        return {value: number for value, number in counted.items() if number > 1}
