"""How another process drives the simulated Pipedrive: what it may set of a company, and what users do in it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.pipedrive.simulator_company import Company
from connectors.pipedrive.simulator_records import Entity, Records
from connectors.simulation_control import Befalling, befall_all
from connectors.simulation_faults import Misfortunes


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CompanyChange(_Asked):
    """What a control request sets of a company; what it leaves out stays."""

    faults: tuple[Befalling, ...] | None = None
    is_closed: bool | None = None
    plan_is_full: bool | None = None

    def apply(self, company: Company) -> None:
        """Set it."""
        if self.faults is not None:
            company.misfortunes = Misfortunes()
            befall_all(company, self.faults)
        if self.is_closed is not None:
            company.is_closed = self.is_closed
        if self.plan_is_full is not None:
            company.plan_is_full = self.plan_is_full


class Create(_Asked):
    """A user makes an organisation."""

    action: Literal["create"]
    values: dict[str, Any]

    def apply(self, records: Records) -> Entity:
        """Do it."""
        return records.write_organization(self.values)


class Update(_Asked):
    """A user changes an organisation."""

    action: Literal["update"]
    id: int
    values: dict[str, Any]

    def apply(self, records: Records) -> Entity:
        """Do it."""
        return records.write_organization(self.values, records.find(records.organizations, str(self.id)))


class Delete(_Asked):
    """A user deletes an organisation."""

    action: Literal["delete"]
    id: int

    def apply(self, records: Records) -> Entity:
        """Do it."""
        return records.delete_organization(str(self.id))


class Merge(_Asked):
    """A user merges an organisation into another, which stays."""

    action: Literal["merge"]
    id: int
    into: int

    def apply(self, records: Records) -> Entity:
        """Do it."""
        return records.merge(str(self.id), str(self.into))


UserAction = Annotated[Create | Update | Delete | Merge, Field(discriminator="action")]
"""Something that a user does in the company."""


def summary(company: Company) -> dict[str, Any]:
    """Tell what is in a company, and what was asked of it and sent from it."""
    records = company.records
    ours = next((c for c, each in records.fields.items() if each["field_name"] == "Queast company id"), "")
    organizations = [each.values for each in records.living(records.organizations)]
    return {
        "companies": [(each["custom_fields"].get(ours), each.get("employee_count")) for each in organizations],
        "notes": len(records.living(records.notes)),
        "calls": len(company.calls),
        "refused": company.limits.refused,
        "webhooks": company.webhooks.statuses,
    }
