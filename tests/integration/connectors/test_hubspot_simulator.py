"""The simulated HubSpot, driven by HubSpot's own client and by hand: what it keeps, refuses and counts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hubspot import HubSpot
from hubspot.crm.companies import (
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchReadInputSimplePublicObjectId,
    PublicObjectSearchRequest,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.companies.exceptions import ApiException
from hubspot.crm.properties import PropertyCreate, PropertyGroupCreate

from connectors.hubspot.simulator import HubSpotSimulator
from connectors.hubspot.simulator_account import Account
from connectors.simulation_faults import Reset, Status

pytestmark = pytest.mark.anyio

TOKEN = "pat-test"


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """A simulated HubSpot with one account, and two clients of it."""

    url: str
    clock: Clock
    account: Account
    http: httpx.AsyncClient
    official: Any

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.http.request(method, path, **options)

    async def companies(self, what: Callable[[Any], Any]) -> Any:
        """Work with the official client, which blocks."""
        return await asyncio.to_thread(what, self.official.crm.companies)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = Clock()
    async with HubSpotSimulator(clock=clock) as simulator:
        account = simulator.open_account(TOKEN, zone="Europe/Berlin")
        official = HubSpot(access_token=TOKEN, host=simulator.url)
        async with httpx.AsyncClient(base_url=simulator.url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
            yield House(simulator.url, clock, account, http, official)


def upsert(*inputs: dict[str, Any]) -> BatchInputSimplePublicObjectBatchInputUpsert:
    return BatchInputSimplePublicObjectBatchInputUpsert(inputs=list(inputs))


async def make_our_property(house: House) -> None:
    def make() -> None:
        core = house.official.crm.properties
        core.groups_api.create("companies", property_group_create=PropertyGroupCreate(name="queast", label="Queast"))
        core.core_api.create(
            "companies",
            property_create=PropertyCreate(
                name="queast_company_id",
                label="Queast company id",
                type="string",
                field_type="text",
                group_name="queast",
                has_unique_value=True,
            ),
        )

    await asyncio.to_thread(make)


# Driven by the vendor's own client ---------------------------------------------------------------------------------


async def test_the_official_client_creates_reads_changes_and_archives(house: House) -> None:
    made = await house.companies(
        lambda api: api.basic_api.create(SimplePublicObjectInputForCreate(properties={"name": "Acme", "city": "Ulm"}))
    )
    await house.companies(lambda api: api.basic_api.update(made.id, SimplePublicObjectInput(properties={"city": ""})))
    read = await house.companies(lambda api: api.basic_api.get_by_id(made.id, properties=["name", "city"]))
    await house.companies(lambda api: api.basic_api.archive(made.id))
    with pytest.raises(ApiException) as gone:
        await house.companies(lambda api: api.basic_api.get_by_id(made.id))

    assert (read.properties["name"], read.properties["city"]) == ("Acme", None)
    assert gone.value.status == 404


async def test_the_official_client_upserts_by_our_unique_property(house: House) -> None:
    await make_our_property(house)
    one = {"id": "c-1", "idProperty": "queast_company_id", "objectWriteTraceId": "t-1", "properties": {"name": "One"}}
    first = await house.companies(lambda api: api.batch_api.upsert(upsert(one)))
    again = await house.companies(lambda api: api.batch_api.upsert(upsert({**one, "properties": {"city": "Ulm"}})))
    read = await house.companies(
        lambda api: api.batch_api.read(
            BatchReadInputSimplePublicObjectId(
                properties=["name", "city"],
                properties_with_history=[],
                id_property="queast_company_id",
                inputs=[{"id": "c-1"}],
            )
        )
    )

    assert (first.results[0].new, again.results[0].new) == (True, False)
    assert first.results[0].id == again.results[0].id
    assert (read.results[0].properties["name"], read.results[0].properties["city"]) == ("One", "Ulm")


async def test_the_official_client_searches_an_index_that_lags(house: House) -> None:
    house.account.records.lag_seconds = 5
    await house.companies(
        lambda api: api.basic_api.create(
            SimplePublicObjectInputForCreate(properties={"name": "Acme", "domain": "acme.example"})
        )
    )
    asked = PublicObjectSearchRequest(
        filter_groups=[{"filters": [{"propertyName": "domain", "operator": "EQ", "value": "ACME.example"}]}],
        properties=["domain"],
        limit=10,
        sorts=[],
        after="0",
    )
    at_once = await house.companies(lambda api: api.search_api.do_search(asked))
    house.clock.now += 6
    later = await house.companies(lambda api: api.search_api.do_search(asked))

    assert (at_once.total, later.total) == (0, 1)


async def test_the_official_client_makes_properties_once(house: House) -> None:
    await make_our_property(house)
    with pytest.raises(Exception, match="already exists"):
        await make_our_property(house)
    listed = await asyncio.to_thread(house.official.crm.properties.core_api.get_all, "companies")

    ours = next(each for each in listed.results if each.name == "queast_company_id")
    assert ours.has_unique_value is True


# By hand ----------------------------------------------------------------------------------------------------------


COMPANIES = "/crm/objects/2026-03/companies"


async def test_a_batch_tells_which_inputs_failed_by_their_trace(house: House) -> None:
    await make_our_property(house)
    inputs = [
        {"id": f"c-{n}", "idProperty": "queast_company_id", "objectWriteTraceId": f"t-{n}", "properties": properties}
        for n, properties in enumerate([{"name": "One"}, {"numberofemployees": "many"}, {"name": "Three"}])
    ]
    answer = await house.call("POST", f"{COMPANIES}/batch/upsert", json={"inputs": inputs})

    document = answer.json()
    assert answer.status_code == 207
    assert {each["objectWriteTraceId"] for each in document["results"]} == {"t-0", "t-2"}
    assert [each["context"]["objectWriteTraceId"] for each in document["errors"]] == [["t-1"]]


@pytest.mark.parametrize(
    "inputs",
    [
        [{"id": "c-1", "properties": {}}, {"id": "c-1", "properties": {}}],
        [{"id": "c-1", "properties": {"nosuch": "x"}}, {"id": "c-2", "properties": {"name": "fine"}}],
    ],
    ids=["twice-the-same", "unknown-property"],
)
async def test_some_mistakes_fail_a_whole_batch(house: House, inputs: list[dict[str, Any]]) -> None:
    await make_our_property(house)
    inputs = [{**each, "idProperty": "queast_company_id"} for each in inputs]
    answer = await house.call("POST", f"{COMPANIES}/batch/upsert", json={"inputs": inputs})

    assert answer.status_code == 400
    assert house.account.records.living("companies") == []


async def test_a_merged_company_is_found_under_both_ids(house: House) -> None:
    ids = [
        (await house.call("POST", COMPANIES, json={"properties": {"name": name}})).json()["id"] for name in ("A", "B")
    ]
    merge = {"primaryObjectId": ids[0], "objectIdToMerge": ids[1]}
    await house.call("POST", f"{COMPANIES}/merge", json=merge)
    found = await house.call("GET", f"{COMPANIES}/{ids[1]}")

    assert found.json()["id"] == ids[0]


async def test_a_note_needs_a_time_and_is_associated_once(house: House) -> None:
    company = (await house.call("POST", COMPANIES, json={"properties": {"name": "A"}})).json()["id"]
    notes = "/crm/objects/2026-03/notes"
    refused = await house.call("POST", notes, json={"properties": {"hs_note_body": "x"}})
    made = await house.call("POST", notes, json={"properties": {"hs_note_body": "x", "hs_timestamp": "1800000000000"}})
    pair = {"from": {"id": made.json()["id"]}, "to": {"id": company}}
    for _ in range(2):
        await house.call(
            "POST", "/crm/associations/2026-03/notes/companies/batch/associate/default", json={"inputs": [pair]}
        )

    assert refused.status_code == 400
    assert len(house.account.records.associated("notes", "companies", company)) == 1


async def test_ten_seconds_hold_so_many_calls_and_headers_say_how_many_are_left(house: House) -> None:
    house.account.limits.per_ten_seconds = 3
    answers = [await house.call("GET", f"{COMPANIES}/1") for _ in range(4)]
    house.clock.now += 10.1
    later = await house.call("GET", f"{COMPANIES}/1")

    assert [each.headers["x-hubspot-ratelimit-remaining"] for each in answers] == ["2", "1", "0", "0"]
    assert answers[3].json()["policyName"] == "TEN_SECONDLY_ROLLING"
    assert later.status_code == 404


async def test_searches_have_a_limit_of_their_own_without_headers(house: House) -> None:
    answers = [await house.call("POST", f"{COMPANIES}/search", json={}) for _ in range(6)]

    assert [each.status_code for each in answers] == [200] * 5 + [429]
    assert answers[5].json()["policyName"] == "SECONDLY"
    assert not any(name.startswith("x-hubspot") for name in answers[5].headers)


async def test_a_day_ends_at_midnight_of_the_account_s_zone(house: House) -> None:
    house.account.limits.per_day = 1
    await house.call("GET", f"{COMPANIES}/1")
    spent = await house.call("GET", f"{COMPANIES}/1")
    house.clock.now += house.account.limits.seconds_to_midnight() + 1
    tomorrow = await house.call("GET", f"{COMPANIES}/1")

    assert spent.json()["policyName"] == "DAILY"
    assert tomorrow.status_code == 404


async def test_locks_migrations_scopes_and_strangers_are_told_apart(house: House) -> None:
    made = (await house.call("POST", COMPANIES, json={"properties": {"name": "A"}})).json()["id"]
    house.account.locked.add(made)
    locked = await house.call("PATCH", f"{COMPANIES}/{made}", json={"properties": {"city": "Ulm"}})
    house.account.scopes = frozenset({"crm.objects.companies.read"})
    forbidden = await house.call("POST", COMPANIES, json={"properties": {"name": "B"}})
    house.account.migrating_seconds = 3600
    migrating = await house.call("GET", f"{COMPANIES}/1")
    stranger = await house.call("GET", f"{COMPANIES}/1", headers={"Authorization": "Bearer else"})

    assert (locked.status_code, forbidden.status_code, migrating.status_code, stranger.status_code) == (
        423,
        403,
        477,
        401,
    )
    assert forbidden.json()["errors"][0]["context"] == {"requiredGranularScopes": ["crm.objects.companies.write"]}
    assert migrating.headers["retry-after"] == "3600"


async def test_what_was_applied_may_get_no_answer(house: House) -> None:
    house.account.befall(f"POST {COMPANIES}$", Reset(), applied=True)
    house.account.befall(f"POST {COMPANIES}$", Status(status=502))
    with pytest.raises(httpx.HTTPError):
        await house.call("POST", COMPANIES, json={"properties": {"name": "A"}})
    failed = await house.call("POST", COMPANIES, json={"properties": {"name": "B"}})

    assert failed.status_code == 502
    assert [each.properties["name"] for each in house.account.records.living("companies")] == ["A"]
