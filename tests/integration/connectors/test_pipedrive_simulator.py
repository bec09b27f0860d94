"""The simulated Pipedrive: what it keeps, refuses and counts, and that it lets twins happen as the real one does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from connectors.pipedrive.simulator import Company, PipedriveSimulator
from connectors.pipedrive.simulator_limits import BAN_AFTER

pytestmark = pytest.mark.anyio

TOKEN = "token-of-ada"
ORGANIZATIONS = "/api/v2/organizations"


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A simulated Pipedrive with one company."""

    clock: Clock
    company: Company
    http: httpx.AsyncClient

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.http.request(method, path, **options)

    async def search(self, field: str, term: str) -> httpx.Response:
        query = {"entity_type": "organization", "field": field, "match": "exact", "term": term}
        return await self.call("GET", "/api/v2/itemSearch/field", params=query)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = Clock()
    async with PipedriveSimulator(clock=clock) as simulator:
        company = simulator.open_company(TOKEN)
        async with httpx.AsyncClient(base_url=simulator.url, headers={"x-api-token": TOKEN}) as http:
            yield Scene(clock, company, http)


async def test_an_organisation_is_made_changed_and_deleted(scene: Scene) -> None:
    made = await scene.call("POST", ORGANIZATIONS, json={"name": "Acme", "website": "acme.example"})
    place = f"{ORGANIZATIONS}/{made.json()['data']['id']}"
    await scene.call("PATCH", place, json={"website": None})
    changed = await scene.call("GET", place)
    await scene.call("DELETE", place)
    gone = await scene.call("GET", place)

    assert (made.status_code, changed.json()["data"]["website"], gone.status_code) == (201, None, 404)


async def test_the_same_may_be_made_twice(scene: Scene) -> None:
    for _ in range(2):
        await scene.call("POST", ORGANIZATIONS, json={"name": "Acme"})

    assert scene.company.records.twins("name") == {"Acme": 2}


async def test_custom_fields_go_by_a_hash_and_are_searched_in_an_index_that_lags(scene: Scene) -> None:
    scene.company.records.lag_seconds = 5
    field = await scene.call(
        "POST", "/api/v2/organizationFields", json={"field_name": "Our id", "field_type": "varchar"}
    )
    code = field.json()["data"]["field_code"]
    await scene.call("POST", ORGANIZATIONS, json={"name": "Acme", "custom_fields": {code: "c-1"}})
    at_once = await scene.search(code, "C-1")
    scene.clock.now += 6
    later = await scene.search(code, "C-1")

    assert len(code) == 40
    assert (at_once.json()["data"], [each["name"] for each in later.json()["data"]]) == ([], ["Acme"])


@pytest.mark.parametrize("field", ["website", "linkedin", "employee_count", "nosuch"])
async def test_not_everything_can_be_searched(scene: Scene, field: str) -> None:
    assert (await scene.search(field, "acme.example")).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "Acme", "nosuch": 1},
        {"name": "Acme", "employee_count": "many"},
        {"name": "Acme", "address": "Ulm"},
        {"name": "Acme", "custom_fields": {"name": "Acme"}},
        {"name": 5},
    ],
)
async def test_what_does_not_fit_is_refused(scene: Scene, body: dict[str, Any]) -> None:
    answer = await scene.call("POST", ORGANIZATIONS, json=body)

    assert answer.status_code == 400
    assert answer.json()["success"] is False


async def test_lists_come_in_pages_and_since_a_time(scene: Scene) -> None:
    for number in range(5):
        scene.clock.now += 60
        await scene.call("POST", ORGANIZATIONS, json={"name": f"n{number}"})
    names: list[str] = []
    query = {"limit": "2", "updated_since": "2027-01-15T08:02:00Z", "sort_by": "update_time", "sort_direction": "desc"}
    cursor: str | None = "0"
    while cursor is not None:
        page = (await scene.call("GET", ORGANIZATIONS, params={**query, "cursor": cursor})).json()
        names += [each["name"] for each in page["data"]]
        cursor = page["additional_data"]["next_cursor"]

    assert names == ["n4", "n3", "n2", "n1"]


async def test_a_merged_organisation_leads_nowhere_and_its_notes_move(scene: Scene) -> None:
    one, two = [
        (await scene.call("POST", ORGANIZATIONS, json={"name": name})).json()["data"]["id"] for name in ("A", "B")
    ]
    await scene.call("POST", "/v1/notes", json={"content": "x", "org_id": one})
    scene.company.records.merge(str(one), str(two))
    notes = await scene.call("GET", "/v1/notes", params={"org_id": str(two)})

    assert (await scene.call("GET", f"{ORGANIZATIONS}/{one}")).status_code == 404
    assert len(notes.json()["data"]) == 1


async def test_what_v2_has_is_gone_from_v1(scene: Scene) -> None:
    assert (await scene.call("GET", "/v1/organizations")).status_code == 410


async def test_a_burst_and_a_day_are_refused_alike(scene: Scene) -> None:
    scene.company.limits.per_burst = 2
    burst = [await scene.call("GET", "/v1/users/me") for _ in range(3)]
    scene.clock.now += 2.1
    scene.company.limits.tokens_per_day = 0
    day = await scene.call("GET", "/v1/users/me")

    assert [each.headers["x-ratelimit-remaining"] for each in burst] == ["1", "0", "0"]
    assert (burst[2].status_code, burst[2].json()) == (day.status_code, day.json()) == (429, burst[2].json())


async def test_who_goes_on_over_refusals_is_shut_out_with_a_page(scene: Scene) -> None:
    scene.company.limits.per_burst = 0
    answers = [await scene.call("GET", "/v1/users/me") for _ in range(BAN_AFTER + 1)]
    scene.company.limits.per_burst = 10
    scene.clock.now += 61
    later = await scene.call("GET", "/v1/users/me")

    assert [each.status_code for each in answers] == [429] * BAN_AFTER + [403]
    assert answers[-1].headers["content-type"] == "text/html"
    assert later.status_code == 200


async def test_strangers_closed_accounts_and_full_plans_are_told_apart(scene: Scene) -> None:
    stranger = await scene.call("GET", "/v1/users/me", headers={"x-api-token": "else"})
    scene.company.plan_is_full = True
    full = await scene.call("POST", ORGANIZATIONS, json={"name": "Acme"})
    scene.company.is_closed = True
    closed = await scene.call("GET", "/v1/users/me")

    assert (stranger.status_code, full.status_code, closed.status_code) == (401, 403, 402)
    assert full.json()["code"].startswith("feature_capping_")
