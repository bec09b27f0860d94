"""A person has a partner grant access: command, partner's page, ingress and worker, until an event is delivered."""

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from psycopg.types.json import Jsonb

from connectors.hubspot.simulator import HubSpotSimulator
from connectors.simulation_faults import Status
from contracts.connection import parse_connection_spec
from ingress.oauth_callback import PATH
from ingress.program import Ingress
from ingress.settings import IngressSettings
from programs.key_ring import KeyRing

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

SECRET = "client-secret-44444"
KEYS = KeyRing({"2026": bytes(range(32))})


@dataclass
class Scene:
    """A HubSpot connection with OAuth that nobody has connected yet, a worker, and an ingress."""

    house: "House"
    hubspot: HubSpotSimulator
    browser: httpx.AsyncClient
    callback: str

    async def command(self, *arguments: str) -> "Command":
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("integrations"),
            *("connect", "acme/crm", "--callback", self.callback, "--json", *arguments),
            env={"INTEGRATIONS_DATABASE_URL": self.house.layer.dsn("support"), "PATH": "/usr/bin:/bin", "USER": "ada"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return Command(process)

    async def visit(self, url: str) -> httpx.Response:
        return await self.browser.get(url)

    async def decide(self, link: str, decision: str) -> str:
        """Follow a link, press a button of the partner's page, and return where that leads."""
        page = await self.visit(link)
        assert page.status_code == 200
        assert "Allow this app?" in page.text
        answered = await self.visit(f"{link}&decision={decision}")
        assert answered.status_code == 302
        return answered.headers["location"]

    def emit(self) -> None:
        data = Jsonb({"id": "c-1", "name": "Acme"})
        self.house.layer.value("select integration.emit_event('acme', 'company.updated', 'c-1', %s)", (data,))

    def companies(self) -> int:
        return len(self.hubspot.accounts["portal"].records.living("companies"))


@dataclass
class Command:
    """The command line while it waits."""

    process: asyncio.subprocess.Process

    async def link(self) -> str:
        assert self.process.stderr is not None
        shown = ""
        async with asyncio.timeout(60):
            while not (found := re.search(r"http://\S+", shown)):
                line = await self.process.stderr.readline()
                assert line, f"the command ended: {shown}"
                shown += line.decode()
        return found[0]

    async def result(self) -> tuple[int, Any]:
        async with asyncio.timeout(60):
            out, _ = await self.process.communicate()
        return self.process.returncode or 0, json.loads(out)


@pytest.fixture
async def scene(house: "House", tmp_path: Path) -> AsyncIterator[Scene]:
    async with HubSpotSimulator() as hubspot, httpx.AsyncClient(trust_env=False) as browser:
        hubspot.open_account("portal")
        hubspot.oauth.clients["app-1"] = SECRET
        hubspot.oauth.signed_in = "portal"
        folder = house.secrets / "acme" / "app"
        folder.mkdir(parents=True)
        (folder / "client_id").write_text("app-1")
        (folder / "client_secret").write_text(SECRET)
        oauth = {"secretRef": {"name": "app"}, "serverUrl": hubspot.url}
        spec = {
            "tenant": "acme",
            "provider": "HubSpot",
            "hubspot": {"auth": {"oauth": oauth}, "apiUrl": hubspot.url},
            "routes": [{"name": "companies", "events": ["company.*"]}],
        }
        await house.layer.publish(parse_connection_spec(spec), name="crm")
        keys = tmp_path / "oauth-keys"
        keys.write_text(KEYS.written())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ingress = Ingress(IngressSettings(database_url=house.layer.dsn("ingress"), host="127.0.0.1", port=port))
        house._start("ingress", ingress.run)
        house.start_dispatcher()
        house.start_worker(oauth_keys_file=keys)
        yield Scene(house, hubspot, browser, f"http://127.0.0.1:{port}{PATH}")


async def test_a_connection_waits_for_its_grant_and_delivers_as_soon_as_it_has_it(scene: Scene) -> None:
    scene.emit()
    await scene.house.until(lambda: scene.house.lane("crm")[0] == "Quarantined")
    command = await scene.command()
    back = await scene.decide(await command.link(), "allow")
    page = await scene.visit(back)
    code, told = await command.result()
    await scene.house.until(lambda: scene.companies() == 1)

    assert page.status_code == 200
    assert "acme/crm is being connected" in page.text
    assert code == 0
    assert told == {"connection": "acme/crm", "connected": True, "detail": "hub_id 62515"}


async def test_the_link_asks_for_what_the_connector_needs_and_proves_who_asked(scene: Scene) -> None:
    command = await scene.command()
    asked = parse_qs(urlsplit(await command.link()).query)
    command.process.terminate()
    await command.process.wait()

    assert asked["client_id"] == ["app-1"]
    assert asked["redirect_uri"] == [scene.callback]
    assert "crm.objects.companies.write" in asked["scope"][0].split()
    assert asked["code_challenge_method"] == ["S256"]
    assert len(asked["code_challenge"][0]) == 43
    assert len(asked["state"][0]) == 43


async def test_a_user_who_says_no_is_told_how_to_begin_again(scene: Scene) -> None:
    command = await scene.command()
    page = await scene.visit(await scene.decide(await command.link(), "deny"))
    code, told = await command.result()

    assert page.status_code == 403
    assert "access_denied" in page.text
    assert "integrations connect acme/crm" in page.text
    assert code == 1
    assert told == {"connection": "acme/crm", "connected": False, "detail": "the partner answered access_denied"}


async def test_a_link_works_once(scene: Scene) -> None:
    command = await scene.command()
    back = await scene.decide(await command.link(), "allow")
    first, second = await scene.visit(back), await scene.visit(back)
    await command.result()

    assert (first.status_code, second.status_code) == (200, 409)
    assert len(scene.hubspot.oauth.grants) == 1


async def test_a_code_for_another_link_is_refused_by_the_partner_and_makes_no_grant(scene: Scene) -> None:
    one, two = await scene.command(), await scene.command()
    first, second = await one.link(), await two.link()
    stolen = parse_qs(urlsplit(await scene.decide(first, "allow")).query)["code"][0]
    state = parse_qs(urlsplit(second).query)["state"][0]
    await scene.visit(f"{scene.callback}?code={stolen}&state={state}")
    code, told = await two.result()
    one.process.terminate()
    await one.process.wait()

    assert code == 1
    assert "the code verifier is not that of this code" in told["detail"]
    assert scene.house.layer.rows("select from integration.oauth_token where version > 0") == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?code=x", 400),
        ("?state=unknown", 400),
        ("?state=unknown&code=x", 404),
        ("?state=unknown&error=access_denied", 404),
        ("?state=unknown&code=x&error=y", 400),
        ("?state=" + "s" * 201 + "&code=x", 400),
        ("?state=s&code=" + "c" * 4001, 400),
        ("?state=<script>alert(1)</script>&code=x", 404),
    ],
)
async def test_what_no_partner_sends_gets_a_page_that_gives_nothing_away(scene: Scene, query: str, status: int) -> None:
    await scene.house.until(lambda: True)
    page = await _patiently(scene, query)

    assert page.status_code == status
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_an_error_with_markup_in_it_is_not_repeated(scene: Scene) -> None:
    command = await scene.command()
    state = parse_qs(urlsplit(await command.link()).query)["state"][0]
    page = await scene.visit(f"{scene.callback}?state={state}&error=<img+src=x>")
    _, told = await command.result()

    assert "<img" not in page.text
    assert told["detail"] == "the partner answered an unknown error"


async def test_a_link_that_was_not_followed_in_time_says_so(scene: Scene) -> None:
    command = await scene.command()
    back = await scene.decide(await command.link(), "allow")
    scene.house.layer.admin.execute("update integration.oauth_flow set expires_at = now() - interval '1 s'")
    page = await scene.visit(back)
    code, told = await command.result()

    assert page.status_code == 410
    assert code == 1
    assert told["detail"] == "nobody has followed the link"


async def test_while_the_database_is_away_the_page_asks_to_be_loaded_again(scene: Scene) -> None:
    command = await scene.command()
    back = await scene.decide(await command.link(), "allow")
    admin = scene.house.layer.admin
    admin.execute("alter role ingress nologin")
    admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ingress'")
    away = await scene.visit(back)
    admin.execute("alter role ingress login")
    there = await scene.visit(back)
    code, _ = await command.result()

    assert (away.status_code, there.status_code) == (503, 200)
    assert away.headers["retry-after"] == "30"
    assert code == 0


async def test_a_wrong_client_secret_ends_the_flow_with_its_name(scene: Scene) -> None:
    (scene.house.secrets / "acme" / "app" / "client_secret").write_text("another-secret-5")
    command = await scene.command()
    await scene.visit(await scene.decide(await command.link(), "allow"))
    code, told = await command.result()

    assert code == 1
    assert "see that the id and secret in Secret app are the app's" in told["detail"]
    assert "another-secret-5" not in json.dumps(told)


async def test_a_partner_in_trouble_ends_the_flow_and_another_may_begin(scene: Scene) -> None:
    scene.hubspot.oauth.befall(Status(status=503))
    first = await scene.command()
    await scene.visit(await scene.decide(await first.link(), "allow"))
    refused = await first.result()
    second = await scene.command()
    await scene.visit(await scene.decide(await second.link(), "allow"))
    connected = await second.result()

    assert refused[0] == 1
    assert "503" in refused[1]["detail"]
    assert connected[0] == 0


async def test_an_unknown_connection_is_said_to_be_unknown(scene: Scene) -> None:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("integrations"),
        *("connect", "acme/nothing", "--callback", scene.callback),
        env={"INTEGRATIONS_DATABASE_URL": scene.house.layer.dsn("support")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()

    assert process.returncode == 1
    assert b"there is no connection acme/nothing" in told


async def test_nothing_of_a_flow_is_in_the_database_in_clear(scene: Scene) -> None:
    command = await scene.command()
    link = await command.link()
    back = await scene.decide(link, "allow")
    query = parse_qs(urlsplit(back).query)
    rows = scene.house.layer.column("select f::text from integration.oauth_flow f")
    await scene.visit(back)
    rows += scene.house.layer.column("select f::text from integration.oauth_flow f")
    await command.result()
    rows += scene.house.layer.column("select f::text from integration.oauth_flow f")
    rows += scene.house.layer.column("select t::text from integration.oauth_token t")
    text = "".join(rows)

    assert [secret for secret in (query["state"][0], query["code"][0], SECRET) if secret in text] == []
    assert scene.house.layer.rows("select from integration.oauth_flow where sealed is not null") == []


async def _patiently(scene: Scene, query: str) -> httpx.Response:
    """Ask as soon as the ingress listens."""
    for _ in range(200):
        try:
            return await scene.visit(scene.callback + query)
        except httpx.ConnectError:
            await asyncio.sleep(0.05)
    raise AssertionError("the ingress does not listen")
