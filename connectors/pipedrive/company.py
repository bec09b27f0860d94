"""What one Pipedrive company is like: its fields by name, ours among them.

Custom fields are addressed by a hash that differs from company to company. What was found out is remembered as a fact,
since asking costs tokens of the day, and is found out again when Pipedrive contradicts it. Names are not unique there,
so our field is made under a claim: two workers would make two.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from connectors.api_client import AttemptEndedError, Deadline
from connectors.context import Account, Facts, Kind, Links
from connectors.errors import LinkHeldError
from connectors.pipedrive.client import PipedriveClient
from connectors.pipedrive.values import property_of
from connectors.properties import Property
from contracts.outcomes import Locked, Report, Transient

OUR_FIELD: Final = "Queast company id"
FIELD: Final = Kind("field")
SETTLE_MARGIN: Final = timedelta(seconds=5)
"""How much longer than an attempt a claim is held."""


@dataclass(slots=True)
class PipedriveCompany:
    """One company, as far as it is known."""

    client: PipedriveClient
    facts: Facts
    links: Links
    timeout: timedelta
    account: Account | None = None
    our_field: str = ""
    _properties: Mapping[str, Property] = field(default_factory=dict)
    _custom: frozenset[str] = frozenset()
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def hold(self) -> timedelta:
        """For how long a claim is taken: longer than any call of the attempt may go on."""
        return self.timeout + SETTLE_MARGIN

    async def known(self, deadline: Deadline) -> Account:
        """Return which company it is; its fields are known then."""
        async with self._lock:
            if self.account is None:
                me = await self.client.data("me", deadline)
                number = me.get("company_id") if isinstance(me, Mapping) else None
                if not isinstance(number, int):
                    raise AttemptEndedError(Report(Transient(), detail="Pipedrive did not say which company this is"))
                self.account = Account(f"pipedrive:{number}")
            if not self._properties:
                await self._learn(self.account, deadline)
            return self.account

    def properties(self) -> Mapping[str, Property]:
        """Return the organisations' fields, by code and by name."""
        return self._properties

    def written(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Write values, by property name, as the body of an organisation."""
        coded = {self._properties[name].name: value for name, value in values.items()}
        custom = {code: value for code, value in coded.items() if code in self._custom}
        plain = {code: value for code, value in coded.items() if code not in self._custom}
        return plain | ({"custom_fields": custom} if custom else {})

    async def forget(self) -> None:
        """Find the fields out anew at the next use: Pipedrive contradicts what is known."""
        self._properties = {}
        await self.facts.forget("fields")

    def doubt_account(self) -> None:
        """Find everything out anew at the next use: with other credentials it may be another company."""
        self.account = None
        self._properties = {}

    async def _learn(self, account: Account, deadline: Deadline) -> None:
        fact = await self.facts.read("fields")
        described: Any = fact.value if fact else None
        if not isinstance(described, dict) or described.get("account") != account:
            fields = await self.client.pages("fields", deadline)
            if not any(each.get("field_name") == OUR_FIELD for each in fields):
                await self._make_field(account, deadline)
                fields = await self.client.pages("fields", deadline)
            kept = ("field_code", "field_name", "field_type", "is_custom_field", "options")
            described = {"account": account, "fields": [{name: each.get(name) for name in kept} for each in fields]}
            await self.facts.write("fields", described)
        self._take(described["fields"])

    async def _make_field(self, account: Account, deadline: Deadline) -> None:
        try:
            claim = await self.links.claim(account, FIELD, OUR_FIELD, self.hold)
        except LinkHeldError as error:
            wait = Locked(timedelta(seconds=error.seconds))
            raise AttemptEndedError(Report(wait, detail=f"another worker makes our field; {error}")) from error
        if isinstance(claim, str):
            # It was there, and a person has deleted it since.
            await self.links.unlink(account, FIELD, OUR_FIELD, claim)
            await self._make_field(account, deadline)
            return
        made = await self.client.data("create_field", deadline, {"field_name": OUR_FIELD, "field_type": "varchar"})
        await self.links.settle(claim, str(made["field_code"]))

    def _take(self, fields: list[Mapping[str, Any]]) -> None:
        by_name: dict[str, Property] = {}
        for each in fields:
            by_name.setdefault(str(each["field_name"]), property_of(each))
        by_code = {str(each["field_code"]): property_of(each) for each in fields}
        self._properties = by_name | by_code
        self._custom = frozenset(str(each["field_code"]) for each in fields if each.get("is_custom_field"))
        self.our_field = by_name[OUR_FIELD].name
