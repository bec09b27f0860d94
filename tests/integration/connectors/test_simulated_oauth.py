"""The simulated partners' OAuth: what a user's page gives, what tokens open, and when they no longer do."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.hubspot.simulator import DIALECT, HubSpotSimulator
from connectors.oauth.simulator import CODE_SECONDS
from connectors.pipedrive.simulator import PipedriveSimulator

pytestmark = pytest.mark.anyio

APP = {"client_id": "app-1", "client_secret": "secret-of-app-1"}
BACK = "https://layer.example/v1/oauth/callback"
ASKED = {"client_id": "app-1", "response_type": "code", "redirect_uri": BACK, "state": "s-1", "scope": "oauth"}


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A simulated HubSpot with one account and one app."""

    clock: Clock
    hubspot: HubSpotSimulator
    http: httpx.AsyncClient

    async def decide(self, decision: str) -> dict[str, str]:
        """Press a button of the page; return what the redirect carries."""
        answer = await self.http.get("/oauth/authorize", params={**ASKED, "decision": decision})
        assert answer.status_code == 302
        return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}

    async def token(self, **form: str) -> httpx.Response:
        return await self.http.post(DIALECT.token_path, data={**APP, **form})

    async def by_code(self, code: str, redirect_uri: str = BACK) -> httpx.Response:
        return await self.token(grant_type="authorization_code", code=code, redirect_uri=redirect_uri)

    async def granted(self) -> dict[str, Any]:
        answer = await self.by_code((await self.decide("allow"))["code"])
        assert answer.status_code == 200
        document: dict[str, Any] = answer.json()
        return document

    async def asked_of(self, what: str, token: str, **form: str) -> httpx.Response:
        return await self.http.post(f"{DIALECT.token_path}/{what}", data={**APP, "token": token, **form})

    async def opens(self, access_token: str) -> int:
        answer = await self.http.get(
            "/account-info/2026-03/details", headers={"Authorization": f"Bearer {access_token}"}
        )
        return answer.status_code


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock = Clock()
    async with HubSpotSimulator(clock=clock) as hubspot:
        hubspot.open_account("one")
        hubspot.oauth.signed_in = "one"
        hubspot.oauth.clients[APP["client_id"]] = APP["client_secret"]
        async with httpx.AsyncClient(base_url=hubspot.url) as http:
            yield Scene(clock, hubspot, http)


async def test_the_page_has_buttons_and_a_refusal_comes_back_with_the_state(scene: Scene) -> None:
    page = await scene.http.get("/oauth/authorize", params=ASKED)
    denied = await scene.decide("deny")

    assert 'value="allow"' in page.text
    assert 'value="deny"' in page.text
    assert denied == {"error": "access_denied", "state": "s-1"}


async def test_a_code_works_once_for_ten_minutes_with_the_address_it_was_asked_for(scene: Scene) -> None:
    used, elsewhere, late = [(await scene.decide("allow"))["code"] for _ in range(3)]
    first, again = await scene.by_code(used), await scene.by_code(used)
    at_other_place = await scene.by_code(elsewhere, "https://other.example/")
    scene.clock.now += CODE_SECONDS
    too_late = await scene.by_code(late)

    assert first.json()["hub_id"] == 62515
    assert [each.status_code for each in (first, again, at_other_place, too_late)] == [200, 400, 400, 400]


async def test_an_access_token_opens_its_account_until_it_ends(scene: Scene) -> None:
    granted = await scene.granted()
    in_time = await scene.opens(granted["access_token"])
    scene.clock.now += granted["expires_in"]

    assert (in_time, await scene.opens(granted["access_token"])) == (200, 401)


async def test_hubspot_tells_what_a_token_is_as_long_as_it_is_good(scene: Scene) -> None:
    granted = await scene.granted()
    access = await scene.asked_of("introspect", granted["access_token"])
    refresh = await scene.asked_of("introspect", granted["refresh_token"])
    scene.clock.now += granted["expires_in"]
    ended = await scene.asked_of("introspect", granted["access_token"])

    assert access.json() == {"active": True, "token_use": "access_token", "hub_id": 62515}
    assert refresh.json() == {"active": True, "token_use": "refresh_token", "hub_id": 62515}
    assert ended.json() == {"active": False}


async def test_hubspot_tells_an_unknown_app_nothing_of_tokens(scene: Scene) -> None:
    granted = await scene.granted()
    answer = await scene.asked_of("introspect", granted["access_token"], client_secret="guessed")

    assert (answer.status_code, answer.json()["status"]) == (400, "BAD_CLIENT_SECRET")


async def test_a_refresh_token_that_was_given_back_renews_nothing_while_access_goes_on(scene: Scene) -> None:
    granted = await scene.granted()
    await scene.asked_of("revoke", granted["refresh_token"])
    renewed = await scene.token(grant_type="refresh_token", refresh_token=granted["refresh_token"])
    unknown = await scene.asked_of("revoke", "never-seen")

    assert (renewed.status_code, renewed.json()["status"]) == (400, "BAD_REFRESH_TOKEN")
    assert (await scene.opens(granted["access_token"]), unknown.status_code) == (200, 200)


async def test_what_a_user_withdraws_opens_and_renews_nothing(scene: Scene) -> None:
    granted = await scene.granted()
    await scene.http.delete("/_control/grants", headers={"Authorization": "Bearer one"})
    renewed = await scene.token(grant_type="refresh_token", refresh_token=granted["refresh_token"])

    assert (await scene.opens(granted["access_token"]), renewed.status_code) == (401, 400)


async def test_pipedrive_takes_the_app_from_the_header_and_a_refresh_token_once() -> None:
    async with PipedriveSimulator() as pipedrive, httpx.AsyncClient(base_url=pipedrive.url) as http:
        pipedrive.open_company("one")
        pipedrive.oauth.clients[APP["client_id"]] = APP["client_secret"]
        form = {"grant_type": "refresh_token", "refresh_token": pipedrive.oauth.grant("one")}
        in_body = await http.post("/oauth/token", data={**APP, **form})
        client = httpx.BasicAuth(APP["client_id"], APP["client_secret"])
        first = await http.post("/oauth/token", data=form, auth=client)
        again = await http.post("/oauth/token", data=form, auth=client)

    assert in_body.json()["error"] == "invalid_client"
    assert first.json()["api_domain"] == pipedrive.url
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert pipedrive.oauth.refreshes == 1
