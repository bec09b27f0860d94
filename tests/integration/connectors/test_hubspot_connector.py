"""Events become companies, notes and tasks of a HubSpot account: once each, whatever happens on the way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from connectors.certification.crashing import Moment, crashes
from connectors.hubspot.simulator import HubSpotSimulator
from connectors.hubspot.simulator_account import Account
from connectors.simulation_faults import Hang, Reset, Status
from contracts.outcomes import (
    Ambiguous,
    AuthRevoked,
    Delivered,
    ForbiddenScope,
    Invalid,
    Locked,
    Migrating,
    Misconfigured,
    Outcome,
    QuotaExhausted,
    RateLimited,
    Report,
    TooManyAtOnce,
    Transient,
)
from tests.integration.connectors.crm import TOKEN, Crm, OpenCrm, company, signal

pytestmark = pytest.mark.anyio

FIELDS = [
    {"property": "name", "value": "event.data.name"},
    {"property": "city", "value": "event.data.city"},
    {"property": "industry", "value": "event.data.industry"},
    {"property": "numberofemployees", "value": "event.data.employees"},
]
ROUTES = [
    {"name": "companies", "events": ["company.*"], "action": "UpsertCompany"},
    {"name": "mapped", "events": ["company.updated"], "fields": FIELDS},
    {"name": "archive", "events": ["company.deleted"], "action": "ArchiveCompany"},
    {"name": "notes", "events": ["signal.published"]},
    {"name": "tasks", "events": ["signal.published"], "action": "AddTask"},
    {
        "name": "scores",
        "events": ["signal.published"],
        "action": "SetProperties",
        "fields": [{"property": "description", "value": "event.data.signal.title"}],
    },
]


@dataclass
class Scene:
    """A connection to a simulated account."""

    crm: Crm
    account: Account
    connector: Any
    simulator: HubSpotSimulator

    async def send(self, *deliveries: Any) -> list[Report]:
        reports: list[Report] = await self.connector.send_many(deliveries)
        return reports

    def companies(self) -> list[dict[str, str]]:
        return [each.properties for each in self.account.records.living("companies")]

    def named(self, name: str) -> Any:
        return next(each for each in self.account.records.living("companies") if each.properties.get("name") == name)

    def calls(self, method: str, path: str) -> int:
        return sum(call.method == method and call.path.endswith(path) for call in self.account.calls)


def spec(url: str, **more: Any) -> dict[str, Any]:
    auth = {"privateApp": {"tokenFrom": {"name": "crm", "key": "token"}}}
    return {
        "provider": "HubSpot",
        "hubspot": {"auth": auth, "apiUrl": url},
        "routes": ROUTES,
        "delivery": {"timeout": "5s"},
        **more,
    }


@pytest.fixture
async def scene(open_crm: OpenCrm) -> AsyncIterator[Scene]:
    async with HubSpotSimulator() as simulator:
        account = simulator.open_account(TOKEN)
        crm = await open_crm(spec(simulator.url))
        yield Scene(crm, account, crm.open(), simulator)


def outcomes(reports: list[Report]) -> list[type[Outcome]]:
    return [type(report.outcome) for report in reports]


# Companies --------------------------------------------------------------------------------------------------------


async def test_a_company_is_made_with_what_hubspot_has_a_place_for(scene: Scene) -> None:
    reports = await scene.send(
        company(name="Acme", domains=["www.Acme.example"], employees=12, industry="computer software", city=None)
    )

    assert outcomes(reports) == [Delivered]
    assert scene.companies() == [
        {
            "name": "Acme",
            "domain": "acme.example",
            "numberofemployees": "12",
            "industry": "COMPUTER_SOFTWARE",
            "queast_company_id": "c-1",
        }
    ]


async def test_a_company_is_updated_and_not_made_again_by_this_worker_or_the_next(scene: Scene) -> None:
    await scene.send(company(name="Acme", city="Ulm"))
    await scene.send(company(name="Acme Ltd", city=None))
    await scene.crm.open().send_many([company(name="Acme Inc")])
    scene.crm.layer.admin.execute("delete from integration.mapping")
    await scene.crm.open().send_many([company(name="Acme AG")])

    assert scene.companies() == [{"name": "Acme AG", "queast_company_id": "c-1"}]


async def test_a_hundred_companies_cost_few_calls_and_known_ones_one(scene: Scene) -> None:
    first = [company(f"c-{n}", name=f"Company {n}", domains=[f"c{n}.example"]) for n in range(100)]
    await scene.send(*first)
    before = len(scene.account.calls)
    reports = await scene.send(*(company(f"c-{n}", name=f"Company {n} Ltd") for n in range(100)))

    assert outcomes(reports) == [Delivered] * 100
    assert len(scene.companies()) == 100
    assert len(scene.account.calls) - before == 1
    assert len(scene.crm.links()) == 100


async def test_a_company_that_was_there_before_us_is_recognised_by_its_domain(scene: Scene) -> None:
    there = scene.account.records.create("companies", {"name": "ACME (old)", "domain": "acme.example"})
    reports = await scene.send(company(name="Acme", domains=["acme.example"]))

    assert outcomes(reports) == [Delivered]
    assert scene.companies() == [{"name": "Acme", "domain": "acme.example", "queast_company_id": "c-1"}]
    assert scene.crm.links() == {"c-1": there.id}


async def test_additional_domains_count_too_and_the_oldest_of_several_is_taken(scene: Scene) -> None:
    records = scene.account.records
    first = records.create("companies", {"name": "first"})
    first.properties["hs_additional_domains"] = "other.example;acme.example"
    second = records.create("companies", {"name": "second", "domain": "beta.example"})
    records.create("companies", {"name": "third", "domain": "beta.example"})
    await scene.send(company(name="Acme", domains=["acme.example"]), company("c-2", name="B", domains=["beta.example"]))

    assert scene.crm.links() == {"c-1": first.id, "c-2": second.id}


async def test_a_record_of_another_company_of_ours_is_never_taken_over(scene: Scene) -> None:
    await scene.send(company("c-1", name="First", domains=["same.example"]))
    await scene.send(company("c-2", name="Second", domains=["same.example"]))
    await scene.send(
        company("c-3", name="Third", domains=["new.example"]), company("c-4", name="Fourth", domains=["new.example"])
    )

    assert sorted(each["name"] for each in scene.companies()) == ["First", "Fourth", "Second", "Third"]
    assert scene.account.twins("companies", "queast_company_id") == {}


async def test_a_route_s_fields_are_set_cleared_or_left_alone(scene: Scene) -> None:
    await scene.send(company(name="Acme", city="Ulm", employees=3, route="mapped"))
    reports = await scene.send(company(name="Acme", city=None, industry="Retail", route="mapped"))

    assert outcomes(reports) == [Delivered]
    assert scene.companies() == [
        {"name": "Acme", "numberofemployees": "3", "industry": "RETAIL", "queast_company_id": "c-1"}
    ]


async def test_an_event_that_does_not_fit_is_given_up_alone(scene: Scene) -> None:
    reports = await scene.send(
        company("c-1", name="Good", route="mapped"),
        company("c-2", name="Bad", industry="Alchemy of 4711", route="mapped"),
        company("c-3", name="Bad too", employees="many", route="mapped"),
        company("", name="Nobody"),
    )

    assert outcomes(reports) == [Delivered, Invalid, Invalid, Invalid]
    assert "`industry`" in reports[1].detail
    assert "4711" not in reports[1].detail
    assert [each["name"] for each in scene.companies()] == ["Good"]


async def test_a_property_that_is_not_there_stops_the_connection_and_says_what_was_meant(
    scene: Scene, open_crm: OpenCrm
) -> None:
    url = scene.crm.connection.spec.hubspot.api_url  # type: ignore[union-attr]
    route = {"name": "companies", "events": ["company.updated"], "fields": [{"property": "industri", "value": "'x'"}]}
    crm = await open_crm(spec(url, routes=[route]), name="other")
    (report,) = await crm.open().send_many([company(name="Acme")])

    assert type(report.outcome) is Misconfigured
    assert "no property `industri`: did you mean industry?" in report.detail


async def test_of_two_events_of_one_company_in_a_batch_the_later_counts(scene: Scene) -> None:
    reports = await scene.send(company(name="Old", city="Ulm"), company(name="New"))

    assert outcomes(reports) == [Delivered] * 2
    assert scene.companies() == [{"name": "New", "city": "Ulm", "queast_company_id": "c-1"}]


async def test_a_merged_company_is_followed_and_a_deleted_one_made_again(scene: Scene) -> None:
    await scene.send(company("c-1", name="One"), company("c-2", name="Two"), company("c-3", name="Three"))
    one, two, three = (scene.named(name) for name in ("One", "Two", "Three"))
    scene.account.records.merge(one.id, two.id)
    three.archived = True
    reports = await scene.send(company("c-2", name="Two now"), company("c-3", name="Three now"))

    assert outcomes(reports) == [Delivered] * 2
    assert scene.crm.links()["c-2"] == one.id
    assert scene.crm.links()["c-3"] != three.id
    assert sorted(each["name"] for each in scene.companies()) == ["Three now", "Two now"]


async def test_an_archived_company_is_gone_and_archiving_it_again_is_no_failure(scene: Scene) -> None:
    await scene.send(company(name="Acme"))
    gone = company(kind="company.deleted", route="archive")
    reports = [*await scene.send(gone), *await scene.send(gone)]

    assert outcomes(reports) == [Delivered] * 2
    assert scene.companies() == []


async def test_a_deleted_company_is_left_alone_by_other_actions(scene: Scene) -> None:
    reports = await scene.send(company(kind="company.deleted"))

    assert outcomes(reports) == [Delivered]
    assert scene.companies() == []


# Notes and tasks --------------------------------------------------------------------------------------------------


async def test_a_signal_becomes_a_note_on_its_company(scene: Scene) -> None:
    await scene.send(company(name="Acme"))
    reports = await scene.send(signal(1, summary="<b>bold</b>"))

    (note,) = scene.account.records.associated("notes", "companies", scene.named("Acme").id)
    assert outcomes(reports) == [Delivered]
    assert "<strong>Signal 1</strong>" in note.properties["hs_note_body"]
    assert "&lt;b&gt;bold&lt;/b&gt;" in note.properties["hs_note_body"]
    assert "https://signals.example/contract 3" in note.properties["hs_note_body"]


async def test_a_company_that_is_not_there_is_made_for_its_note_if_its_name_is_known(scene: Scene) -> None:
    reports = await scene.send(signal(1, "c-1"), signal(2, "c-2", name=None), signal(3, "c-1"))

    assert outcomes(reports) == [Delivered, Invalid, Delivered]
    assert "deliver the company first" in reports[1].detail
    assert [each["name"] for each in scene.companies()] == ["Acme"]
    assert len(scene.account.records.associated("notes", "companies", scene.named("Acme").id)) == 2


async def test_actions_travel_together_and_each_does_its_own(scene: Scene) -> None:
    reports = await scene.send(
        signal(1), company(name="Acme"), signal(2, route="tasks"), signal(3, route="scores"), signal(4)
    )

    acme = scene.named("Acme")
    assert outcomes(reports) == [Delivered] * 5
    assert acme.properties["description"] == "Signal 3"
    assert len(scene.account.records.associated("notes", "companies", acme.id)) == 2
    (task,) = scene.account.records.associated("tasks", "companies", acme.id)
    assert task.properties["hs_task_subject"] == "Signal 2"


async def test_properties_are_set_on_companies_that_are_there_only(scene: Scene) -> None:
    reports = await scene.send(signal(1, "c-9", route="scores"))

    assert outcomes(reports) == [Invalid]
    assert scene.companies() == []


async def test_a_note_to_a_company_that_was_deleted_meanwhile_finds_its_way(scene: Scene) -> None:
    await scene.send(company(name="Acme"))
    scene.named("Acme").archived = True
    first = await scene.send(signal(1))
    again = await scene.send(signal(1))

    assert outcomes([*first, *again]) == [Transient, Delivered]
    assert len(scene.account.records.living("notes")) == 1
    assert len(scene.account.records.associated("notes", "companies", scene.named("Acme").id)) == 1


async def test_the_largest_note_is_accepted(scene: Scene) -> None:
    reports = await scene.send(signal(1, text="𝄞&<" * 60_000))

    assert outcomes(reports) == [Delivered]


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Status(status=401, body="{}"), AuthRevoked()),
        (Status(status=423, body="{}"), Locked(timedelta(seconds=2))),
        (Status(status=423, body="{}", retry_after_seconds=7), Locked(timedelta(seconds=7))),
        (Status(status=477, body="{}", retry_after_seconds=7200), Migrating(timedelta(hours=2))),
        (Status(status=500, body="oops"), Transient()),
        (Status(status=503, body="", retry_after_seconds=3), Transient(timedelta(seconds=3))),
        (Status(status=521, body=""), Transient()),
        (Status(status=429, body='{"policyName":"TEN_SECONDLY_ROLLING"}'), RateLimited(timedelta(seconds=10))),
        (Status(status=429, body='{"policyName":"SECONDLY"}'), RateLimited(timedelta(seconds=1))),
        (Reset(), Ambiguous()),
    ],
    ids=str,
)
async def test_every_refusal_has_its_outcome(scene: Scene, fault: Any, expected: Outcome) -> None:
    await scene.send(company("c-0", name="known"))
    scene.account.befall("batch/upsert", fault)
    reports = await scene.send(company("c-1", name="Acme"), company("c-2", name="Beta"))

    assert [report.outcome for report in reports] == [expected] * 2
    assert [company.get("name") for company in scene.companies()] == ["known"]


async def test_the_day_s_calls_used_up_are_told_with_the_day_s_end_and_not_tried_again(scene: Scene) -> None:
    scene.account.limits.zone = "Pacific/Auckland"
    await scene.send(company("c-0", name="known"))
    scene.account.limits.per_day = 0
    first = await scene.send(company("c-1", name="Acme"))
    calls = len(scene.account.calls)
    second = await scene.send(company("c-1", name="Acme"))

    assert isinstance(first[0].outcome, QuotaExhausted)
    assert first[0].outcome == second[0].outcome
    ends_in = first[0].outcome.reset_at.timestamp() - scene.account.limits.clock()
    assert ends_in == pytest.approx(scene.account.limits.seconds_to_midnight(), abs=5)
    assert len(scene.account.calls) == calls


async def test_a_missing_scope_is_named(scene: Scene) -> None:
    scene.account.scopes = frozenset({"crm.schemas.companies.read", "crm.schemas.companies.write"})
    reports = await scene.send(company(name="Acme"))

    assert [report.outcome for report in reports] == [ForbiddenScope("crm.objects.companies.write")]


async def test_one_bad_input_costs_the_others_nothing(scene: Scene) -> None:
    await scene.send(company("c-1", name="One"), company("c-2", name="Two"))
    scene.account.locked.add(scene.named("Two").id)
    reports = await scene.send(company("c-1", name="One now"), company("c-2", name="Two now"))

    assert [report.outcome for report in reports] == [Delivered(), Locked(timedelta(seconds=2))]


async def test_a_batch_that_is_refused_as_a_whole_is_sent_in_parts(scene: Scene) -> None:
    """Two of ours that lead to one record after a merge fail a batch; alone, each is taken."""
    await scene.send(company("c-1", name="One"), company("c-2", name="Two"))
    scene.account.records.merge(scene.named("One").id, scene.named("Two").id)
    together = await scene.send(company("c-1", name="One now"), company("c-2", name="Two now"))
    alone = [*await scene.send(company("c-1", name="One now")), *await scene.send(company("c-2", name="Two now"))]

    assert outcomes(together) == [TooManyAtOnce] * 2
    assert outcomes(alone) == [Delivered] * 2


async def test_a_partner_that_hangs_costs_no_more_than_the_timeout(scene: Scene, open_crm: OpenCrm) -> None:
    url = scene.crm.connection.spec.hubspot.api_url  # type: ignore[union-attr]
    crm = await open_crm(spec(url, delivery={"timeout": "300ms"}), name="impatient")
    connector = crm.open()
    await connector.send_many([company("c-0", name="known")])
    scene.account.befall("batch/upsert", Hang(times=None))
    (report,) = await connector.send_many([company(name="Acme")])

    assert type(report.outcome) is Ambiguous


async def test_a_property_of_ours_that_is_not_unique_is_told(scene: Scene) -> None:
    records = scene.account.records
    records.create_group("companies", "queast")
    records.create_property(
        "companies",
        {"name": "queast_company_id", "label": "x", "type": "string", "fieldType": "text", "groupName": "queast"},
    )
    (report,) = await scene.send(company(name="Acme"))

    assert type(report.outcome) is Misconfigured
    assert "does not require unique values" in report.detail


async def test_the_token_is_in_no_report(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.account.befall("batch/upsert", Status(status=400, body=f'{{"message": "bad token {TOKEN}"}}'))
    reports = await scene.send(company(name="Acme"))
    reports += await scene.send(signal(1))

    assert TOKEN not in str(reports)
    assert TOKEN not in caplog.text
    assert reports[0].exchange is not None
    assert reports[0].exchange.particulars is not None


async def test_a_missing_token_is_told_with_its_secret(scene: Scene) -> None:
    scene.crm.credentials.values = {}
    (report,) = await scene.send(company(name="Acme"))

    assert type(report.outcome) is Misconfigured
    assert "Secret acme/crm has no key token" in report.detail


async def test_the_account_is_checked_without_a_change(scene: Scene) -> None:
    findings = await scene.connector.check_account()

    assert [finding.what for finding in findings] == ["account", *(f"route {route['name']}" for route in ROUTES)]
    assert all(finding.advice == "" for finding in findings)
    assert {call.method for call in scene.account.calls} == {"GET"}


# Limits -----------------------------------------------------------------------------------------------------------


async def test_a_backlog_is_never_refused_for_a_limit(scene: Scene) -> None:
    scene.account.limits.per_ten_seconds = 12
    refused: list[Report] = []
    for number in range(12):
        refused += [r for r in await scene.send(company(f"c-{number}", name="n")) if type(r.outcome) is RateLimited]

    assert refused
    assert scene.account.limits.refused == {}
    assert scene.account.limits.allowed == 12


async def test_searches_are_not_refused_when_one_worker_follows_another(scene: Scene) -> None:
    for number in range(3):
        names = [f"d{number}-{each}" for each in range(4)]
        await scene.crm.open().send_many([company(name, name=name, domains=[f"{name}.example"]) for name in names])

    assert scene.account.limits.refused == {}
    assert scene.calls("POST", "/search") == 6


# Kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", list(Moment))
async def test_a_kill_at_any_await_makes_nothing_twice(
    scene: Scene, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.hubspot.client.UNKNOWN_SECONDS", 0.0)
    scene.account.limits.per_ten_seconds = 100_000
    scene.account.limits.searches_per_second = 100_000
    number, came_far = 0, True
    while came_far:
        number += 1
        id_ = f"c-{number}"
        deliveries = [
            company(id_, name=id_, domains=[f"{id_}.example"]),
            signal(number, id_),
            signal(number, id_, route="tasks"),
        ]
        came_far = await crashes(scene.crm.open().send_many(deliveries), number, moment)
        await scene.crm.die(scene.simulator)
        reports = await scene.crm.open().send_many(deliveries)

        assert outcomes(reports) == [Delivered] * 3

    records = scene.account.records
    assert number > 15
    assert len(records.living("companies")) == number
    assert scene.account.twins("companies", "queast_company_id") == {}
    for record in records.living("companies"):
        assert len(records.associated("notes", "companies", record.id)) == 1
        assert len(records.associated("tasks", "companies", record.id)) == 1
