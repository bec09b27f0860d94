"""What the simulated partners send is proven and read, byte for byte as it comes over the wire."""

from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from connectors.hubspot.simulator import HubSpotSimulator
from connectors.hubspot.simulator_webhooks import App, Subscription
from connectors.hubspot.webhooks import HubSpotSignatures, SignatureVersion, read_events
from connectors.inbound import ChangeKind, Doubt, InboundRequest, UnprovenError
from connectors.pipedrive.simulator import PipedriveSimulator
from connectors.pipedrive.webhooks import read_event
from connectors.simulation import Request
from connectors.verification import Basic
from tests.integration.connectors.receiver import Receiver

pytestmark = pytest.mark.anyio

NOW: Final = 1_800_000_000.0
SECRET: Final = "a secret of an app"
SUBSCRIPTIONS: Final = (
    Subscription(id=1, type="company.creation"),
    Subscription(id=2, type="object.propertyChange", property_name="queast_interest", object_type_id="0-2"),
    Subscription(id=3, type="company.merge"),
    Subscription(id=4, type="contact.creation"),
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def asked(receiver: Receiver, request: Request) -> InboundRequest:
    return InboundRequest(request.method, receiver.url, request.headers, request.body, NOW)


@pytest.mark.parametrize("legacy_version", ["v1", "v2"])
async def test_what_hubspot_sends_is_proven_in_all_its_versions(receiver: Receiver, legacy_version: str) -> None:
    async with HubSpotSimulator(clock=lambda: NOW) as hubspot:
        account = hubspot.open_account("pat-test")
        options = {"app_id": 1, "secret": SECRET, "target_url": receiver.url, "legacy_version": legacy_version}
        account.connect(App.model_validate({**options, "subscriptions": SUBSCRIPTIONS}))
        account.records.create("companies", {"name": "Acme"})
        await hubspot.deliver_webhooks()
    (request,) = receiver.requests
    legacy = SignatureVersion[legacy_version.upper()]

    proofs = [
        HubSpotSignatures([SECRET], frozenset(allowed)).verify(asked(receiver, request)).scheme
        for allowed in ([SignatureVersion.V3], [legacy], SignatureVersion)
    ]

    assert proofs == ["HubSpotV3", f"HubSpot{legacy.name}", "HubSpotV3"]
    with pytest.raises(UnprovenError) as refused:
        HubSpotSignatures(["another"]).verify(asked(receiver, request))
    assert refused.value.doubt is Doubt.WRONG


async def test_what_happens_at_hubspot_is_read_as_changes(receiver: Receiver) -> None:
    async with HubSpotSimulator(clock=lambda: NOW) as hubspot:
        account = hubspot.open_account("pat-test")
        app = {"app_id": 1, "secret": SECRET, "target_url": receiver.url, "sends_twice": True, "disorder": 7}
        account.connect(App.model_validate({**app, "subscriptions": SUBSCRIPTIONS}))
        described = {"label": "Interest", "type": "string", "fieldType": "text", "groupName": "companyinformation"}
        account.records.create_property("companies", {"name": "queast_interest", **described})
        kept = account.records.create("companies", {"name": "Acme"})
        account.records.update(kept, {"queast_interest": "true"})
        gone = account.records.create("companies", {"name": "Acme Ltd"})
        account.records.create("contacts", {"email": "ada@acme.example"})
        account.records.merge(kept.id, gone.id)
        await hubspot.deliver_webhooks()
    (request,) = receiver.requests

    told = read_events(request.body, "1")

    assert told.other == 2
    assert {(each.kind, each.remote_id, each.property, each.value, each.into) for each in told.changes} == {
        (ChangeKind.CREATED, kept.id, None, None, None),
        (ChangeKind.CHANGED, kept.id, "queast_interest", "true", None),
        (ChangeKind.CREATED, gone.id, None, None, None),
        (ChangeKind.MERGED, gone.id, None, None, kept.id),
    }
    assert {each.occurred_at for each in told.changes} == {NOW}


async def test_what_pipedrive_sends_is_proven_and_read_as_changes(receiver: Receiver) -> None:
    async with PipedriveSimulator(clock=lambda: NOW) as pipedrive:
        pipedrive.open_company("token")
        async with httpx.AsyncClient(base_url=pipedrive.url, headers={"x-api-token": "token"}) as http:
            basic = {"http_auth_user": "queast", "http_auth_password": "wörd:1"}
            about = {"name": "ours", "subscription_url": receiver.url, "event_action": "*", "event_object": "*"}
            await http.post("/v1/webhooks", json={**about, **basic})
            made = (await http.post("/api/v2/organizations", json={"name": "Acme"})).json()["data"]["id"]
            await http.patch(f"/api/v2/organizations/{made}", json={"website": "acme.example"})
            user = (
                await http.post("/_control/actions", json={"action": "create", "values": {"name": "Acme Ltd"}})
            ).json()
            await http.post("/_control/actions", json={"action": "merge", "id": user["id"], "into": made})
        await pipedrive.deliver_webhooks()
    schemes = {Basic(["queast:wörd:1"]).verify(asked(receiver, each)).scheme for each in receiver.requests}
    told = [change for each in receiver.requests for change in read_event(each.body, "1").changes]
    ours = {each.kind for each in told if each.echo}
    (merged,) = [each for each in told if each.kind is ChangeKind.MERGED]

    assert schemes == {"Basic"}
    assert ours == {ChangeKind.CREATED, ChangeKind.CHANGED}
    assert (ChangeKind.CHANGED, str(made), "website", "acme.example") in {
        (each.kind, each.remote_id, each.property, each.value) for each in told
    }
    assert (merged.remote_id, merged.into, merged.echo) == (str(user["id"]), str(made), False)
