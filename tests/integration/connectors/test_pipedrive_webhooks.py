"""The simulated Pipedrive tells of organisations as the real one does: again after failures, not while banned."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from connectors.pipedrive.simulator import PipedriveSimulator
from connectors.pipedrive.simulator_company import Company
from connectors.pipedrive.simulator_webhooks import BAN_AFTER, BAN_SECONDS, RETRY_SECONDS, WEBHOOKS_LIMIT
from tests.integration.connectors.receiver import Receiver

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
    """A simulated Pipedrive with one company, and a receiver."""

    clock: Clock
    pipedrive: PipedriveSimulator
    company: Company
    receiver: Receiver
    http: httpx.AsyncClient

    def asked(self, **more: Any) -> dict[str, Any]:
        defaults = {"subscription_url": self.receiver.url, "event_action": "*", "event_object": "*", "name": "ours"}
        return {**defaults, **more}

    async def subscribe(self, **more: Any) -> int:
        asked = {
            "name": "ours",
            "subscription_url": self.receiver.url,
            "event_action": "*",
            "event_object": "organization",
            **more,
        }
        answer = await self.http.post("/v1/webhooks", json=asked)
        assert answer.status_code == 201
        id_: int = answer.json()["data"]["id"]
        return id_

    async def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.http.get("/v1/webhooks")).json()["data"]
        return found

    async def make(self, name: str = "Acme") -> int:
        answer = await self.http.post(ORGANIZATIONS, json={"name": name})
        id_: int = answer.json()["data"]["id"]
        return id_

    async def acts(self, **action: Any) -> int:
        answer = await self.http.post("/_control/actions", json=action)
        assert answer.status_code == 200
        id_: int = answer.json()["id"]
        return id_

    async def heard(self, after: float = 0) -> list[Any]:
        """Send what is due some seconds from now; return everything that came so far."""
        self.clock.now += after
        await self.pipedrive.deliver_webhooks()
        return self.receiver.bodies


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = Clock()
    async with PipedriveSimulator(clock=clock) as pipedrive, Receiver() as receiver:
        company = pipedrive.open_company(TOKEN)
        async with httpx.AsyncClient(base_url=pipedrive.url, headers={"x-api-token": TOKEN}) as http:
            yield Scene(clock, pipedrive, company, receiver, http)


async def test_a_webhook_is_made_listed_and_removed(scene: Scene) -> None:
    id_ = await scene.subscribe(http_auth_user="ada", http_auth_password="pass")
    (listed,) = await scene.listed()
    removed = await scene.http.delete(f"/v1/webhooks/{id_}")
    again = await scene.http.delete(f"/v1/webhooks/{id_}")

    assert (listed["id"], listed["subscription_url"], listed["version"]) == (id_, scene.receiver.url, "2.0")
    assert (removed.status_code, again.status_code, await scene.listed()) == (200, 404, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_action": "added"},
        {"event_object": "company"},
        {"subscription_url": "x"},
        {"version": "1.0"},
        {"name": ""},
    ],
)
async def test_a_webhook_that_is_not_right_is_refused(scene: Scene, wrong: dict[str, str]) -> None:
    answer = await scene.http.post("/v1/webhooks", json=scene.asked(**wrong))

    assert (answer.status_code, await scene.listed()) == (400, [])


async def test_a_user_has_forty_webhooks_and_no_more(scene: Scene) -> None:
    scene.company.limits.per_burst = 100
    for _ in range(WEBHOOKS_LIMIT):
        await scene.subscribe()
    answer = await scene.http.post("/v1/webhooks", json=scene.asked())

    assert answer.status_code == 422


async def test_what_comes_through_the_api_is_told_with_what_was_before(scene: Scene) -> None:
    webhook = await scene.subscribe()
    tier = scene.company.records.create_field("Tier", "varchar")["field_code"]
    id_ = await scene.make()
    change = {"website": "acme.example", "custom_fields": {tier: "gold"}}
    await scene.http.patch(f"{ORGANIZATIONS}/{id_}", json=change)
    await scene.http.delete(f"{ORGANIZATIONS}/{id_}")
    created, changed, deleted = await scene.heard()

    assert {
        "action": "create",
        "entity": "organization",
        "entity_id": str(id_),
        "company_id": "7000",
        "webhook_id": str(webhook),
        "user_id": "1",
        "change_source": "api",
        "attempt": 1,
        "version": "2.0",
        "timestamp": "2027-01-15T08:00:00Z",
    }.items() <= created["meta"].items()
    assert (created["data"]["name"], created["previous"]) == ("Acme", None)
    assert changed["previous"] == {"website": None, "custom_fields": {tier: None}}
    assert changed["data"]["custom_fields"] == {tier: "gold"}
    assert (deleted["meta"]["action"], deleted["data"], deleted["previous"]["name"]) == ("delete", None, "Acme")
    assert len({each["meta"]["id"] for each in (created, changed, deleted)}) == 3


async def test_what_a_user_does_is_told_as_the_apps(scene: Scene) -> None:
    await scene.subscribe()
    one = await scene.acts(action="create", values={"name": "Acme"})
    await scene.acts(action="update", id=one, values={"name": "Acme Ltd"})
    await scene.acts(action="delete", id=one)
    bodies = await scene.heard()

    assert [each["meta"]["change_source"] for each in bodies] == ["app"] * 3
    assert [each["meta"]["action"] for each in bodies] == ["create", "change", "delete"]


async def test_a_merge_is_two_webhooks(scene: Scene) -> None:
    gone, stays = await scene.make("A"), await scene.make("B")
    await scene.subscribe()
    await scene.acts(action="merge", id=gone, into=stays)
    deleted, changed = await scene.heard()

    assert (deleted["meta"]["entity_id"], deleted["meta"]["merged_to_id"]) == (str(gone), str(stays))
    assert (changed["meta"]["entity_id"], changed["meta"]["merged_from_id"]) == (str(stays), str(gone))


async def test_only_what_is_asked_for_is_told(scene: Scene) -> None:
    await scene.subscribe(event_action="delete")
    await scene.subscribe(event_object="person")
    id_ = await scene.make()
    await scene.http.patch(f"{ORGANIZATIONS}/{id_}", json={"name": "Acme"})
    await scene.http.delete(f"{ORGANIZATIONS}/{id_}")

    assert [each["meta"]["action"] for each in await scene.heard()] == ["delete"]


async def test_a_write_that_changes_nothing_is_not_told(scene: Scene) -> None:
    id_ = await scene.make()
    await scene.subscribe()
    await scene.http.patch(f"{ORGANIZATIONS}/{id_}", json={"name": "Acme"})

    assert await scene.heard() == []


async def test_the_receivers_password_comes_along_if_there_is_one(scene: Scene) -> None:
    await scene.subscribe(http_auth_user="ada", http_auth_password="pass")
    await scene.subscribe()
    await scene.make()
    await scene.heard()
    first, second = scene.receiver.requests

    assert first.headers["authorization"] == "Basic YWRhOnBhc3M="
    assert "authorization" not in second.headers


@pytest.mark.parametrize("status", [301, 404, 500, None])
async def test_what_is_not_taken_comes_three_times_more(scene: Scene, status: int | None) -> None:
    scene.company.webhooks.answer_seconds = 0.2
    scene.receiver.status = status
    await scene.subscribe()
    await scene.make()
    for wait in (0, *RETRY_SECONDS, 3_600):
        await scene.heard(wait)

    assert [each["meta"]["attempt"] for each in scene.receiver.bodies] == [1, 2, 3, 4]
    assert len({each["meta"]["id"] for each in scene.receiver.bodies}) == 1
    assert (scene.company.webhooks.statuses, scene.company.webhooks.lost) == ([status] * 4, 1)


async def test_nothing_comes_again_before_its_time_or_after_it_was_taken(scene: Scene) -> None:
    scene.receiver.status = 500
    await scene.subscribe()
    await scene.make()
    await scene.heard()
    early = len(await scene.heard(2))
    scene.receiver.status = 200
    await scene.heard(1)

    assert (early, len(await scene.heard(3_600))) == (1, 2)


async def test_ten_first_tries_that_fail_ban_a_webhook_for_half_an_hour(scene: Scene) -> None:
    await scene.subscribe()
    scene.receiver.status = 500
    for number in range(BAN_AFTER):
        await scene.make(f"Company {number}")
    failed = len(await scene.heard())
    scene.receiver.status = 200
    await scene.make("in the ban")
    banned = len(await scene.heard(BAN_SECONDS - 1))
    await scene.make("after the ban")
    bodies = await scene.heard(1)

    assert (failed, banned) == (BAN_AFTER, BAN_AFTER)
    assert [each["data"]["name"] for each in bodies[BAN_AFTER:]] == ["after the ban"]
    assert scene.company.webhooks.lost == BAN_AFTER + 1


async def test_retries_that_fail_do_not_count_for_a_ban(scene: Scene) -> None:
    await scene.subscribe()
    scene.receiver.status = 500
    for number in range(3):
        await scene.make(f"Company {number}")
        for wait in (0, *RETRY_SECONDS):
            await scene.heard(wait)
    await scene.make("one more")

    assert len(await scene.heard()) == 13


async def test_three_days_without_success_delete_a_webhook(scene: Scene) -> None:
    await scene.subscribe()
    scene.receiver.status = 500
    await scene.make()
    await scene.heard(86_400)
    await scene.heard(2 * 86_400 - 1)
    before = len(await scene.listed())
    await scene.heard(1)

    assert (before, await scene.listed()) == (1, [])


async def test_a_webhook_that_had_nothing_to_tell_stays(scene: Scene) -> None:
    await scene.subscribe()
    await scene.heard(30 * 86_400)

    assert len(await scene.listed()) == 1


async def test_another_process_sets_what_befalls_requests(scene: Scene) -> None:
    await scene.subscribe()
    script = [{"kind": "status", "status": 502}]
    await scene.http.put("/_control/account", json={"faults": [{"pattern": "^POST ", "script": script}]})
    lost = await scene.http.post(ORGANIZATIONS, json={"name": "lost"})
    await scene.make()
    await scene.heard()
    closed = await scene.http.put("/_control/account", json={"is_closed": True})
    refused = await scene.http.post(ORGANIZATIONS, json={"name": "late"})

    assert (lost.status_code, refused.status_code) == (502, 402)
    assert closed.json()["webhooks"] == [200]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "account", {"faults": [{"pattern": "(", "script": []}]}, 400),
        ("POST", "actions", {"action": "create", "values": {"never_heard_of": "x"}}, 400),
        ("POST", "actions", {"action": "delete", "id": 1}, 404),
        ("POST", "token-faults", {"script": [{"kind": "miracle"}]}, 400),
        ("POST", "nowhere", {}, 404),
    ],
)
async def test_a_control_request_that_makes_no_sense_is_refused(
    scene: Scene, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    answer = await scene.http.request(method, f"/_control/{path}", json=body)

    assert answer.status_code == status
