"""The rules of delivery hold on a real database and against a partner that misbehaves."""

from typing import TYPE_CHECKING

import pytest

from connectors.webhook.simulator_faults import Status

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
