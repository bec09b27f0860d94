"""Connections that share limits keep them together, whoever delivers, and rest when the day's calls are made."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from connectors.connector import Connection, Connector, Delivery
from connectors.context import ConnectorContext
from connectors.simulation_faults import Status
from contracts.outcomes import Delivered, Report

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

NAMES = ("north", "east", "south", "west")
AMPLE = {"requestsPerSecond": 10_000, "burst": 10_000, "concurrency": 16}


@dataclass
class Partner:
    """Sees the calls of all workers at the moment they are made."""

    seconds: float = 0.0
    calls: list[tuple[float, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def open(self, connection: Connection, context: ConnectorContext) -> Connector:
        return Caller(self, connection.name)


@dataclass
class Caller:
    """One connection's way to the partner."""

    partner: Partner
    name: str

    async def send(self, delivery: Delivery) -> Report:
        partner = self.partner
        partner.calls.append((time.monotonic(), self.name))
        partner.at_once += 1
        partner.most_at_once = max(partner.most_at_once, partner.at_once)
        await asyncio.sleep(partner.seconds)
        partner.at_once -= 1
        return Report(Delivered())

    async def close(self) -> None:
        pass


async def publish_all(house: "House", names: tuple[str, ...] = NAMES, **throttle: Any) -> None:
    """Publish connections of one tenant under one scope, each delivered by a pool of two."""
    for number, name in enumerate(names):
        pool = ("pool_a", "pool_b")[number % 2]
        await house.publish(f"/{name}", name=name, pool=pool, throttle={"scope": "account", **AMPLE, **throttle})


async def start_workers(house: "House", partner: Partner) -> None:
    """Start as many workers as there are connections, and wait until each has one."""
    for number in range(4):
        house.start_worker(f"worker-{number}", pool=("pool_a", "pool_b")[number % 2], factory=partner.open)
    owners = "select count(distinct owner) from integration.lane where owner is not null"
    await house.until(lambda: house.layer.value(owners) == 4)


def most_in_a_window(calls: list[float], rate: float) -> float:
    """Return by how much the calls of any span of time exceed what its seconds bring."""
    highest = lowest = 0.0
    for number, at in enumerate(calls):
        lowest = min(lowest, number - rate * at)
        highest = max(highest, number + 1 - rate * at - lowest)
    return highest


def scope(house: "House", column: str) -> Any:
    return house.layer.value(f"select {column} from integration.throttle_scope")


async def test_four_workers_under_one_scope_make_the_calls_of_one_bucket_and_all_get_some(house: "House") -> None:
    rate, burst, partner = 50.0, 20, Partner()
    await publish_all(house, requestsPerSecond=rate, burst=burst)
    await start_workers(house, partner)
    for number in range(200):
        house.layer.emit(f"company-{number}")
    house.start_dispatcher()
    await house.until(lambda: len(partner.calls) >= 200)
    calls = partner.calls[:200]
    times = [at for at, _ in calls]
    later = [[name for _, name in calls[80:]].count(name) for name in NAMES]

    assert most_in_a_window(times, rate) <= burst + 0.1  # the two clocks are not one
    assert 0.98 * rate * (times[-1] - times[20]) <= 180
    assert min(later) > max(later) / 2


async def test_requests_at_once_are_those_of_the_scope(house: "House") -> None:
    partner = Partner(seconds=0.02)
    await publish_all(house, concurrency=3)
    await start_workers(house, partner)
    for number in range(20):
        house.layer.emit(f"company-{number}")
    house.start_dispatcher()
    await house.until_settled()

    assert (partner.most_at_once, len(partner.calls)) == (3, 80)


async def test_the_places_of_a_worker_that_died_are_free_with_its_session(house: "House") -> None:
    hanging, answering = Partner(seconds=600.0), Partner()
    await publish_all(house, NAMES[:2], concurrency=2)
    house.start_worker("first", factory=hanging.open)
    house.start_dispatcher()
    for number in range(4):
        house.layer.emit(f"company-{number}")
    await house.until(lambda: hanging.at_once == 2)
    house.start_worker("second", pool="pool_b", factory=answering.open)
    await house.until(lambda: house.layer.value("select count(*) from integration.throttle_share where asks > 0") == 1)
    before = len(answering.calls)
    await house.kill("first")
    house.start_worker("third", factory=answering.open)  # finds that the lease has run out
    await house.until_settled()

    assert (before, len(answering.calls)) == (0, 8)


async def test_a_partner_that_asks_one_connection_for_silence_gets_it_from_all(house: "House") -> None:
    await publish_all(house, NAMES[:2])
    house.simulator.change("/north", script=[Status(status=429, retry_after_seconds=600)])
    house.start_worker("first")
    house.start_dispatcher()
    house.layer.emit("company-1")
    await house.until(lambda: scope(house, "paused_until") is not None)
    house.start_worker("second", pool="pool_b")
    await house.until(lambda: house.layer.value("select count(*) from integration.throttle_share") == 2)

    assert house.simulator.stats("/east").received == 0
    assert house.jobs() == 2


async def test_deliveries_rest_when_the_day_is_spent_and_go_on_with_the_next(house: "House") -> None:
    partner = Partner()
    await publish_all(house, dailyBudget={"limit": 10, "resetZone": "Europe/Berlin"})
    await start_workers(house, partner)
    house.start_dispatcher()
    for number in range(6):
        house.layer.emit(f"company-{number}")
    await house.until(lambda: scope(house, "spent") == 10 and house.jobs() == 14)
    made = len(partner.calls)
    house.layer.rows("update integration.throttle_scope set resets_at = now(), daily_limit = 9")
    house.layer.rows("update integration.routing set epoch = epoch + 1")
    house.layer.rows("notify integration_routing")
    await house.until(lambda: scope(house, "spent") == 9 and house.jobs() == 5)

    assert (made, len(partner.calls)) == (10, 19)
    assert house.layer.value("select count(*) from integration.dead_letter") == 0


async def test_retries_and_probes_are_calls_of_the_day(house: "House") -> None:
    throttle = {**AMPLE, "dailyBudget": {"limit": 4, "resetZone": "UTC"}}
    await house.publish(
        throttle=throttle,
        retry={"schedule": ["100ms"]},
        quarantine={"consecutiveFailures": 3, "probeInterval": "1s"},
    )
    house.simulator.change("/hook", script=[Status(status=500, times=None)])
    house.start()
    house.layer.emit()
    await house.until(lambda: house.layer.value("select probes from integration.lane") == 1)
    await house.until(lambda: house.layer.value("select probe_at < now() - interval '1 s' from integration.lane"))

    assert (house.simulator.stats("/hook").received, scope(house, "spent")) == (4, 4)
    assert house.lane()[0] == "Quarantined"


async def test_a_raised_budget_is_used_at_once(house: "House") -> None:
    throttle = {**AMPLE, "dailyBudget": {"limit": 2, "resetZone": "UTC"}}
    await house.publish(throttle=throttle)
    house.start()
    for number in range(5):
        house.layer.emit(f"company-{number}")
    await house.until_accepted(2)
    await house.publish(throttle={**throttle, "dailyBudget": {"limit": 4, "resetZone": "UTC"}})
    await house.until_accepted(4)
    await house.publish(throttle=AMPLE)
    await house.until_settled()

    assert house.simulator.stats("/hook").accepted == 5


async def test_a_connection_that_comes_under_another_scope_goes_on_there(house: "House") -> None:
    slow = {"requestsPerSecond": 0.001, "burst": 2}
    await house.publish(throttle={**AMPLE, **slow, "scope": "one"})
    house.start()
    for number in range(5):
        house.layer.emit(f"company-{number}")
    await house.until_accepted(2)
    await house.publish(throttle={**AMPLE, "scope": "two"})
    await house.until_settled()

    assert house.layer.column("select name from integration.throttle_scope") == ["two"]
    assert house.simulator.stats("/hook").accepted == 5


async def test_a_connection_without_a_scope_draws_nothing(house: "House") -> None:
    await house.publish(throttle=AMPLE)
    house.layer.admin.execute("alter table integration.throttle_share add check (false)")
    house.layer.admin.execute("revoke execute on function integration.draw_permits from integration_worker")
    house.start()
    for number in range(20):
        house.layer.emit(f"company-{number}")
    await house.until_settled()

    opened = house.layer.column("select application_name from pg_stat_activity where application_name like '%%permits'")
    assert opened == []
