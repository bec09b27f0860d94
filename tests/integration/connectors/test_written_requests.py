"""Every request that a CRM connector can make is written down in one file, and it makes no other.

After a change on purpose: REGENERATE_REQUESTS=1 python -m pytest tests/integration/connectors/test_written_requests.py
"""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.hubspot import client as hubspot_client
from connectors.hubspot.simulator import HubSpotSimulator
from connectors.pipedrive import client as pipedrive_client
from connectors.pipedrive.simulator import PipedriveSimulator
from connectors.simulation_faults import Call, Reset
from tests.integration.connectors import test_hubspot_connector, test_pipedrive_connector
from tests.integration.connectors.crm import TOKEN, OpenCrm, company, signal
from tests.integration.connectors.written_requests import assert_all_are_made, assert_written

pytestmark = pytest.mark.anyio

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""RFC 7636, appendix B."""


async def token_calls(
    open_crm: OpenCrm, simulator: HubSpotSimulator | PipedriveSimulator, spec: dict[str, Any]
) -> list[Call]:
    """Connect an account through an OAuth app, renew its token, and return the calls for tokens."""
    oauth = simulator.oauth
    oauth.clients["app"], oauth.signed_in = "the-app-s-secret", TOKEN
    block = spec[spec["provider"].lower()]
    block["auth"] = {"oauth": {"secretRef": {"name": "app"}, "serverUrl": simulator.url}}
    crm = await open_crm(spec, "through-an-app")
    crm.credentials.values = {"client_id": "app", "client_secret": "the-app-s-secret"}
    vault = crm.open().vault
    redirect = "https://in.example/v1/oauth/callback"
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = await browser.get(f"{vault.authorize_url(redirect, CHALLENGE)}&state=s&decision=allow")
    code = parse_qs(urlsplit(page.headers["location"]).query)["code"][0]
    await vault.renew(await vault.connect(code, VERIFIER, redirect))
    return list(oauth.calls)


async def test_hubspot_s_are_those_that_are_written_down(open_crm: OpenCrm) -> None:
    async with HubSpotSimulator() as simulator:
        account = simulator.open_account(TOKEN)
        account.records.create("companies", {"name": "there before", "domain": "there.example"})
        opened = (await open_crm(test_hubspot_connector.spec(simulator.url))).open()
        first = [company(f"c-{n}", name=name, domains=[f"{name}.example"]) for n, name in ((1, "there"), (2, "two"))]
        for deliveries in (
            [*first, signal(1), signal(2, route="tasks")],
            [company("c-1", name="One now"), signal(3, route="scores"), signal(4, "c-9", route="scores")],
            [company("c-2", kind="company.deleted", route="archive")],
        ):
            await opened.send_many(deliveries)
        tokens = await token_calls(open_crm, simulator, test_hubspot_connector.spec(simulator.url))

    variable = {"2026-03": "{version}", r"/\d+$": "/{id}"}
    file = Path(hubspot_client.__file__).with_name("requests.md")
    assert_written(file, "HubSpot", [*account.calls, *tokens], variable, " `{version}` is `spec.hubspot.apiVersion`.")
    assert_all_are_made(account.calls, hubspot_client.PATHS.values(), variable)


async def test_pipedrive_s_are_those_that_are_written_down(open_crm: OpenCrm) -> None:
    async with PipedriveSimulator() as simulator:
        there = simulator.open_company(TOKEN, lag_seconds=3600)
        for name, type_ in (("Tier", "enum"), ("Founded", "date")):
            there.records.create_field(name, type_, ["Gold"] if type_ == "enum" else None)
        crm = await open_crm(test_pipedrive_connector.spec(simulator.url))
        everything = [
            company("c-1", name="One", tier="Gold", founded="1999-12-31", employees=3, route="mapped"),
            company("c-1", name="One now", city="Ulm", website="https://one.example", linkedin="in/one"),
            *(signal(number, "c-1", route=route) for number, route in enumerate(("notes", "tasks", "leads", "scores"))),
        ]
        for place in ("organizations", "notes", "activities", "leads"):
            there.befall(rf"POST .*/{place}$", Reset(), applied=True)
        for _ in range(2):  # an answer that is lost is looked for, each kind of records in its way
            for delivery in everything:
                for _ in range(2):
                    await crm.open().send(delivery)
                    crm.layer.admin.execute(
                        "update integration.mapping set held_until = now() - interval '1 s'"
                        " where held_until is not null"
                    )
        await crm.open().send(company("c-1", kind="company.deleted", route="archive"))
        tokens = await token_calls(open_crm, simulator, test_pipedrive_connector.spec(simulator.url))

    variable = {r"/\d+$": "/{id}"}
    file = Path(pipedrive_client.__file__).with_name("requests.md")
    assert_written(file, "Pipedrive", [*there.calls, *tokens], variable)
    assert_all_are_made(there.calls, pipedrive_client.PATHS.values(), variable)
