"""One simulated Pipedrive company, with what befalls it and what was asked of it."""

from dataclasses import dataclass, field

from connectors.pipedrive.simulator_limits import Limits
from connectors.pipedrive.simulator_records import Records
from connectors.pipedrive.simulator_webhooks import Webhooks
from connectors.simulation_faults import Call, Fault, Misfortunes


@dataclass(slots=True)
class Company:
    """One simulated company."""

    company_id: int
    records: Records
    limits: Limits
    webhooks: Webhooks
    is_closed: bool = False
    plan_is_full: bool = False
    calls: list[Call] = field(default_factory=list)
    misfortunes: Misfortunes = field(default_factory=Misfortunes)

    def befall(self, pattern: str, *faults: Fault, applied: bool = False) -> None:
        """Have faults befall requests whose `METHOD path` the pattern finds; if `applied`, these take effect before."""
        self.misfortunes.befall(pattern, *faults, applied=applied)
