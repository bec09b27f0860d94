"""The rules of delivery hold on a real database and against a partner that misbehaves."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from connectors.simulation_faults import Hang, Status
from store.connections import read_connection
from store.dead_letters import discard
from store.publication import release
from store.replay_requests import read_targets
from store.replay_selection import Selection, Source
from store.replays import Request, read_moment, start
from store.transitions import read_transitions

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

FAILING = Status(status=500, times=None)
QUICK = {"requestsPerSecond": 10_000, "burst": 10_000, "concurrency": 16}
DEAD = "select reason, attempts, detail from integration.dead_letter order by job_id"


def dead(house: "House") -> int:
    count: int = house.layer.value("select count(*) from integration.dead_letter")
    return count


def received_at(house: "House", path: str = "/hook") -> list[float]:
    return sorted(at for arrival in house.arrivals(path) for at in arrival.received_at)


# Retry ------------------------------------------------------------------------------------------------------------


async def test_a_schedule_says_when_a_job_is_tried_again(house: "House") -> None:
    await house.publish(retry={"schedule": ["100ms", "1s"]})
    house.simulator.change("/hook", script=[Status(status=500, times=2)])
    house.start()
    house.layer.emit()
    await house.until_settled()

    first, second, third = received_at(house)
    assert 0.1 <= second - first < third - second
    assert third - second >= 1


async def test_a_job_whose_next_attempt_would_come_too_late_is_a_dead_letter_at_once(house: "House") -> None:
    await house.publish(retry={"schedule": ["1h"], "expireAfter": "10m"})
    house.simulator.change("/hook", script=[FAILING])
    house.start()
    house.layer.emit()
    await house.until(lambda: dead(house) == 1)

    ((reason, attempts, detail),) = house.layer.rows(DEAD)
    assert (reason, attempts) == ("Expired", 1)
    assert detail.startswith("not delivered within 10m of its event; the last attempt: HTTP 500")
    assert house.jobs() == 0


async def test_a_job_that_waited_too_long_is_not_tried_and_costs_the_lane_nothing(house: "House") -> None:
    await house.publish(retry={"expireAfter": "1s"}, throttle={"requestsPerSecond": 0.001, "burst": 1})
    house.start_dispatcher()
    for number in range(3):
        house.layer.emit(f"company-{number}")
    await house.until(lambda: house.jobs() == 3)
    house.layer.rows("select pg_sleep(1.1)")
    late = house.layer.emit("company-3")
    await house.until(lambda: house.jobs() == 4)
    house.start_worker()
    await house.until_accepted(1)
    await house.until_settled()

    assert [arrival.event.event_id for arrival in house.arrivals()] == [late]
    assert house.layer.rows(DEAD) == [("Expired", 0, "not delivered within 1s of its event")] * 3
    assert house.layer.value("select count(*) from integration.attempt") == 1


async def test_jobs_expire_behind_a_quarantine_and_say_so(house: "House") -> None:
    await house.publish(retry={"expireAfter": "2s"}, quarantine={"consecutiveFailures": 1, "probeInterval": "24h"})
    house.simulator.change("/hook", script=[FAILING])
    house.start()
    for number in range(20):
        house.layer.emit(f"company-{number % 5}")
    await house.until(lambda: house.lane()[0] == "Quarantined")
    await house.until(lambda: dead(house) == 20)

    reasons = house.layer.column("select distinct reason from integration.dead_letter")
    told = house.layer.value("select detail from integration.dead_letter order by job_id desc limit 1")
    assert (reasons, house.jobs()) == (["Expired"], 0)
    assert told.startswith(
        "not delivered within 2s of its event; the connection is quarantined: ConsecutiveFailures: 1"
    )


# What a partner says of its limits --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [{"RateLimit": '"burst";r=0;t=1'}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}],
    ids=["standard", "vendor"],
)
async def test_a_success_that_uses_the_budget_up_pauses_the_lane_before_it_is_refused(
    house: "House", headers: dict[str, str]
) -> None:
    await house.publish(throttle={**QUICK, "concurrency": 1})
    house.simulator.change("/hook", script=[Status(status=200, headers=headers)])
    house.start_dispatcher()
    for number in range(5):
        house.layer.emit(f"company-{number}")
    await house.until(lambda: house.jobs() == 5)
    house.start_worker()
    await house.until_settled()

    first, second, *_ = received_at(house)
    assert second - first >= 0.99
    assert house.layer.column("select distinct outcome from integration.attempt") == ["Delivered"]


async def test_a_refusal_without_retry_after_waits_as_long_as_the_limit_says(house: "House") -> None:
    await house.publish(throttle={**QUICK, "concurrency": 1}, retry={"initialDelay": "1h"})
    house.simulator.change("/hook", script=[Status(status=429, headers={"RateLimit": '"burst";r=0;t=1'})])
    house.start()
    house.layer.emit()
    await house.until_settled()

    first, second = received_at(house)
    assert 0.99 <= second - first < 60


async def test_retry_after_wins_over_other_headers(house: "House") -> None:
    await house.publish(throttle={**QUICK, "concurrency": 1})
    limits = {"RateLimit": '"daily";r=0;t=86400'}
    house.simulator.change("/hook", script=[Status(status=429, retry_after_seconds=1, headers=limits)])
    house.start()
    house.layer.emit()
    await house.until_settled()

    first, second = received_at(house)
    assert 0.99 <= second - first < 60


# Quarantine -------------------------------------------------------------------------------------------------------

TRANSITIONS = "select from_state, to_state, actor, held from integration.lane_transition order by id"
RECOVERY = [
    ("Quarantined", "Recovering at 10 %"),
    ("Recovering at 10 %", "Recovering at 25 %"),
    ("Recovering at 25 %", "Recovering at 50 %"),
    ("Recovering at 50 %", "Open"),
]


async def quarantined(house: "House", jobs: int, **rules: object) -> None:
    """Have a partner fail until its connection is quarantined, with so many jobs waiting."""
    await house.publish(throttle={**QUICK, "concurrency": 1}, quarantine={"consecutiveFailures": 3, **rules})
    house.simulator.change("/hook", script=[FAILING])
    house.start_dispatcher()
    for number in range(jobs):
        house.layer.emit(f"company-{number}")
    await house.until(lambda: house.jobs() == jobs)
    house.start_worker()
    await house.until(lambda: house.lane()[0] == "Quarantined")


async def test_a_release_climbs_step_by_step_and_every_step_is_recorded_with_who_and_how_much(house: "House") -> None:
    await quarantined(house, 30, probeInterval="24h", ramp={"successes": 5, "duration": "24h"})
    house.simulator.change("/hook", script=[])
    async with await house.layer.connect("operator") as operator:
        assert await release(operator, "acme", "hook")
    await house.until(lambda: len(house.layer.rows(TRANSITIONS)) >= 5)
    await house.until_settled()

    recorded = house.layer.rows(TRANSITIONS)
    assert [(before, after) for before, after, _, _ in recorded] == [("Open", "Quarantined"), *RECOVERY]
    assert [actor for _, _, actor, _ in recorded] == ["Worker", "Person", "Worker", "Worker", "Worker"]
    assert [held for _, _, _, held in recorded[:2]] == [30, 29]  # the probe is delivered
    assert house.simulator.stats("/hook").accepted == 30


async def test_a_failure_while_recovering_stops_the_lane_again_and_probes_come_more_rarely(house: "House") -> None:
    await quarantined(house, 10, probeInterval="1s", ramp={"successes": 100, "duration": "24h"})
    house.simulator.change("/hook", script=[Status(status=200, times=1), FAILING])
    await house.until(lambda: len(house.layer.rows(TRANSITIONS)) >= 3)

    again = house.layer.rows("select reason from integration.lane_transition order by id")[2][0]
    ((probes, interval),) = house.layer.rows(
        "select probes, extract(epoch from probe_at - quarantined_at)::float8 from integration.lane"
    )
    assert again.startswith("FailedAgain: while recovering at 10 %; the last: HTTP 500")
    assert house.layer.rows(TRANSITIONS)[2][:3] == ("Recovering at 10 %", "Quarantined", "Worker")
    assert probes >= 1
    assert interval is None or interval > 1.5


async def test_a_rate_of_failures_stops_a_partner_that_never_fails_often_in_a_row(house: "House") -> None:
    rate = {"percent": 40, "window": "1h", "minimumAttempts": 10}
    await house.publish(
        throttle={**QUICK, "concurrency": 1},
        quarantine={"consecutiveFailures": 1000, "failureRate": rate, "probeInterval": "24h"},
        retry={"initialDelay": "1h"},
    )
    house.simulator.change("/hook", script=[Status(status=500), Status(status=200)] * 50)
    house.start()
    for number in range(40):
        house.layer.emit(f"company-{number}")
    await house.until(lambda: house.lane()[0] == "Quarantined")

    reason = house.lane()[1]
    assert reason is not None
    assert reason.startswith(("FailureRate: 5 of 10 attempts within 1h", "FailureRate: 6 of 11 attempts within 1h"))
    assert house.simulator.stats("/hook").received in (10, 11)


async def test_a_changed_spec_is_named_as_what_brought_a_connection_back(house: "House") -> None:
    await quarantined(house, 5, probeInterval="24h")
    house.simulator.change("/hook", script=[])
    await house.publish(throttle={**QUICK, "concurrency": 2}, quarantine={"probeInterval": "24h"})
    await house.until_settled()

    assert house.layer.rows(TRANSITIONS)[1][:3] == ("Quarantined", "Recovering at 10 %", "Spec")


async def test_people_read_how_a_connection_came_to_its_state(house: "House") -> None:
    await quarantined(house, 5, probeInterval="24h")
    async with await house.layer.connect("reader") as reader:
        details = await read_connection(reader, "acme", "hook")
        (stopped,) = await read_transitions(reader, "acme", "hook", limit=10)

    assert details is not None
    assert (details.state, details.deferred + details.ready, details.held) == ("Quarantined", 5, 0)
    assert (stopped.before, stopped.after, stopped.held) == ("Open", "Quarantined", 5)


# Throttle ---------------------------------------------------------------------------------------------------------

LIMITS = "select effective_rps from integration.lane"


async def test_a_refusal_lowers_the_rate_and_the_next_owner_goes_on_with_it(house: "House") -> None:
    await house.publish(throttle={"requestsPerSecond": 1000, "burst": 10, "concurrency": 1})
    house.simulator.change("/hook", script=[Status(status=429, retry_after_seconds=60)])
    house.start()
    house.layer.emit()
    await house.until(lambda: house.layer.value(LIMITS) is not None)
    await house.kill("worker")
    house.start_worker("another")
    await house.until(lambda: house.layer.value("select owner is not null from integration.lane"))
    async with await house.layer.connect("reader") as reader:
        details = await read_connection(reader, "acme", "hook")

    assert details is not None
    assert details.effective_rps == 500


async def test_a_rate_that_was_lowered_rises_to_the_spec_s_again(house: "House") -> None:
    await house.publish(throttle={"requestsPerSecond": 1000, "burst": 10, "floorPercent": 98, "concurrency": 1})
    house.simulator.change("/hook", script=[Status(status=429, retry_after_seconds=1)])
    house.start()
    house.layer.emit()
    await house.until(lambda: house.layer.value(LIMITS) == 980)
    await house.until(lambda: house.layer.value(LIMITS) is None)

    assert house.simulator.stats("/hook").accepted == 1


async def test_partners_that_hang_never_keep_a_healthy_one_from_its_senders(house: "House") -> None:
    for number in range(6):
        await house.publish(f"/hang-{number}", name=f"hang-{number}", throttle=QUICK, timeout="60s")
        house.simulator.change(f"/hang-{number}", script=[Hang(times=None)])
    await house.publish("/well", name="well", throttle=QUICK)
    house.start_dispatcher()
    house.start_worker(senders=32, drain=timedelta(0))
    for number in range(40):
        house.layer.emit(f"company-{number}")
    await house.until_accepted(40, "/well")

    hanging = [house.simulator.stats(f"/hang-{number}").received for number in range(6)]
    assert sum(hanging) < 32
    assert min(hanging) >= 1


# Order ------------------------------------------------------------------------------------------------------------

REFUSED = Status(status=413, body="too large")


async def blocked(house: "House") -> tuple[str, list[str], int]:
    """Have the first of a subject's events refused for good; return it, those that wait behind it, and its job."""
    await house.publish(routes=[{"name": "all", "events": ["*"], "onDeadLetter": "Block"}])
    house.simulator.change("/hook", script=[REFUSED])
    house.start_dispatcher()
    first, *later = [house.layer.emit("company-1", number=number) for number in range(4)]
    await house.until(lambda: house.jobs() == 4)
    house.start_worker()
    await house.until(lambda: dead(house) == 1)
    others = [house.layer.emit("company-2", number=number) for number in range(2)]
    await house.until_accepted(2)
    await house.until(lambda: house.jobs() == 3)
    assert house.simulator.records("/hook").order == {"company-2": others}
    return first, later, house.layer.value("select job_id from integration.dead_letter where blocks")


async def resend(house: "House", job: int) -> None:
    """Ask for a dead letter to be sent again, as a person does."""
    query = "select event_id, route_id from integration.dead_letter where job_id = %s"
    ((event, route),) = house.layer.rows(query, (job,))
    async with await house.layer.connect("support") as support:
        moment = await read_moment(support)
        (target,) = await read_targets(support)
        named = {"events": (event,), "routes": (route,), "letters": (job,)}
        selection = Selection(Source.JOBS, target.tenant, target.id, moment, moment.at, **named)
        await start(support, [Request(selection, "ada@example.com", "it is mended")])


async def test_a_dead_letter_that_blocks_holds_its_subject_up_until_it_is_sent_again(house: "House") -> None:
    first, later, job = await blocked(house)
    await resend(house, job)
    await house.until(lambda: dead(house) == 0)
    await house.until_settled()

    assert house.simulator.records("/hook").order["company-1"] == [first, *later]
    assert dead(house) == 0


async def test_a_replay_has_no_deadline(house: "House") -> None:
    await house.publish(retry={"expireAfter": "1s"})
    house.simulator.change("/hook", script=[REFUSED])
    event = house.layer.emit("company-1")
    house.layer.rows("update integration.event set at = at - interval '1 hour'")
    house.start_dispatcher()
    house.start_worker()
    await house.until(lambda: dead(house) == 1)
    house.simulator.change("/hook", script=[])
    await resend(house, house.layer.value("select job_id from integration.dead_letter"))
    await house.until_accepted(1)

    assert house.simulator.records("/hook").order == {"company-1": [event]}


async def test_a_dead_letter_that_blocks_lets_its_subject_go_when_it_is_discarded(house: "House") -> None:
    _, later, job = await blocked(house)
    async with await house.layer.connect("support") as support:
        assert await discard(support, [job], by="ada@example.com", why="it is nonsense") == [job]
    await house.until_settled()

    assert house.simulator.records("/hook").order["company-1"] == later
    assert dead(house) == 0


async def test_a_blocked_subject_stays_blocked_under_another_worker_and_for_probes(house: "House") -> None:
    first, later, job = await blocked(house)
    await house.kill("worker")
    house.layer.rows(
        "update integration.lane set state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'Gone',"
        " probe_at = now()"
    )
    house.start_worker("another")
    probed = house.layer.emit("company-3")
    await house.until_accepted(3)
    await house.until(lambda: house.lane()[0] == "Open")
    order = dict(house.simulator.records("/hook").order)
    await resend(house, job)
    await house.until(lambda: dead(house) == 0)
    await house.until_settled()

    assert "company-1" not in order
    assert order["company-3"] == [probed]
    assert house.simulator.records("/hook").order["company-1"] == [first, *later]


COLLAPSING = [{"name": "all", "events": ["*"], "collapse": True}]


async def test_newer_events_supersede_what_waits_for_the_throttle(house: "House") -> None:
    await house.publish(routes=COLLAPSING)
    house.start_dispatcher()
    emitted = [house.layer.emit(f"company-{number % 2}", number=number) for number in range(100)]
    await house.until(lambda: house.jobs() == 100)
    house.start_worker()
    await house.until_settled()

    orders = house.simulator.records("/hook").order
    recorded = "select count(*) from integration.attempt where outcome = %s"
    superseded = house.layer.value(recorded, ("Superseded",))
    assert [orders["company-0"][-1], orders["company-1"][-1]] == emitted[-2:]
    assert superseded + house.simulator.stats("/hook").accepted == 100
    assert house.simulator.stats("/hook").accepted < 30
    house.assert_in_order()


async def test_newer_events_supersede_one_that_waits_for_its_next_attempt(house: "House") -> None:
    await house.publish(routes=COLLAPSING, retry={"schedule": ["2s"]}, throttle={**QUICK, "concurrency": 1})
    house.simulator.change("/hook", script=[Status(status=500)])
    house.start()
    first = house.layer.emit("company-1", number=0)
    await house.until(lambda: house.layer.value("select count(*) from integration.job where state = 1") == 1)
    *middle, last = [house.layer.emit("company-1", number=number) for number in range(1, 60)]
    await house.until_settled()

    told = house.layer.column("select detail from integration.attempt where outcome = 'Superseded' order by job_id")
    assert house.simulator.records("/hook").order == {"company-1": [last]}
    assert told == [f"by {last}"] * (1 + len(middle))
    assert first not in house.simulator.records("/hook").order["company-1"]


async def test_an_event_of_another_type_supersedes_nothing(house: "House") -> None:
    await house.publish(routes=COLLAPSING)
    house.start_dispatcher()
    emit = "select integration.emit_event('acme', %s, 'company-1', '{}')"
    types = ["ext.test.changed", "ext.test.seen", "ext.test.changed", "ext.test.named"]
    emitted = [house.layer.value(emit, (type_,)) for type_ in types]
    await house.until(lambda: house.jobs() == 4)
    house.start_worker()
    await house.until_settled()

    assert house.simulator.records("/hook").order == {"company-1": emitted[1:]}
