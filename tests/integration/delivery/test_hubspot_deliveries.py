"""Events reach a simulated HubSpot through dispatcher and workers: all of them, once, and the account as it ends up."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from connectors.hubspot.simulator import HubSpotSimulator
from connectors.hubspot.simulator_account import Account
from connectors.simulation_faults import Reset, Status
from contracts.connection import parse_connection_spec

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

TOKEN = "pat-test-22222222"


@pytest.fixture
async def hubspot(house: "House") -> AsyncIterator[HubSpotSimulator]:
    """Serve HubSpot, and publish a connection to it."""
    async with HubSpotSimulator() as simulator:
        simulator.open_account(TOKEN)
        folder = house.secrets / "acme" / "crm"
        folder.mkdir(parents=True)
        (folder / "token").write_text(TOKEN)
        await publish(house, simulator)
        yield simulator


async def publish(house: "House", simulator: HubSpotSimulator, fields: list[dict[str, str]] | None = None) -> None:
    auth = {"privateApp": {"tokenFrom": {"name": "crm", "key": "token"}}}
    companies: dict[str, Any] = {"name": "companies", "events": ["company.*"], "action": "UpsertCompany"}
    spec = {
        "tenant": "acme",
        "provider": "HubSpot",
        "hubspot": {"auth": auth, "apiUrl": simulator.url},
        "routes": [
            companies | ({"fields": fields} if fields else {}),
            {"name": "signals", "events": ["signal.published"], "action": "AddNote"},
        ],
        "delivery": {
            "throttle": {"requestsPerSecond": 100.0, "burst": 100, "concurrency": 4},
            "retry": {"initialDelay": "100ms", "maxDelay": "200ms"},
            "quarantine": {"probeInterval": "1s"},
        },
    }
    await house.layer.publish(parse_connection_spec(spec), name="crm")


def emit(house: "House", type_: str, subject: str, **data: object) -> None:
    house.layer.value("select integration.emit_event('acme', %s, %s, %s)", (type_, subject, Jsonb(data)))


def account_of(simulator: HubSpotSimulator) -> Account:
    return simulator.accounts[TOKEN]


async def test_companies_and_their_signals_arrive_once_over_lost_answers_and_refusals(
    house: "House", hubspot: HubSpotSimulator
) -> None:
    account = account_of(hubspot)
    account.befall("batch/upsert", Reset(times=2), applied=True)
    account.befall("batch/upsert", Status(status=503, times=2))
    account.befall("associate", Status(status=502))
    for number in range(60):
        emit(house, "company.updated", f"c-{number % 30}", id=f"c-{number % 30}", name=f"Company {number}")
    for number in range(20):
        company = {"id": f"c-{number}", "name": f"Company {number}"}
        contract = {"uri": "https://signals.example", "version": "1"}
        emit(
            house,
            "signal.published",
            f"c-{number}",
            id=f"s-{number}",
            contract=contract,
            company=company,
            signal={"title": f"Signal {number}"},
        )
    house.start()
    await house.until_settled()

    records = account.records
    assert {each.properties["name"] for each in records.living("companies")} == {f"Company {n}" for n in range(30, 60)}
    assert len(records.living("notes")) == 20
    assert len(records.associations) == 20
    assert account.twins("companies", "queast_company_id") == {}
    assert account.limits.refused == {}
    assert house.layer.value("select count(*) from integration.dead_letter") == 0


async def test_a_wrong_field_stops_the_connection_until_it_is_corrected(
    house: "House", hubspot: HubSpotSimulator
) -> None:
    await publish(house, hubspot, [{"property": "nmae", "value": "event.data.name"}])
    emit(house, "company.updated", "c-1", id="c-1", name="Acme")
    house.start()
    await house.until(lambda: house.lane("crm")[0] == "Quarantined")
    detail = house.layer.value("select detail from integration.attempt order by at desc limit 1")
    await publish(house, hubspot, [{"property": "name", "value": "event.data.name"}])
    await house.until_settled()

    assert "no property `nmae`: did you mean name?" in detail
    assert [each.properties["name"] for each in account_of(hubspot).records.living("companies")] == ["Acme"]
