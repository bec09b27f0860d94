"""Organisations, notes, activities and leads: each of ours once, though Pipedrive keeps no unique key.

Whatever is made is made under a claim that is written down before (`connectors.context.Links`). An attempt that ends
without knowing whether its call took effect leaves the claim, and the next to have it looks before it makes: for an
organisation by our field, in the search index and, because that lags behind, among those added since the claim; for
the others by the reference that we write into them. A kill at any line does the same as such an attempt.
"""

from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any, Final, NamedTuple

from connectors.api_client import AttemptEndedError, Deadline
from connectors.context import Account, Claim, Kind, Links
from connectors.errors import LinkHeldError
from connectors.pipedrive.client import PipedriveClient
from connectors.pipedrive.company import PipedriveCompany
from contracts.outcomes import Ambiguous, Delivered, Locked, NotFound, Report

COMPANY: Final = Kind("company")
CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far Pipedrive's clock may be behind the database's."""

KEEP: Final = timedelta(days=90)
"""How long it is known that a note, an activity or a lead was made: no delivery is repeated later."""

LOOKED_AT: Final = 100
"""How many of an organisation's newest notes, activities or leads are looked at for one of ours."""


class Engagement(NamedTuple):
    """A kind of record that hangs on an organisation: how it is made and listed, and where our reference stands."""

    kind: Kind
    make: str
    look: str
    organization: str
    place: str


NOTE: Final = Engagement(Kind("note"), "add_note", "notes", "org_id", "content")
ACTIVITY: Final = Engagement(Kind("activity"), "add_activity", "activities", "org_id", "note")
LEAD: Final = Engagement(Kind("lead"), "add_lead", "leads", "organization_id", "title")


class PipedriveRecords:
    """Writes records of one company."""

    def __init__(self, client: PipedriveClient, company: PipedriveCompany, links: Links) -> None:
        self._client = client
        self._company = company
        self._links = links

    async def linked(self, account: Account, ours: str) -> str | None:
        """Return Pipedrive's id of an organisation that is linked."""
        return (await self._links.find(account, COMPANY, [ours])).get(ours)

    async def unlink(self, account: Account, ours: str, remote: str) -> None:
        """Forget where an organisation is: it is not there any more."""
        await self._links.unlink(account, COMPANY, ours, remote)

    async def update(
        self, account: Account, ours: str, remote: str, values: Mapping[str, object], deadline: Deadline
    ) -> Report:
        """Change an organisation; one that was deleted or merged away is unlinked, and the report says NotFound."""
        body = self._company.written(values)
        answer = await self._client.call("update", deadline, body, fine=(404, 410), id=remote)
        if answer.is_success:
            return answer.report(Delivered())
        await self.unlink(account, ours, remote)
        return answer.report(NotFound())

    async def make(
        self, account: Account, ours: str, values: Mapping[str, object], deadline: Deadline
    ) -> tuple[str, Report]:
        """Make an organisation, or find the one that an earlier attempt has made; values are for a new one."""
        claim = await self._claim(account, COMPANY, ours)
        if isinstance(claim, str):
            return claim, Report(Delivered())
        try:
            found = await self._find_organization(claim, deadline)
        except AttemptEndedError:
            if claim.tried_since is None:
                await self._links.release(claim)
            raise
        if found is not None:
            await self._links.settle(claim, found)
            return found, Report(Delivered())
        body = self._company.written({**values, self._company.our_field: ours})
        remote, report = await self._made(claim, "create", body, deadline)
        await self._links.settle(claim, remote)
        return remote, report

    async def attach(
        self,
        what: Engagement,
        account: Account,
        key: str,
        organization: str,
        body: Mapping[str, Any],
        deadline: Deadline,
    ) -> Report:
        """Make a note, an activity or a lead of an organisation, unless it was made before."""
        claim = await self._claim(account, what.kind, key)
        if isinstance(claim, str):
            return Report(Delivered(), detail="an earlier attempt has made it")
        found = None if claim.tried_since is None else await self._find_attached(what, claim, organization, deadline)
        if found is not None:
            await self._links.settle(claim, found, KEEP)
            return Report(Delivered(), detail="an earlier attempt has made it")
        remote, report = await self._made(claim, what.make, {**body, what.organization: int(organization)}, deadline)
        await self._links.settle(claim, remote, KEEP)
        return report

    async def delete(self, account: Account, ours: str, deadline: Deadline) -> Report:
        """Delete an organisation, if it is there."""
        remote = await self.linked(account, ours)
        if remote is None:
            return Report(Delivered(), detail="the company is not in Pipedrive, or was not put there by us")
        answer = await self._client.call("delete", deadline, fine=(404, 410), id=remote)
        await self._links.unlink(account, COMPANY, ours, remote)
        return answer.report(Delivered())

    async def _claim(self, account: Account, kind: Kind, ours: str) -> Claim | str:
        try:
            return await self._links.claim(account, kind, ours, self._company.hold)
        except LinkHeldError as error:
            raise AttemptEndedError(Report(Locked(timedelta(seconds=error.seconds)), detail=str(error))) from error

    async def _made(self, claim: Claim, name: str, body: object, deadline: Deadline) -> tuple[str, Report]:
        """Make a record; the claim is given back if it was surely not made."""
        try:
            answer = await self._client.call(name, deadline, body)
        except AttemptEndedError as ended:
            if not isinstance(ended.report.outcome, Ambiguous) and not _is_uncertain(ended.report):
                await self._links.release(claim)
            raise
        data = answer.document.get("data") if isinstance(answer.document, Mapping) else None
        if not isinstance(data, Mapping) or "id" not in data:
            raise AttemptEndedError(answer.report(Ambiguous(), "Pipedrive did not say what it made"))
        return str(data["id"]), answer.report(Delivered())

    async def _find_organization(self, claim: Claim, deadline: Deadline) -> str | None:
        code = self._company.our_field
        query: dict[str, str | int] = {
            "entity_type": "organization",
            "field": code,
            "match": "exact",
            "term": claim.ours,
        }
        if len(claim.ours) > 1:  # Pipedrive searches no shorter terms
            found = await self._client.data("search", deadline, **query)
            if found:
                return str(found[0]["id"])
        if claim.tried_since is None:
            return None
        since = (claim.tried_since - CLOCK_SKEW).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        recent = await self._client.pages(
            "recent", deadline, updated_since=since, sort_by="update_time", sort_direction="desc", limit=500
        )
        ours = (each for each in recent if (each.get("custom_fields") or {}).get(code) == claim.ours)
        return next((str(each["id"]) for each in ours), None)

    async def _find_attached(self, what: Engagement, claim: Claim, organization: str, deadline: Deadline) -> str | None:
        query: dict[str, str | int] = {what.organization: organization, "limit": LOOKED_AT}
        if what.look == "notes":
            query["sort"] = "add_time DESC"
        found = await self._client.data(what.look, deadline, **query)
        marked = (each for each in found or () if reference(claim.ours) in str(each.get(what.place)))
        return next((str(each["id"]) for each in marked), None)


def reference(key: str) -> str:
    """Return by what we know a record of ours again; it stands in the text that people read."""
    return f"Queast {key.removeprefix('msg_')[-24:]}"


def _is_uncertain(report: Report) -> bool:
    """Whether a refusal may have come after the fact: a server's error says nothing of what it did before."""
    return report.status_code is not None and (report.status_code >= 500 or report.status_code == 408)
