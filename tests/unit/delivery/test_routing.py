"""Events reach the connections whose routes select them, and no other."""

import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ids import ConnectionId, EventId, PoolId, RouteId, TenantId
from delivery.routing import RoutingTable
from store.dispatch import NewEvent, NewJob, RouteRow

EVERYTHING = 1_000_000
AT = "2026-11-20 12:00:00+00"

FAILING = "event.data.missing.field == 1"
BROKEN = "event.data.name =="


def event(number: int = 1, tenant: str = "acme", kind: str = "company.updated", data: str | None = "{}") -> NewEvent:
    return NewEvent(EventId(number), AT, TenantId(tenant), kind, 77, "company/1", data)


def route(
    number: int = 1, tenant: str = "acme", events: tuple[str, ...] = ("*",), expression: str | None = None, **more: bool
) -> RouteRow:
    return RouteRow(
        RouteId(number),
        ConnectionId(100 + number),
        TenantId(tenant),
        PoolId(7),
        list(events),
        expression,
        more.get("ordered", True),
    )


def routed(routes: list[RouteRow], *events: NewEvent) -> list[tuple[int, int]]:
    """Say which event goes by which route."""
    _, jobs, _ = RoutingTable(1, routes).route(events, EVERYTHING)
    return [(job.event, job.route) for job in jobs]


@pytest.mark.parametrize("pattern", ["company.updated", "company.*", "*"])
def test_a_pattern_selects_the_types_it_covers(pattern: str) -> None:
    assert routed([route(events=(pattern,))], event(kind="company.updated")) == [(1, 1)]


@pytest.mark.parametrize("pattern", ["company.created", "company.updated.name", "company.updated.*", "contact.*"])
def test_a_pattern_selects_no_other_type(pattern: str) -> None:
    assert routed([route(events=(pattern,))], event(kind="company.updated")) == []


def test_a_prefix_ends_at_a_dot() -> None:
    assert routed([route(events=("company.*",))], event(kind="companyx.updated")) == []


def test_a_route_with_two_fitting_patterns_makes_one_job() -> None:
    assert routed([route(events=("company.updated", "*"))], event()) == [(1, 1)]


def test_an_event_makes_one_job_for_every_route_that_selects_it() -> None:
    assert routed([route(1), route(2), route(3, events=("contact.*",))], event()) == [(1, 1), (1, 2)]


def test_an_event_reaches_only_its_own_tenant() -> None:
    assert routed([route(1, tenant="acme"), route(2, tenant="globex")], event(tenant="globex")) == [(1, 2)]


def test_the_event_of_a_tenant_without_routes_goes_nowhere() -> None:
    assert routed([route(tenant="acme")], event(tenant="globex")) == []


def test_tenants_and_types_are_not_confused_by_what_was_routed_before() -> None:
    table = RoutingTable(1, [route(1, tenant="acme"), route(2, tenant="globex", events=("contact.*",))])
    table.route([event(tenant="acme"), event(tenant="globex")], EVERYTHING)

    _, jobs, _ = table.route([event(tenant="globex", kind="contact.created"), event(tenant="acme")], EVERYTHING)

    assert [job.route for job in jobs] == [2, 1]


def test_a_job_says_where_it_belongs() -> None:
    _, jobs, _ = RoutingTable(1, [route()]).route([event()], EVERYTHING)

    assert jobs == [NewJob(PoolId(7), ConnectionId(101), RouteId(1), EventId(1), AT, 77)]


def test_the_jobs_of_an_unordered_route_have_no_subject() -> None:
    _, jobs, _ = RoutingTable(1, [route(ordered=False)]).route([event()], EVERYTHING)

    assert [job.subject_hash for job in jobs] == [None]


def test_a_failure_on_an_unordered_route_has_no_subject() -> None:
    table = RoutingTable(1, [route(expression=FAILING, ordered=False)])

    _, _, failures = table.route([event()], EVERYTHING)

    assert [failure.subject_hash for failure in failures] == [None]


@given(st.integers(), st.integers())
def test_a_filter_lets_through_the_events_for_which_it_is_true(size: int, limit: int) -> None:
    bounded = [number % 2**31 for number in (size, limit)]
    routes = [route(expression=f"event.data.size > {bounded[1]}")]

    passed = routed(routes, event(data=json.dumps({"size": bounded[0]})))

    assert bool(passed) == (bounded[0] > bounded[1])


@pytest.mark.parametrize(
    "expression",
    ["event.type == 'company.updated'", "event.subject == 'company/1'", "event.tenant == 'acme'"],
)
def test_a_filter_sees_the_event_itself(expression: str) -> None:
    assert routed([route(expression=expression)], event()) == [(1, 1)]


def test_a_filter_sees_an_event_without_data_as_one_with_an_empty_object() -> None:
    assert routed([route(expression="size(event.data) == 0")], event(data=None)) == [(1, 1)]


def test_a_filter_sees_each_events_own_data() -> None:
    events = [event(number, data=json.dumps({"wanted": number == 2})) for number in (1, 2, 3)]

    assert routed([route(expression="event.data.wanted")], *events) == [(2, 1)]


@pytest.mark.parametrize("expression", [FAILING, "event.data", BROKEN], ids=["failing", "no boolean", "broken"])
def test_a_filter_that_cannot_decide_makes_one_failure(expression: str) -> None:
    _, _, failures = RoutingTable(1, [route(expression=expression)]).route([event()], EVERYTHING)

    assert [failure[:6] for failure in failures] == [("acme", 101, 1, 1, AT, 77)]


@pytest.mark.parametrize("expression", [FAILING, "event.data", BROKEN], ids=["failing", "no boolean", "broken"])
def test_a_filter_that_cannot_decide_makes_no_job(expression: str) -> None:
    assert routed([route(expression=expression)], event()) == []


@pytest.mark.parametrize("expression", [FAILING, "event.data", BROKEN], ids=["failing", "no boolean", "broken"])
def test_a_failure_says_why(expression: str) -> None:
    _, _, failures = RoutingTable(1, [route(expression=expression)]).route([event()], EVERYTHING)

    assert all(failure.detail for failure in failures)


@pytest.mark.parametrize("expression", [FAILING, BROKEN], ids=["failing", "broken"])
def test_a_filter_that_cannot_decide_hinders_no_other_route(expression: str) -> None:
    assert routed([route(1), route(2, expression=expression), route(3)], event()) == [(1, 1), (1, 3)]


def test_a_broken_filter_fails_no_event_that_its_patterns_leave_out() -> None:
    table = RoutingTable(1, [route(events=("contact.*",), expression=BROKEN)])

    _, _, failures = table.route([event()], EVERYTHING)

    assert failures == []


def test_a_table_with_a_filter_reads_data() -> None:
    assert RoutingTable(1, [route(1), route(2, expression="true")]).reads_data


def test_a_table_without_filters_reads_no_data() -> None:
    assert not RoutingTable(1, [route(1), route(2)]).reads_data


@given(st.integers(1, 5), st.integers(0, 20), st.integers(1, 30))
def test_routing_stops_only_after_whole_events(routes: int, events: int, at_once: int) -> None:
    table = RoutingTable(1, [route(number) for number in range(routes)])

    done, jobs, _ = table.route([event(number) for number in range(events)], at_once)

    assert [job.event for job in jobs] == [number for number in range(done) for _ in range(routes)]


@given(st.integers(1, 5), st.integers(0, 20), st.integers(1, 30))
def test_routing_stops_with_the_event_that_brings_the_jobs_to_their_number(
    routes: int, events: int, at_once: int
) -> None:
    table = RoutingTable(1, [route(number) for number in range(routes)])

    done, _, _ = table.route([event(number) for number in range(events)], at_once)

    assert done == min(events, next(number for number in count() if number * routes >= at_once))


def test_failures_count_as_jobs_do() -> None:
    table = RoutingTable(1, [route(expression=FAILING)])

    done, _, _ = table.route([event(number) for number in range(5)], 2)

    assert done == 2


@given(st.integers(1, 4), st.integers(0, 20), st.integers(1, 10))
def test_routing_in_parts_gives_the_same_jobs_as_at_once(routes: int, events: int, at_once: int) -> None:
    table = RoutingTable(1, [route(number) for number in range(routes)])
    rest = [event(number) for number in range(events)]
    _, wanted, _ = table.route(rest, EVERYTHING)

    parts: list[NewJob] = []
    while rest:
        done, jobs, _ = table.route(rest, at_once)
        parts += jobs
        rest = rest[done:]

    assert parts == wanted
