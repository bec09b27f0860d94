"""Events become organisations, notes, activities and leads of a Pipedrive company: once each, whatever happens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from connectors.certification.crashing import Moment, crashes
from connectors.pipedrive.simulator import Company, PipedriveSimulator
from connectors.simulation_faults import Reset, Status
from contracts.outcomes import (
    Ambiguous,
    AuthRevoked,
    Delivered,
    Gone,
    Invalid,
    Locked,
    Misconfigured,
    Outcome,
    QuotaExhausted,
    RateLimited,
    Report,
    Transient,
)
from tests.integration.connectors.crm import TOKEN, Crm, OpenCrm, company, signal

pytestmark = pytest.mark.anyio

FIELDS = [
    {"property": "name", "value": "event.data.name"},
    {"property": "Tier", "value": "event.data.tier"},
    {"property": "Founded", "value": "event.data.founded"},
    {"property": "employee_count", "value": "event.data.employees"},
]
ROUTES = [
    {"name": "companies", "events": ["company.*"], "action": "UpsertCompany"},
    {"name": "mapped", "events": ["company.updated"], "fields": FIELDS},
    {"name": "archive", "events": ["company.deleted"], "action": "ArchiveCompany"},
    {"name": "notes", "events": ["signal.published"]},
    {"name": "tasks", "events": ["signal.published"], "action": "AddTask"},
    {"name": "leads", "events": ["signal.published"], "action": "AddLead"},
    {
        "name": "scores",
        "events": ["signal.published"],
        "action": "SetProperties",
        "fields": [{"property": "website", "value": "event.data.signal.title"}],
    },
]


@dataclass
class Scene:
    """A connection to a simulated company."""

    crm: Crm
    there: Company
    connector: Any
    simulator: PipedriveSimulator

    async def send(self, *deliveries: Any) -> list[Report]:
        return [await self.connector.send(delivery) for delivery in deliveries]

    def organizations(self) -> list[dict[str, Any]]:
        return [each.values for each in self.there.records.living(self.there.records.organizations)]

    def named(self, name: str) -> Any:
        records = self.there.records
        return next(each for each in records.living(records.organizations) if each.values["name"] == name)

    def of(self, kind: str, organization: Any) -> list[dict[str, Any]]:
        name = "organization_id" if kind == "leads" else "org_id"
        every = self.there.records.living(getattr(self.there.records, kind))
        return [each.values for each in every if each.values[name] == organization.id]

    def our_field(self) -> str:
        (code,) = [c for c, each in self.there.records.fields.items() if each["field_name"] == "Queast company id"]
        return code

    def twins(self) -> dict[str, int]:
        return self.there.records.twins(self.our_field())

    def pass_time(self, minutes: float = 2) -> None:
        self.crm.layer.admin.execute(
            "update integration.mapping set held_until = held_until - make_interval(mins => %s)", (minutes,)
        )


def spec(url: str, **more: Any) -> dict[str, Any]:
    auth = {"apiToken": {"tokenFrom": {"name": "crm", "key": "token"}}}
    return {
        "provider": "Pipedrive",
        "pipedrive": {"auth": auth, "apiUrl": url},
        "routes": ROUTES,
        "delivery": {"timeout": "5s"},
        **more,
    }


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search at once after opening: nobody else has searched."""
    monkeypatch.setattr("connectors.pipedrive.client.UNKNOWN_SECONDS", 0.0)


@pytest.fixture
async def scene(open_crm: OpenCrm) -> AsyncIterator[Scene]:
    async with PipedriveSimulator() as simulator:
        there = simulator.open_company(TOKEN, per_burst=100_000, searches_per_burst=100_000, tokens_per_day=10**9)
        there.records.create_field("Tier", "enum", ["Gold", "Silver"])
        there.records.create_field("Founded", "date")
        crm = await open_crm(spec(simulator.url))
        yield Scene(crm, there, crm.open(), simulator)


def outcomes(reports: list[Report]) -> list[type[Outcome]]:
    return [type(report.outcome) for report in reports]


# Organisations ----------------------------------------------------------------------------------------------------


async def test_a_company_is_made_with_what_pipedrive_has_a_place_for(scene: Scene) -> None:
    reports = await scene.send(
        company(name="Acme", website="https://acme.example", employees=12, city="Ulm", country="DE", industry="IT")
    )

    assert outcomes(reports) == [Delivered]
    assert scene.organizations() == [
        {
            "name": "Acme",
            "website": "https://acme.example",
            "employee_count": 12,
            "address": {"value": "Ulm, DE"},
            "custom_fields": {scene.our_field(): "c-1"},
        }
    ]


async def test_a_company_is_changed_and_not_made_again_by_this_worker_or_the_next(scene: Scene) -> None:
    await scene.send(company(name="Acme"), company(name="Acme Ltd"))
    await scene.crm.open().send(company(name="Acme Inc"))
    scene.crm.layer.admin.execute("delete from integration.mapping")
    await scene.crm.open().send(company(name="Acme AG"))

    assert [each["name"] for each in scene.organizations()] == ["Acme AG"]


async def test_a_change_of_a_known_company_is_one_call(scene: Scene) -> None:
    await scene.send(company(name="Acme"))
    before = len(scene.there.calls)
    await scene.send(company(name="Acme Ltd"))

    assert [call.method for call in scene.there.calls[before:]] == ["PATCH"]


async def test_fields_go_by_name_and_options_by_label_and_null_clears(scene: Scene) -> None:
    await scene.send(company(name="Acme", tier="gold", founded="1999-12-31T10:00:00Z", employees=3, route="mapped"))
    first = dict(scene.named("Acme").values["custom_fields"])
    await scene.send(company(name="Acme", tier="Silver", founded=None, route="mapped"))

    by_name = {each["field_name"]: code for code, each in scene.there.records.fields.items()}
    assert (first[by_name["Tier"]], first[by_name["Founded"]]) == (1, "1999-12-31")
    acme = scene.named("Acme").values
    assert (acme["custom_fields"][by_name["Tier"]], acme["custom_fields"][by_name["Founded"]]) == (2, None)
    assert acme["employee_count"] == 3


async def test_what_does_not_fit_is_given_up_without_a_call(scene: Scene) -> None:
    await scene.send(company(name="known"))
    before = len(scene.there.calls)
    reports = await scene.send(company("c-2", name="Bad", tier="Platinum of 4711", route="mapped"))

    assert outcomes(reports) == [Invalid]
    assert "4711" not in reports[0].detail
    assert len(scene.there.calls) == before


async def test_a_field_that_is_not_there_stops_the_connection_and_says_what_was_meant(
    scene: Scene, open_crm: OpenCrm
) -> None:
    url = scene.crm.connection.spec.pipedrive.api_url  # type: ignore[union-attr]
    route = {"name": "companies", "events": ["company.updated"], "fields": [{"property": "Teir", "value": "'x'"}]}
    crm = await open_crm(spec(url, routes=[route]), name="other")
    report = await crm.open().send(company(name="Acme"))

    assert type(report.outcome) is Misconfigured
    assert "no property `Teir`: did you mean Tier?" in report.detail


async def test_our_field_is_made_once_and_remembered_for_the_next_worker(scene: Scene) -> None:
    await scene.send(company(name="Acme"))
    before = len(scene.there.calls)
    await scene.crm.open().send(company(name="Acme Ltd"))

    assert [call.path for call in scene.there.calls[before:]][:1] == ["/v1/users/me"]
    assert not any("organizationFields" in call.path for call in scene.there.calls[before:])


async def test_a_deleted_or_merged_organisation_is_made_again(scene: Scene) -> None:
    await scene.send(company("c-1", name="One"), company("c-2", name="Two"), company("c-3", name="Three"))
    scene.there.records.merge(str(scene.named("Two").id), str(scene.named("One").id))
    scene.named("Three").deleted = True
    reports = await scene.send(company("c-2", name="Two again"), company("c-3", name="Three again"))

    assert outcomes(reports) == [Delivered] * 2
    assert sorted(each["name"] for each in scene.organizations()) == ["One", "Three again", "Two again"]


async def test_a_deleted_company_is_deleted_where_the_route_says_so(scene: Scene) -> None:
    await scene.send(company(name="Acme"), company(kind="company.deleted"))
    kept = len(scene.organizations())
    reports = await scene.send(*[company(kind="company.deleted", route="archive")] * 2)

    assert outcomes(reports) == [Delivered] * 2
    assert (kept, scene.organizations()) == (1, [])


async def test_a_lost_answer_to_a_create_makes_no_twin_though_the_search_lags(scene: Scene) -> None:
    scene.there.records.lag_seconds = 3600
    scene.there.befall(r"POST /api/v2/organizations$", Reset(), applied=True)
    first = await scene.send(company(name="Acme"))
    at_once = await scene.send(company(name="Acme"))
    scene.pass_time()
    later = await scene.crm.open().send(company(name="Acme Ltd"))

    assert outcomes([*first, *at_once, later]) == [Ambiguous, Locked, Delivered]
    assert [each["name"] for each in scene.organizations()] == ["Acme Ltd"]


async def test_a_create_that_was_surely_refused_is_tried_again_at_once(scene: Scene) -> None:
    scene.there.befall(r"POST /api/v2/organizations$", Status(status=400, body='{"success":false,"error":"no"}'))
    reports = await scene.send(company(name="Acme"), company(name="Acme"))

    assert outcomes(reports) == [Invalid, Delivered]


# Notes, activities, leads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("route", "kind"), [("notes", "notes"), ("tasks", "activities"), ("leads", "leads")])
async def test_a_signal_is_attached_to_its_company_once(scene: Scene, route: str, kind: str) -> None:
    reports = await scene.send(signal(1, route=route), signal(1, route=route), signal(2, route=route))

    assert outcomes(reports) == [Delivered] * 3
    assert len(scene.of(kind, scene.named("Acme"))) == 2


@pytest.mark.parametrize(("route", "kind"), [("notes", "notes"), ("tasks", "activities"), ("leads", "leads")])
async def test_a_lost_answer_makes_no_second_one(scene: Scene, route: str, kind: str) -> None:
    await scene.send(company(name="Acme"))
    scene.there.befall(rf"POST .*/{kind}$", Reset(), applied=True)
    first = await scene.send(signal(1, route=route))
    scene.pass_time()
    again = await scene.crm.open().send(signal(1, route=route))

    assert outcomes([*first, again]) == [Ambiguous, Delivered]
    assert len(scene.of(kind, scene.named("Acme"))) == 1


async def test_a_note_says_what_the_signal_says_and_nothing_of_it_is_markup(scene: Scene) -> None:
    await scene.send(signal(1, summary="<b>bold</b>"))

    (note,) = scene.of("notes", scene.named("Acme"))
    assert "<strong>Signal 1</strong>" in note["content"]
    assert "&lt;b&gt;bold&lt;/b&gt;" in note["content"]


async def test_a_note_to_a_company_that_was_deleted_meanwhile_finds_its_way(scene: Scene) -> None:
    await scene.send(company(name="Acme"))
    scene.named("Acme").deleted = True
    reports = await scene.send(signal(1), signal(1))

    assert outcomes(reports) == [Transient, Delivered]
    assert len(scene.of("notes", scene.named("Acme"))) == 1


async def test_properties_are_set_on_companies_that_are_there_only(scene: Scene) -> None:
    reports = await scene.send(signal(1, "c-9", route="scores"), company(name="Acme"), signal(2, route="scores"))

    assert outcomes(reports) == [Invalid, Delivered, Delivered]
    assert scene.named("Acme").values["website"] == "Signal 2"


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Status(status=401, body='{"success":false}'), AuthRevoked()),
        (Status(status=402, body='{"success":false}'), Gone()),
        (Status(status=403, body="<html>Forbidden</html>"), RateLimited(timedelta(minutes=10))),
        (Status(status=403, body='{"success":false,"code":"feature_capping_deals_limit"}'), Invalid()),
        (Status(status=429, body="{}", headers={"x-ratelimit-reset": "2"}), RateLimited(timedelta(seconds=2))),
        (Status(status=500, body="oops"), Transient()),
        (Status(status=503, body="", retry_after_seconds=3), Transient(timedelta(seconds=3))),
        (Reset(), Ambiguous()),
    ],
    ids=str,
)
async def test_every_refusal_has_its_outcome(scene: Scene, fault: Any, expected: Outcome) -> None:
    await scene.send(company(name="known"))
    scene.there.befall("PATCH", fault)
    reports = await scene.send(company(name="Acme"))

    assert reports[0].outcome == expected


async def test_after_a_page_of_html_nothing_is_asked(scene: Scene) -> None:
    await scene.send(company(name="known"))
    scene.there.befall("PATCH", Status(status=403, body="<html>Forbidden</html>"))
    await scene.send(company(name="Acme"))
    before = len(scene.there.calls)
    reports = await scene.send(company(name="Acme"))

    assert outcomes(reports) == [RateLimited]
    assert len(scene.there.calls) == before


async def test_the_day_s_tokens_used_up_are_told_with_the_day_s_end(scene: Scene) -> None:
    await scene.send(company(name="known"))
    scene.there.limits.tokens_per_day = 0
    reports = await scene.send(company(name="Acme"), company(name="Acme"))

    assert outcomes(reports) == [QuotaExhausted] * 2
    assert scene.there.limits.refused == 1


async def test_a_connection_spends_no_more_than_its_share_of_the_day(scene: Scene, open_crm: OpenCrm) -> None:
    limited = spec(scene.simulator.url)
    limited["pipedrive"]["dailyTokens"] = 1_000
    crm = await open_crm(limited, "limited")
    connector = crm.open()
    reports = [await connector.send(company(f"c-{number}", name="n")) for number in range(60)]
    await connector.close()
    spent = scene.there.limits.tokens_today
    again = await crm.open().send(company("c-0", name="other"))
    exhausted = [report for report in reports if type(report.outcome) is QuotaExhausted]

    assert exhausted
    assert 900 <= spent <= 1_000
    assert scene.there.limits.tokens_today <= 1_000
    assert type(again.outcome) is QuotaExhausted
    assert "Raise spec.pipedrive.dailyTokens" in again.detail
    assert scene.there.limits.refused == 0


async def test_what_pipedrive_counts_is_what_we_count(scene: Scene) -> None:
    await scene.send(company(name="Acme"), signal(1), signal(2, route="tasks"), signal(3, route="leads"))
    await scene.connector.close()
    fact = scene.crm.layer.value("select value from integration.partner_fact where name = 'tokens'")

    assert fact["spent"] == scene.there.limits.tokens_today > 50


async def test_bursts_are_kept_so_that_nothing_is_refused(scene: Scene) -> None:
    scene.there.limits.per_burst = 12
    scene.there.limits.searches_per_burst = 10
    for number in range(12):
        await scene.send(company(f"c-{number}x", name="n"))

    assert scene.there.limits.refused == 0
    assert scene.there.limits.allowed > 24


async def test_the_token_is_in_no_report(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await scene.send(company(name="known"))
    scene.there.befall("PATCH", Status(status=400, body=f'{{"error": "bad token {TOKEN}"}}'))
    reports = await scene.send(company(name="Acme"))

    assert TOKEN not in str(reports)
    assert TOKEN not in caplog.text


async def test_the_account_is_checked_without_a_change(scene: Scene) -> None:
    findings = await scene.connector.check_account()

    assert [finding.what for finding in findings] == ["account", *(f"route {route['name']}" for route in ROUTES)]
    assert all(finding.advice == "" for finding in findings)
    assert {call.method for call in scene.there.calls} == {"GET"}


# Kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("route", ["companies", "notes", "leads"])
async def test_a_kill_at_any_await_makes_nothing_twice(scene: Scene, moment: Moment, route: str) -> None:
    scene.there.records.lag_seconds = 3600
    number, came_far = 0, True
    while came_far:
        number += 1
        id_ = f"c-{number}"
        delivery = company(id_, name=id_) if route == "companies" else signal(number, id_, route=route)
        came_far = await crashes(scene.crm.open().send(delivery), number, moment)
        await scene.crm.die(scene.simulator)
        report = await scene.crm.open().send(delivery)
        while type(report.outcome) is Locked:  # the dead one's claim, which may be written after its death
            scene.pass_time()
            report = await scene.crm.open().send(delivery)

        assert type(report.outcome) is Delivered

    records = scene.there.records
    assert number > 6
    assert len(records.living(records.organizations)) == number
    assert scene.twins() == {}
    assert sum(each["field_name"] == "Queast company id" for each in records.fields.values()) == 1
    if route != "companies":
        for each in records.living(records.organizations):
            assert len(scene.of(route, each)) == 1
