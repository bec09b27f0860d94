"""Notes and tasks: each event one, whatever happens to its attempts, attached to its company.

The message id is the unique property by which HubSpot finds what an earlier attempt has made. Associations may be made
as often as wanted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.api_client import Deadline
from connectors.context import Links
from connectors.hubspot.client import HubSpotClient
from connectors.hubspot.companies import COMPANIES, COMPANY, Companies
from connectors.hubspot.payloads import Item
from connectors.hubspot.portal import Portal
from connectors.hubspot.results import Written, read_results
from contracts.outcomes import Delivered, Report, Transient

Input = Callable[[Item, int], dict[str, Any]]


class Engagements:
    """Writes notes or tasks of one account."""

    def __init__(self, client: HubSpotClient, portal: Portal, companies: Companies, links: Links) -> None:
        self._client = client
        self._portal = portal
        self._companies = companies
        self._links = links

    async def write(self, kind: str, items: Sequence[Item], input_of: Input, deadline: Deadline) -> dict[int, Report]:
        """Write one record for each item; what became of them, by their positions."""
        await self._portal.properties(kind, deadline)
        found = await self._companies.find((item.company for item in items), deadline)
        ready = [item for item in items if found[item.company.id].remote is not None]
        reports = {item.position: found[item.company.id].report for item in items if item not in ready}
        if not ready:
            return reports
        inputs = [input_of(item, trace) for trace, item in enumerate(ready)]
        answer = await self._client.write("upsert", kind, inputs, deadline)
        if answer.status == 400:
            self._portal.forget(kind)
        pairs: dict[tuple[str, str], Item] = {}
        for trace, each in read_results(self._client, answer, len(inputs), kind).items():
            item = ready[trace]
            if isinstance(each, Written):
                pairs[each.remote, found[item.company.id].remote or ""] = item
                reports[item.position] = answer.report(Delivered())
            else:
                reports[item.position] = each
        return reports | await self._associate(kind, pairs, deadline)

    async def _associate(
        self, kind: str, pairs: Mapping[tuple[str, str], Item], deadline: Deadline
    ) -> dict[int, Report]:
        """Attach records to companies; return only what failed, which is tried again as a whole."""
        if not pairs:
            return {}
        account = await self._portal.known(deadline)
        reports = {}
        for error in await self._client.associate(kind, COMPANIES, list(pairs), deadline):
            context = error.get("context") or {}
            named = {str(each) for name in ("fromObjectId", "toObjectId") for each in context.get(name) or ()}
            for pair, item in pairs.items():
                if named.issuperset(pair) or not named:
                    # The company was deleted since it was linked; the next attempt finds it, or makes it anew.
                    await self._links.unlink(account, COMPANY, item.company.id, pair[1])
                    detail = "it was written, and could not be attached to its company"
                    reports[item.position] = Report(Transient(), detail=detail)
        return reports
