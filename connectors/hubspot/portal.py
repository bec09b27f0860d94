"""What one HubSpot account is like, found out before the first delivery, and what we set up there.

Ours are a group of properties and a unique one on each kind of records that we write: HubSpot finds a record by it,
so the same company, note or task is never made twice. Uniqueness cannot be added later, so a property of that name
which is not unique is in the way, and a person has to remove it.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from connectors.api_client import AttemptEndedError, Deadline
from connectors.context import Account
from connectors.hubspot.client import HubSpotClient
from connectors.hubspot.values import property_of
from connectors.properties import Property
from contracts.outcomes import Misconfigured, Report, Transient

GROUP: Final = "queast"
COMPANY_ID: Final = "queast_company_id"
MESSAGE_ID: Final = "queast_message_id"
KEYS: Final[Mapping[str, str]] = {"companies": COMPANY_ID, "notes": MESSAGE_ID, "tasks": MESSAGE_ID}
"""Our unique property on each kind of records."""

_LABELS: Final = {COMPANY_ID: "Queast company id", MESSAGE_ID: "Queast message id"}

FRESH_SECONDS: Final = 3600.0
"""How long what was found out holds; a person may add properties and options at any time."""

STALE_SECONDS: Final = 30.0
"""How old it must be to be found out again because something does not fit it."""


@dataclass(slots=True)
class Portal:
    """One account, as far as it is known."""

    client: HubSpotClient
    clock: Callable[[], float] = monotonic
    account: Account | None = None
    _properties: dict[str, Mapping[str, Property]] = field(default_factory=dict)
    _learned_at: dict[str, float] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def known(self, deadline: Deadline) -> Account:
        """Return which account it is."""
        async with self._lock:
            if self.account is None:
                details = await self.client.details(deadline)
                if not isinstance(details.get("portalId"), int):
                    raise AttemptEndedError(Report(Transient(), detail="HubSpot did not say which account this is"))
                self.client.zone = str(details.get("timeZone", "UTC"))
                self.account = Account(f"hubspot:{details['portalId']}")
            return self.account

    async def properties(self, kind: str, deadline: Deadline, *, doubted: bool = False) -> Mapping[str, Property]:
        """Return the properties of a kind of records, ours among them, made if need be.

        `doubted`: something does not fit what is known, so it is found out again if it is not quite new.
        """
        async with self._lock:
            age = self.clock() - self._learned_at.get(kind, float("-inf"))
            if age > (STALE_SECONDS if doubted else FRESH_SECONDS):
                self._properties[kind] = await self._learn(kind, deadline)
                self._learned_at[kind] = self.clock()
            return self._properties[kind]

    def doubt_account(self) -> None:
        """Find everything out anew at the next use: with other credentials it may be another account."""
        self.account = None
        self._learned_at.clear()

    def forget(self, kind: str) -> None:
        """Find it out anew at the next use: HubSpot contradicts what is known."""
        self._learned_at.pop(kind, None)

    async def _learn(self, kind: str, deadline: Deadline) -> Mapping[str, Property]:
        described = {each["name"]: each for each in await self.client.properties(kind, deadline)}
        key = KEYS[kind]
        if key not in described:
            await self.client.create_group(kind, GROUP, "Queast", deadline)
            ours = {
                "name": key,
                "label": _LABELS[key],
                "description": "Set by the Queast integration; do not change it.",
                "groupName": GROUP,
                "type": "string",
                "fieldType": "text",
                "hasUniqueValue": True,
            }
            await self.client.create_property(kind, ours, deadline)
            described = {each["name"]: each for each in await self.client.properties(kind, deadline)}
        _require_unique(kind, key, described)
        return {name: property_of(each) for name, each in described.items()}


def _require_unique(kind: str, key: str, described: Mapping[str, Mapping[str, Any]]) -> None:
    if not described.get(key, {}).get("hasUniqueValue"):
        raise AttemptEndedError(
            Report(
                Misconfigured(),
                detail=f"the property {key} of {kind} is there and does not require unique values, which cannot be "
                "changed in HubSpot; delete it there (its name too, under archived properties), and it is made again",
            )
        )
