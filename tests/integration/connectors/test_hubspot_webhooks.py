"""The simulated HubSpot tells apps of changes as the real one does: signed, in arrays, again and out of order."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from connectors.hubspot import simulator_signatures as signatures
from connectors.hubspot.simulator import HubSpotSimulator
from connectors.hubspot.simulator_account import Account
from connectors.hubspot.simulator_webhooks import RETRY_SECONDS, App, Subscription, Webhooks
from connectors.simulation_faults import Status
from tests.integration.connectors.receiver import Receiver

pytestmark = pytest.mark.anyio

TOKEN = "pat-test"
SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
COMPANIES = "/crm/objects/2026-03/companies"
SUBSCRIPTIONS = (
    Subscription(id=1, type="company.creation"),
    Subscription(id=2, type="company.propertyChange", property_name="name"),
    Subscription(id=3, type="company.deletion"),
    Subscription(id=4, type="company.merge"),
)


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A simulated HubSpot with one account, and a receiver of what an app hears."""

    clock: Clock
    hubspot: HubSpotSimulator
    account: Account
    receiver: Receiver
    http: httpx.AsyncClient

    def app(self, **options: Any) -> Webhooks:
        defaults = {"app_id": 54321, "secret": SECRET, "target_url": self.receiver.url, "subscriptions": SUBSCRIPTIONS}
        return self.account.connect(App(**{**defaults, **options}))

    async def heard(self) -> list[Any]:
        """Send what is due; return the events of everything that came so far."""
        await self.hubspot.deliver_webhooks()
        return [event for body in self.receiver.bodies for event in body]

    def make(self, number: int) -> None:
        for each in range(number):
            self.account.records.create("companies", {"name": f"Company {each}"})


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = Clock()
    async with HubSpotSimulator(clock=clock) as hubspot, Receiver() as receiver:
        account = hubspot.open_account(TOKEN)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=hubspot.url, headers=headers) as http:
            yield Scene(clock, hubspot, account, receiver, http)


def test_requests_are_signed_as_hubspot_signs_them() -> None:
    body = (
        b'[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,'
        b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM",'
        b'"changeFlag":"NEW","appId":54321}]'
    )
    uri = "https://h.example/hook?u=https%3A%2F%2Fa.com%2Fx%20y&z=%28a%29"

    assert signatures.v1(SECRET, body) == "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"
    assert (
        signatures.v3(SECRET, "POST", signatures.decoded(uri), b"{}", 1_700_000_000_000)
        == "7zxzi775K0hUNo04Ttab0LtKaCuNf95Hy5bSk8sRxMU="
    )
    assert (
        signatures.v3(SECRET, "POST", uri, b"{}", 1_700_000_000_000) == "zEKHEPnFIGDid/VAkF5yg3E3l+gRGPEM1kPMZgPTY0s="
    )


def test_an_escape_is_decoded_once() -> None:
    assert signatures.decoded("/x?a=%253A%20%3a") == "/x?a=%253A%20:"


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_what_arrives_carries_the_signatures_of_its_own_bytes(scene: Scene, version: str) -> None:
    scene.app(legacy_version=version)
    scene.make(1)
    await scene.heard()
    (request,) = scene.receiver.requests
    uri = scene.receiver.url if version == "v2" else ""
    legacy = SECRET.encode() + (b"POST" + uri.encode() if uri else b"") + request.body
    signed = f"POST{scene.receiver.url.replace('%28', '(').replace('%29', ')')}".encode() + request.body
    mac = hmac.digest(SECRET.encode(), signed + b"1800000000000", "sha256")

    assert request.headers["x-hubspot-signature"] == hashlib.sha256(legacy).hexdigest()
    assert request.headers["x-hubspot-signature-version"] == version
    assert request.headers["x-hubspot-request-timestamp"] == "1800000000000"
    assert request.headers["x-hubspot-signature-v3"] == base64.b64encode(mac).decode()


async def test_an_app_hears_of_its_own_writes_as_an_integrations(scene: Scene) -> None:
    scene.app()
    made = await scene.http.post(COMPANIES, json={"properties": {"name": "Acme"}})
    id_ = made.json()["id"]
    await scene.http.patch(f"{COMPANIES}/{id_}", json={"properties": {"name": "Acme Ltd", "city": "Ulm"}})
    await scene.http.delete(f"{COMPANIES}/{id_}")
    created, renamed, deleted = await scene.heard()

    assert created == {
        "eventId": 1,
        "subscriptionId": 1,
        "portalId": 62515,
        "appId": 54321,
        "occurredAt": 1_800_000_000_000,
        "subscriptionType": "company.creation",
        "attemptNumber": 0,
        "objectId": int(id_),
        "changeSource": "INTEGRATION",
        "sourceId": "54321",
    }
    assert (renamed["propertyName"], renamed["propertyValue"]) == ("name", "Acme Ltd")
    assert (deleted["subscriptionType"], deleted["objectId"]) == ("company.deletion", int(id_))


async def test_what_a_user_does_is_told_as_a_users(scene: Scene) -> None:
    scene.app()
    ids = []
    for name in ("Acme", "Acme again"):
        made = await scene.http.post("/_control/actions", json={"action": "create", "properties": {"name": name}})
        ids.append(made.json()["id"])
    await scene.http.post("/_control/actions", json={"action": "merge", "id": ids[1], "into": ids[0]})
    events = await scene.heard()

    assert {each["changeSource"] for each in events} == {"CRM_UI"}
    assert [each["subscriptionType"] for each in events] == ["company.creation", "company.creation", "company.merge"]
    assert (events[2]["primaryObjectId"], events[2]["mergedObjectIds"]) == (int(ids[0]), [int(ids[1])])


async def test_a_write_that_changes_nothing_is_not_told(scene: Scene) -> None:
    company = scene.account.records.create("companies", {"name": "Acme"})
    scene.app()
    scene.account.records.update(company, {"name": "Acme"})

    assert await scene.heard() == []


async def test_generic_subscriptions_name_the_type_of_the_object(scene: Scene) -> None:
    scene.app(subscriptions=[{"id": 9, "type": "object.creation", "object_type_id": "0-2"}])
    scene.make(1)
    scene.account.records.create("contacts", {"email": "ada@acme.example"})
    (event,) = await scene.heard()

    assert (event["subscriptionType"], event["objectTypeId"]) == ("object.creation", "0-2")


async def test_events_come_in_arrays_of_at_most_a_hundred(scene: Scene) -> None:
    scene.app()
    scene.make(201)
    await scene.heard()

    assert [len(body) for body in scene.receiver.bodies] == [100, 100, 1]


@pytest.mark.parametrize("status", [404, 500, 302, None])
async def test_what_is_not_taken_comes_ten_times_more_within_a_day(scene: Scene, status: int | None) -> None:
    webhooks = scene.app(answer_seconds=0.2)
    scene.receiver.status = status
    scene.make(1)
    for wait in (0, *RETRY_SECONDS, 86_400):
        scene.clock.now += wait
        await scene.heard()

    assert [body[0]["attemptNumber"] for body in scene.receiver.bodies] == list(range(11))
    assert sum(RETRY_SECONDS) == 86_400
    assert (webhooks.statuses, webhooks.given_up) == ([status] * 11, 1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/hook", "http://[broken/hook", "ftp://127.0.0.1/"])
async def test_an_address_where_nobody_answers_stops_no_other(scene: Scene, url: str) -> None:
    nowhere = scene.app(target_url=url)
    scene.make(1)
    other = scene.hubspot.open_account("other")
    other.connect(App(app_id=2, secret="s", target_url=scene.receiver.url, subscriptions=SUBSCRIPTIONS))
    other.records.create("companies", {"name": "Acme"})
    events = await scene.heard()

    assert (nowhere.statuses, [each["appId"] for each in events]) == ([None], [2])


async def test_nothing_comes_again_before_its_time_or_after_it_was_taken(scene: Scene) -> None:
    scene.app()
    scene.receiver.status = 503
    scene.make(1)
    await scene.heard()
    scene.clock.now += RETRY_SECONDS[0] - 1
    early = len(await scene.heard())
    scene.receiver.status = 204
    scene.clock.now += 1
    await scene.heard()
    scene.clock.now += 86_400

    assert (early, len(await scene.heard())) == (1, 2)


async def test_events_come_twice_and_out_of_order_on_demand(scene: Scene) -> None:
    scene.app(sends_twice=True, disorder=7)
    scene.make(20)
    ids = [event["eventId"] for event in await scene.heard()]

    assert sorted(ids) == sorted([*range(1, 21)] * 2)
    assert ids != sorted(ids)


async def test_another_process_sets_the_app_and_what_befalls_requests(scene: Scene) -> None:
    app = {
        "app_id": 1,
        "secret": SECRET,
        "target_url": scene.receiver.url,
        "subscriptions": [{"id": 1, "type": "company.creation"}],
    }
    faults = [{"pattern": "^POST .*/companies$", "script": [{"kind": "status", "status": 502}], "applied": True}]
    await scene.http.put("/_control/account", json={"app": app, "faults": faults})
    lost = await scene.http.post(COMPANIES, json={"properties": {"name": "Acme"}})
    events = await scene.heard()
    seen = await scene.http.get("/_control/account")

    assert (lost.status_code, len(events)) == (502, 1)
    assert seen.json()["webhooks"] == [200]


async def test_faults_that_are_set_take_the_place_of_those_before(scene: Scene) -> None:
    scene.account.befall("", Status(status=500, times=None))
    await scene.http.put("/_control/account", json={"faults": []})
    answer = await scene.http.get("/account-info/2026-03/details")

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "account", {"faults": [{"pattern": "(", "script": []}]}),
        ("PUT", "account", {"nonsense": 1}),
        ("POST", "actions", {"action": "explode"}),
        ("POST", "actions", {"action": "create", "properties": {"never_heard_of": "x"}}),
        ("POST", "token-faults", {"script": [{"kind": "miracle"}]}),
    ],
)
async def test_a_control_request_that_makes_no_sense_is_refused(
    scene: Scene, method: str, path: str, body: dict[str, Any]
) -> None:
    answer = await scene.http.request(method, f"/_control/{path}", json=body)

    assert answer.status_code == 400


async def test_another_process_has_a_token_answer_lost_after_it_took_effect(scene: Scene) -> None:
    scene.hubspot.oauth.clients["app"] = "secret"
    form = {"client_id": "app", "client_secret": "secret", "grant_type": "refresh_token"}
    refresh = scene.hubspot.oauth.grant(TOKEN)
    await scene.http.post("/_control/token-faults", json={"script": [{"kind": "reset"}], "applied": True})
    with pytest.raises(httpx.TransportError):
        await scene.http.post("/oauth/2026-03/token", data={**form, "refresh_token": refresh})
    again = await scene.http.post("/oauth/2026-03/token", data={**form, "refresh_token": refresh})

    assert (scene.hubspot.oauth.refreshes, again.status_code) == (1, 400)
