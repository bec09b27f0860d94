"""How another process drives the simulated HubSpot: what it may set of an account, and what users do in it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.hubspot.simulator_account import Account
from connectors.hubspot.simulator_records import COMPANY, Record, Records, RefusedError
from connectors.hubspot.simulator_webhooks import App
from connectors.simulation_control import Befalling, befall_all
from connectors.simulation_faults import Misfortunes


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AccountChange(_Asked):
    """What a control request sets of an account; what it leaves out stays."""

    faults: tuple[Befalling, ...] | None = None
    app: App | None = None

    def apply(self, account: Account) -> None:
        """Set it."""
        if self.faults is not None:
            account.misfortunes = Misfortunes()
            befall_all(account, self.faults)
        if self.app is not None:
            account.connect(self.app)


class Create(_Asked):
    """A user makes a record."""

    action: Literal["create"]
    type: Literal["companies", "contacts", "notes", "tasks"] = COMPANY
    properties: dict[str, str]

    def apply(self, records: Records) -> Record:
        """Do it."""
        return records.create(self.type, self.properties)


class Update(_Asked):
    """A user changes a record."""

    action: Literal["update"]
    type: Literal["companies", "contacts", "notes", "tasks"] = COMPANY
    id: str
    properties: dict[str, str]

    def apply(self, records: Records) -> Record:
        """Do it."""
        return records.update(_found(records, self.type, self.id), self.properties)


class Delete(_Asked):
    """A user deletes a record."""

    action: Literal["delete"]
    type: Literal["companies", "contacts", "notes", "tasks"] = COMPANY
    id: str

    def apply(self, records: Records) -> Record:
        """Do it."""
        record = _found(records, self.type, self.id)
        records.archive(record)
        return record


class Merge(_Asked):
    """A user merges a company into another, which stays."""

    action: Literal["merge"]
    id: str
    into: str

    def apply(self, records: Records) -> Record:
        """Do it."""
        return records.merge(self.into, self.id)


UserAction = Annotated[Create | Update | Delete | Merge, Field(discriminator="action")]
"""Something that a user does in the account."""


def summary(account: Account) -> dict[str, Any]:
    """Tell what is in an account, and what was asked of it and sent from it."""
    companies = [each.properties for each in account.records.living(COMPANY)]
    webhooks = account.webhooks
    return {
        "companies": [(each.get("queast_company_id"), each.get("numberofemployees")) for each in companies],
        "notes": len(account.records.living("notes")),
        "calls": len(account.calls),
        "refused": account.limits.refused.total(),
        "webhooks": [] if webhooks is None else webhooks.statuses,
    }


def _found(records: Records, type_: str, id_: str) -> Record:
    record = records.find(type_, id_)
    if record is None:
        raise RefusedError(404, "OBJECT_NOT_FOUND", f"there is no {type_} {id_}")
    return record
