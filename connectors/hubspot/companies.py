"""Companies: each of ours is one of HubSpot's, found by our id, else by its domain, else made.

HubSpot finds a record by our unique property, so an upsert may be repeated as often as need be and makes no twin. Only
a company that was in HubSpot before us does not have our id: on first contact it is searched for by domain and given
it. A record that carries the id of another company of ours is never taken over.

What is linked is written by HubSpot's own id: it survives a merge, after which both ids lead to one record. A record
that was deleted is unlinked, and made again: the event says that the company exists.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from connectors.api_client import ApiAnswer, Deadline
from connectors.context import Account, Kind, Links
from connectors.crm_events import Company, UnusableEventError
from connectors.hubspot.client import HubSpotClient
from connectors.hubspot.payloads import (
    minimal_company,
    search_by_domains,
    search_by_more_domains,
    update_input,
    upsert_input,
)
from connectors.hubspot.portal import COMPANY_ID, Portal
from connectors.hubspot.results import Written, read_results
from contracts.outcomes import Delivered, Invalid, NotFound, Report

COMPANY: Final = Kind("company")
COMPANIES: Final = "companies"
GROUPS_AT_ONCE: Final = 5
"""Filter groups of one search (HubSpot's search guide)."""

_MISSING: Final = "the company is not in HubSpot; deliver it first, then replay this event"


class Fate(NamedTuple):
    """What became of one of our companies; `remote` is HubSpot's id, None if it has none."""

    report: Report
    remote: str | None = None


Fates = dict[str, Fate]
"""By our id."""


class Companies:
    """Writes companies of one account."""

    def __init__(self, client: HubSpotClient, portal: Portal, links: Links) -> None:
        self._client = client
        self._portal = portal
        self._links = links

    async def write(
        self, wanted: Mapping[str, tuple[Company, Mapping[str, str]]], deadline: Deadline, *, make: bool = True
    ) -> Fates:
        """Write companies, each with its properties; those that are not there are made, unless `make` is off."""
        account = await self._ready(deadline)
        linked = dict(await self._links.find(account, COMPANY, list(wanted)))
        fates: Fates = {}
        if linked:
            updates = [(id_, linked[id_], wanted[id_][1]) for id_ in wanted if id_ in linked]
            fates = await self._update(account, updates, deadline)
        gone = [id_ for id_, fate in fates.items() if isinstance(fate.report.outcome, NotFound)]
        for id_ in gone:
            await self._links.unlink(account, COMPANY, id_, linked[id_])
        rest = [id_ for id_ in wanted if id_ not in fates or id_ in gone]
        if rest:
            fates |= await self._write_unlinked(account, {id_: wanted[id_] for id_ in rest}, deadline, make=make)
        return fates

    async def find(self, companies: Iterable[Company], deadline: Deadline) -> Fates:
        """Return where companies are; those that are not there are made, if their name is known."""
        account = await self._ready(deadline)
        wanted = {company.id: company for company in companies}
        fates = _there(await self._links.find(account, COMPANY, list(wanted)))
        rest = {id_: company for id_, company in wanted.items() if id_ not in fates}
        if rest:
            fates |= _there(await self._find_ours(account, list(rest), deadline))
        makeable: dict[str, tuple[Company, Mapping[str, str]]] = {}
        for id_, company in rest.items():
            if id_ in fates:
                continue
            try:
                makeable[id_] = company, minimal_company(company)
            except UnusableEventError as error:
                fates[id_] = Fate(Report(Invalid(), detail=str(error)))
        if makeable:
            fates |= await self._write_unlinked(account, makeable, deadline, make=True)
        return fates

    async def archive(self, company: Company, deadline: Deadline) -> Report:
        """Archive a company, if it is there."""
        account = await self._ready(deadline)
        remote = (await self._links.find(account, COMPANY, [company.id])).get(company.id)
        if remote is None:
            remote = (await self._find_ours(account, [company.id], deadline)).get(company.id)
        if remote is None:
            return Report(Delivered(), detail="the company is not in HubSpot")
        answer = await self._client.archive(COMPANIES, remote, deadline)
        await self._links.unlink(account, COMPANY, company.id, remote)
        return answer.report(Delivered())

    async def _ready(self, deadline: Deadline) -> Account:
        """Return the account, when it has our property."""
        await self._portal.properties(COMPANIES, deadline)
        return await self._portal.known(deadline)

    async def _write_unlinked(
        self,
        account: Account,
        wanted: Mapping[str, tuple[Company, Mapping[str, str]]],
        deadline: Deadline,
        *,
        make: bool,
    ) -> Fates:
        if not make:
            ours = await self._find_ours(account, list(wanted), deadline)
            updates = [(id_, remote, wanted[id_][1]) for id_, remote in ours.items()]
            missing = Fate(Report(Invalid(), detail=_MISSING))
            return dict.fromkeys(wanted, missing) | (await self._update(account, updates, deadline) if updates else {})
        await self._adopt([company for company, _ in wanted.values()], deadline)
        inputs = [upsert_input(id_, values, trace) for trace, (id_, (_, values)) in enumerate(wanted.items())]
        answer = await self._client.write("upsert", COMPANIES, inputs, deadline)
        return await self._settled(account, dict.fromkeys(wanted), answer)

    async def _update(
        self, account: Account, updates: Sequence[tuple[str, str, Mapping[str, str]]], deadline: Deadline
    ) -> Fates:
        inputs = [update_input(remote, values, trace) for trace, (_, remote, values) in enumerate(updates)]
        answer = await self._client.write("update", COMPANIES, inputs, deadline)
        return await self._settled(account, {id_: remote for id_, remote, _ in updates}, answer)

    async def _settled(self, account: Account, linked: Mapping[str, str | None], answer: ApiAnswer) -> Fates:
        """Link what was written and was not linked so before, and say of the rest why it was not."""
        fates: Fates = {}
        ids = list(linked)
        for trace, each in read_results(self._client, answer, len(ids), COMPANIES).items():
            match each:
                case Written(remote):
                    fates[ids[trace]] = Fate(answer.report(Delivered()), remote)
                case Report():
                    fates[ids[trace]] = Fate(each)
        remotes = {id_: fate.remote for id_, fate in fates.items() if fate.remote not in (None, linked[id_])}
        if remotes:
            await self._links.link(account, COMPANY, remotes)
        if answer.status == 400:
            self._portal.forget(COMPANIES)
        return fates

    async def _find_ours(self, account: Account, ids: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """Return the records that carry our ids, and link them."""
        records = await self._client.read(COMPANIES, ids, [COMPANY_ID], COMPANY_ID, deadline)
        found = {str(each["properties"][COMPANY_ID]): str(each["id"]) for each in records}
        if found:
            await self._links.link(account, COMPANY, found)
        return found

    async def _adopt(self, companies: Sequence[Company], deadline: Deadline) -> None:
        """Give our id to companies that HubSpot knows by their domain and that carry none of ours.

        Of several that claim a domain the oldest is taken. What somebody else adopts or makes meanwhile is refused
        here as a value that is there already, and found by the upsert.
        """
        wanted: dict[str, Company] = {}
        for company in companies:
            if company.domain:
                wanted.setdefault(company.domain, company)
        if not wanted:
            return
        hits = await self._client.search(COMPANIES, search_by_domains(list(wanted)), deadline)
        adopted = _unclaimed(wanted, hits)
        rest = [domain for domain in wanted if not any(domain in _domains(hit) for hit in hits)]
        for begin in range(0, len(rest), GROUPS_AT_ONCE):
            some = rest[begin : begin + GROUPS_AT_ONCE]
            hits = await self._client.search(COMPANIES, search_by_more_domains(some), deadline)
            adopted |= _unclaimed({domain: wanted[domain] for domain in some}, hits)
        if adopted:
            inputs = [update_input(remote, {COMPANY_ID: id_}, 0) for remote, id_ in adopted.items()]
            await self._client.write("update", COMPANIES, inputs, deadline)


def _unclaimed(wanted: Mapping[str, Company], hits: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return HubSpot's ids with the ids of ours that they get: for each domain the first record without one."""
    adopted: dict[str, str] = {}
    taken: set[str] = set()
    claimed = list(hits)
    for domain, company in wanted.items():
        for hit in claimed:
            remote = str(hit["id"])
            if domain in _domains(hit) and not hit["properties"].get(COMPANY_ID) and remote not in taken:
                adopted[remote] = company.id
                taken.add(remote)
                break
    return adopted


def _domains(hit: Mapping[str, Any]) -> set[str]:
    properties = hit["properties"]
    more = properties.get("hs_additional_domains") or ""
    return {each.strip().lower() for each in [properties.get("domain") or "", *more.split(";")]} - {""}


def _there(found: Mapping[str, str]) -> Fates:
    return {id_: Fate(Report(Delivered()), remote) for id_, remote in found.items()}
