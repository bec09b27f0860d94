"""However many workers draw from a scope, and however they die, no more is drawn than it has; and each gets its share.

Time passes at the word of a test: whatever a scope and those in its queue remember is moved into the past.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING
from uuid import uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest

from contracts.ids import ConnectionId, ConnectionUid, SessionId
from store.database import Database
from store.errors import LeaseLostError
from store.lanes import acquire_lanes, close_session, open_session
from store.publication import PublishedConnection, Refusal, RefusalCause, publish, write_pool
from store.removal import remove
from store.scopes import CHANNEL, Draw, Drawn, ScopeDetails, draw_permits, read_budgets, read_scope

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

LEASE = timedelta(minutes=5)


@dataclass
class Claimant:
    """A worker with one lane, which uses what it draws at once and tells it with its next draw."""

    layer: "Layer"
    database: Database
    session: SessionId
    lane: ConnectionId
    weight: int = 1
    under_way: int = 0
    used_at: float | None = None
    asks_at: float = 0.0
    calls: list[float] = field(default_factory=list)

    async def tell(
        self,
        wanted: int = 0,
        *,
        in_hand: int = 0,
        unused: int = 0,
        used_ago: float | None = None,
        rests: float | None = None,
    ) -> Drawn:
        draw = Draw(self.lane, self.weight, self.under_way, in_hand, used_ago, unused, rests, wanted)
        (drawn,) = await draw_permits(self.database, self.session, [draw])
        return drawn

    async def draw(self, wanted: int) -> int:
        """Draw and use; what is drawn stays under way until the test says otherwise."""
        drawn = await self.tell(wanted, used_ago=None if self.used_at is None else 0.0)
        self.under_way += drawn.granted
        self.used_at = 0.0 if drawn.granted else None
        return drawn.granted


@asynccontextmanager
async def claimants(
    layer: "Layer", number: int, *, weights: tuple[int, ...] = (), **throttle: object
) -> AsyncIterator[list[Claimant]]:
    """Give as many workers, in two pools, each with a connection of its own under one scope."""
    found = []
    for index in range(number):
        pool = ("pool_a", "pool_b")[index % 2]
        spec = layer.spec(throttle={"scope": "account", "concurrency": 1000, **throttle})
        published = await layer.publish(spec, name=f"hook-{index}", pool=pool)
        database = await layer.connect(pool)
        session = await open_session(database, published.pool, f"worker-{index}", LEASE)
        (lane,) = await acquire_lanes(database, published.pool, session, limit=1)
        found.append(Claimant(layer, database, session, lane, weights[index] if weights else 1))
    yield found


def pass_time(layer: "Layer", seconds: float) -> None:
    """Move what scopes and queues remember into the past."""
    remembered = {"scope": ("tokens_at", "resets_at", "paused_until"), "share": ("asks_since", "comes_at")}
    for table, columns in remembered.items():
        moved = ", ".join(f"{column} = {column} - {seconds} * interval '1 s'" for column in columns)
        layer.rows(f"update integration.throttle_{table} set {moved}")


def now(layer: "Layer") -> float:
    return float(layer.value("select extract(epoch from clock_timestamp())"))


def scopes(layer: "Layer") -> list[tuple[object, ...]]:
    return layer.rows(
        "select name, requests_per_second, burst, concurrency, daily_limit, reset_zone"
        " from integration.throttle_scope order by name"
    )


# What a scope is -----------------------------------------------------------------------------------------------------


async def test_a_scope_has_the_smallest_limits_that_any_of_its_connections_states(layer: "Layer") -> None:
    berlin = {"limit": 900, "resetZone": "Europe/Berlin"}
    stated: list[dict[str, object]] = [
        {"requestsPerSecond": 9.0, "burst": 40, "concurrency": 8, "dailyBudget": {"limit": 1000, "resetZone": "UTC"}},
        {"requestsPerSecond": 5.0, "burst": 50, "concurrency": 9, "dailyBudget": berlin},
        {"requestsPerSecond": 7.0, "burst": 30, "concurrency": 7},
    ]
    for number, throttle in enumerate(stated):
        await layer.publish(layer.spec(throttle={"scope": "account", **throttle}), name=f"hook-{number}")

    assert scopes(layer) == [("account", 5.0, 30, 7, 900, "Europe/Berlin")]
    assert layer.value("select count(distinct scope_id) from integration.lane") == 1


async def test_scopes_of_one_name_of_two_tenants_are_two(layer: "Layer") -> None:
    for tenant in ("acme", "globex"):
        await layer.publish(layer.spec(tenant=tenant, throttle={"scope": "account"}), namespace=tenant)

    assert layer.column("select tenant_id from integration.throttle_scope order by 1") == ["acme", "globex"]


async def test_a_connection_that_leaves_takes_its_limits_along(layer: "Layer") -> None:
    first, second = {"scope": "account", "burst": 10}, {"scope": "account", "burst": 20}
    await layer.publish(layer.spec(throttle=first), name="first")
    await layer.publish(layer.spec(throttle=second), name="second")
    before = layer.value("select burst from integration.throttle_scope")
    await layer.publish(layer.spec(throttle={"burst": 10}), name="first")

    assert (before, layer.value("select burst from integration.throttle_scope")) == (10, 20)
    assert layer.column("select scope_id is null from integration.lane order by connection_id") == [True, False]


async def test_a_scope_ends_with_its_last_connection(layer: "Layer") -> None:
    published = await layer.publish(layer.spec(throttle={"scope": "account"}))
    async with await layer.connect("operator") as operator:
        await remove(operator, [published.uid], keep=False, reason="gone")

    assert scopes(layer) == []


async def test_a_connection_without_scope_and_budget_has_none(layer: "Layer") -> None:
    await layer.publish()

    assert layer.column("select scope_id from integration.lane") == [None]
    assert scopes(layer) == []


async def test_a_budget_of_one_connection_limits_nothing_but_its_day(layer: "Layer") -> None:
    published = await layer.publish(layer.spec(throttle={"dailyBudget": {"limit": 7, "resetZone": "UTC"}}))

    assert scopes(layer) == [(f"~{published.id}", None, None, None, 7, "UTC")]


async def test_a_budget_of_days_in_no_zone_of_the_database_is_refused_and_the_others_are_published(
    layer: "Layer",
) -> None:
    async with await layer.connect("operator") as operator:
        pool = await write_pool(operator, "pool_a", "pool_a")
        wanted = [
            PublishedConnection(
                ConnectionUid(uuid4()),
                "acme",
                name,
                layer.spec(throttle={"dailyBudget": {"limit": 5, "resetZone": zone}}),
                pool,
            )
            for name, zone in (("good", "Europe/Berlin"), ("bad", "Europe/Atlantis"))
        ]
        _, refused = await publish(operator, wanted)

    assert isinstance(refused, Refusal)
    assert refused.cause is RefusalCause.INVALID_SPEC
    assert "dailyBudget.resetZone: the database knows no time zone Europe/Atlantis" in refused.reason
    assert layer.column("select name from integration.connection") == ["good"]


# The bucket ----------------------------------------------------------------------------------------------------------


def most_in_a_window(calls: list[float], rate: float) -> float:
    """Return by how much the calls of any span of time exceed what its seconds bring."""
    highest = lowest = 0.0
    for number, at in enumerate(sorted(calls)):
        lowest = min(lowest, number - rate * at)
        highest = max(highest, number + 1 - rate * at - lowest)
    return highest


async def draw_when_due(workers: list[Claimant], seconds: float, wanted: int, lateness: Random | None = None) -> float:
    """Have workers draw at the times they are told, or somewhat late, for so long; return how long it was."""
    layer, shift = workers[0].layer, 0.0
    begin = now(layer)
    while (passed := now(layer) - begin + shift) < seconds:
        worker = min(workers, key=lambda each: each.asks_at)
        late = max(worker.asks_at - passed, 0.0) + (lateness.random() / 2 if lateness else 0.0)
        pass_time(layer, late)
        shift += late
        at = now(layer) - begin + shift
        drawn = await worker.tell(wanted, used_ago=None if worker.used_at is None else at - worker.used_at)
        worker.used_at = at if drawn.granted else None
        worker.calls += [at] * drawn.granted
        worker.asks_at = at + drawn.wait_seconds
    return passed


@pytest.mark.parametrize(("burst", "wanted"), [(3, 1), (20, 8)])
async def test_four_workers_together_make_the_calls_of_one_bucket(layer: "Layer", burst: int, wanted: int) -> None:
    async with claimants(layer, 4, requestsPerSecond=1.0, burst=burst) as workers:
        passed = await draw_when_due(workers, 400.0, wanted, Random(burst))
    numbers = [len(worker.calls) for worker in workers]

    assert most_in_a_window([call for worker in workers for call in worker.calls], 1.0) <= burst + 0.1
    assert sum(numbers) >= 0.98 * passed
    assert min(numbers) >= 0.9 * max(numbers)


async def test_what_is_drawn_and_not_used_is_part_of_the_burst(layer: "Layer") -> None:
    async with claimants(layer, 2, requestsPerSecond=1.0, burst=10) as (first, second):
        drawn = [(await first.tell(4)).granted]
        pass_time(layer, 100.0)
        drawn.append((await second.tell(16)).granted)

    assert drawn == [4, 6]


@pytest.mark.parametrize(("used_ago", "granted"), [(0.0, 6), (2.5, 8), (99.0, 10)])
async def test_a_use_told_late_counts_from_when_it_was(layer: "Layer", used_ago: float, granted: int) -> None:
    async with claimants(layer, 1, requestsPerSecond=1.0, burst=10) as (worker,):
        await worker.tell(4)
        pass_time(layer, 100.0)

        assert (await worker.tell(16, used_ago=used_ago)).granted == granted


async def test_what_is_given_back_can_be_drawn_again(layer: "Layer") -> None:
    async with claimants(layer, 2, requestsPerSecond=0.001, burst=10) as (first, second):
        assert (await first.tell(10)).granted == 10
        await first.tell(0, unused=7)

        assert (await second.tell(10)).granted == 7


async def test_raised_limits_hold_from_then_on_and_not_for_the_time_before(layer: "Layer") -> None:
    async with claimants(layer, 1, requestsPerSecond=0.01, burst=10) as (worker,):
        await worker.draw(10)
        await worker.draw(0)
        pass_time(layer, 100_000.0)
        raised = {"scope": "account", "concurrency": 1000, "requestsPerSecond": 0.02, "burst": 500}
        await layer.publish(layer.spec(throttle=raised), name="hook-0")
        before = await worker.draw(500)
        pass_time(layer, 5_000.0)

    assert (before, await worker.draw(500)) == (10, 100)


async def test_a_repeated_call_draws_nothing_twice(layer: "Layer") -> None:
    async with claimants(layer, 1, requestsPerSecond=0.001, burst=10) as (worker,):
        granted = [(await worker.tell(6)).granted for _ in range(2)]

        assert granted == [6, 4]
        assert layer.value("select permits from integration.throttle_share") == 4


async def test_an_empty_scope_says_when_the_next_token_comes(layer: "Layer") -> None:
    async with claimants(layer, 3, requestsPerSecond=0.1, burst=5) as workers:
        await workers[0].draw(5)
        waits = [(await worker.tell(1)).wait_seconds for worker in workers]
        again = (await workers[0].tell(1)).wait_seconds

    assert waits == pytest.approx([10, 20, 30], abs=1)
    assert again == pytest.approx(10, abs=1)


async def test_when_the_partner_asks_one_for_silence_all_are_silent_and_no_burst_follows(layer: "Layer") -> None:
    async with claimants(layer, 2, requestsPerSecond=1.0, burst=10) as (asked, other):
        await asked.tell(0, rests=60.0)
        await asked.tell(0, rests=20.0)
        silent = await other.tell(5)
        pass_time(layer, 61.5)
        after = await other.tell(5)

    assert (silent.granted, after.granted) == (0, 1)
    assert silent.wait_seconds == pytest.approx(60, abs=2)


# Fairness ------------------------------------------------------------------------------------------------------------


async def test_who_waits_longest_goes_first(layer: "Layer") -> None:
    async with claimants(layer, 3, requestsPerSecond=0.1, burst=5) as workers:
        await workers[0].draw(5)
        for worker in workers:
            await worker.tell(3)
        served = []
        for _ in range(6):
            pass_time(layer, 10.0)
            for index in (2, 1, 0):
                served += [index] * await workers[index].draw(3)

    assert served == [0, 1, 2, 0, 1, 2]


async def test_turns_are_as_long_as_the_weights(layer: "Layer") -> None:
    async with claimants(layer, 2, weights=(1, 4), requestsPerSecond=0.1, burst=10) as workers:
        await workers[0].draw(10)
        await draw_when_due(workers, 1000.0, 8)

    assert len(workers[1].calls) / len(workers[0].calls) == pytest.approx(4, rel=0.15)


async def test_a_worker_that_does_not_come_loses_its_turn(layer: "Layer") -> None:
    async with claimants(layer, 2, requestsPerSecond=0.1, burst=1) as (dead, living):
        await living.draw(1)
        await dead.tell(1)
        first = (await living.tell(1)).wait_seconds
        pass_time(layer, 20.0)

    assert first == pytest.approx(20, abs=1)
    assert await living.draw(1) == 1


# Requests at once ----------------------------------------------------------------------------------------------------


async def test_requests_at_once_are_shared(layer: "Layer") -> None:
    async with claimants(layer, 2, requestsPerSecond=1000.0, burst=1000, concurrency=5) as (first, second):
        drawn = [await first.draw(3), await second.draw(3)]
        first.under_way = 1
        await first.tell(0)
        after = await second.draw(3)

    assert (drawn, after) == ([3, 2], 2)


async def test_a_place_that_others_wait_for_is_told_to_them(layer: "Layer") -> None:
    async with claimants(layer, 2, requestsPerSecond=1000.0, burst=1000, concurrency=1) as (first, second):
        first.under_way = (await first.tell(1)).granted
        waiting = await second.tell(1)
        with psycopg.connect(layer.admin_dsn, autocommit=True) as listening:
            listening.execute(f"listen {CHANNEL}".encode())
            first.under_way = 0
            again = await first.tell(1)
            heard = [notification.channel for notification in listening.notifies(timeout=10, stop_after=1)]

    assert (waiting.granted, waiting.crowded) == (0, True)
    assert again.granted == 0, "it took the place of one who had waited longer"
    assert heard == [CHANNEL]


async def test_the_places_of_a_dead_worker_are_free(layer: "Layer") -> None:
    async with claimants(layer, 2, requestsPerSecond=1000.0, burst=1000, concurrency=4) as (dead, living):
        await dead.draw(4)
        before = await living.draw(4)
        await close_session(dead.database, dead.session)

        assert (before, await living.draw(4)) == (0, 4)


@pytest.mark.parametrize("leaves", ["its scope", "for good"])
async def test_the_places_of_a_connection_that_leaves_are_free(layer: "Layer", leaves: str) -> None:
    async with claimants(layer, 2, requestsPerSecond=1000.0, burst=1000, concurrency=4) as (leaving, staying):
        await leaving.draw(4)
        await leaving.tell(0)
        before = await staying.draw(4)
        if leaves == "its scope":
            await layer.publish(name="hook-0")
        else:
            async with await layer.connect("operator") as operator:
                await remove(operator, [layer.published["acme/hook-0"].uid], keep=False, reason="gone")

        assert (before, await staying.draw(4)) == (0, 4)


async def test_publications_and_draws_at_once_never_lock_each_other_out(layer: "Layer") -> None:
    names = ("one", "two", "three")
    for scope in names:  # named against the order of their making
        published = await layer.publish(layer.spec(throttle={"scope": scope, "burst": 5}), name=scope)
    database = await layer.connect("pool_a")
    session = await open_session(database, published.pool, "worker", LEASE)
    lanes = await acquire_lanes(database, published.pool, session, limit=3)

    async def draw() -> None:
        for _ in range(150):
            await draw_permits(database, session, [Draw(lane, 1, 0, 0, 0.0, 0, None, 2) for lane in lanes])

    async def publish_often() -> None:
        async with await layer.connect("operator") as operator:
            for burst in range(6, 36):
                wanted = [
                    PublishedConnection(
                        layer.published[f"acme/{name}"].uid,
                        "acme",
                        name,
                        layer.spec(throttle={"scope": name, "burst": burst}),
                        published.pool,
                    )
                    for name in names
                ]
                await publish(operator, wanted)

    await asyncio.gather(draw(), publish_often())

    assert layer.column("select burst from integration.throttle_scope") == [35, 35, 35]


async def test_a_worker_whose_lease_was_taken_draws_nothing(layer: "Layer") -> None:
    async with claimants(layer, 2) as (dead, living):
        await close_session(dead.database, dead.session)
        with pytest.raises(LeaseLostError):
            await dead.draw(1)

        assert await living.draw(1) == 1


async def test_nobody_draws_for_a_session_of_another_pool(layer: "Layer") -> None:
    async with claimants(layer, 2) as (first, second):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await second.database.execute(
                b"select integration.draw_permits($1, '{1}', '{1}', '{0}', '{0}', '{null}', '{0}', '{null}', '{9}')",
                (first.session,),
            )


async def test_a_lane_of_somebody_else_gets_no_answer(layer: "Layer") -> None:
    async with claimants(layer, 2) as (first, second):
        stranger = Draw(second.lane, 1, 0, 0, None, 0, None, 1)

        assert await draw_permits(first.database, first.session, [stranger]) == []


async def test_workers_that_draw_at_once_from_several_scopes_never_lock_each_other_out(layer: "Layer") -> None:
    found = []
    for pool in ("pool_a", "pool_b"):
        for scope in ("one", "two", "three"):
            spec = layer.spec(throttle={"scope": scope, "requestsPerSecond": 0.001, "burst": 200})
            published = await layer.publish(spec, name=f"{pool[-1]}-{scope}", pool=pool)
        database = await layer.connect(pool)
        session = await open_session(database, published.pool, "worker", LEASE)
        found.append((database, session, await acquire_lanes(database, published.pool, session, limit=3)))

    async def draw(database: Database, session: SessionId, lanes: list[ConnectionId]) -> int:
        granted = 0
        for number in range(100):
            turned = lanes[number % 3 :] + lanes[: number % 3]
            draws = [Draw(lane, 1, 0, 0, 0.0, 0, None, 2) for lane in turned]
            granted += sum(drawn.granted for drawn in await draw_permits(database, session, draws))
        return granted

    assert sum(await asyncio.gather(*(draw(*each) for each in found))) == 600


# The day -------------------------------------------------------------------------------------------------------------


def budget(limit: int, zone: str = "UTC", **more: object) -> dict[str, object]:
    return {"burst": 1000, "dailyBudget": {"limit": limit, "resetZone": zone}, **more}


async def test_no_more_than_the_budget_is_drawn_in_a_day(layer: "Layer") -> None:
    async with claimants(layer, 4, **budget(50)) as workers:
        first = sum([await worker.draw(4) for worker in workers for _ in range(8)])
        rest = await workers[0].tell(5)
        layer.rows("update integration.throttle_scope set resets_at = now()")
        second = sum([await worker.draw(4) for worker in workers for _ in range(8)])

    assert (first, second) == (50, 50)
    assert rest.day_ends_in_seconds is not None
    assert (rest.granted, rest.wait_seconds) == (0, rest.day_ends_in_seconds)


async def test_a_day_ends_at_midnight_in_its_zone(layer: "Layer") -> None:
    async with claimants(layer, 1, **budget(50, "Asia/Tokyo")) as (worker,):
        drawn = await worker.tell(1)
    tokyo = datetime.now(ZoneInfo("Asia/Tokyo"))
    midnight = (tokyo + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)

    assert drawn.day_ends_in_seconds == pytest.approx((midnight - tokyo).total_seconds(), abs=5)


async def test_permits_lost_with_a_worker_count_and_those_given_back_do_not(layer: "Layer") -> None:
    async with claimants(layer, 2, **budget(50)) as (dead, living):
        await dead.tell(20)
        await close_session(dead.database, dead.session)
        await living.tell(10)
        await living.tell(0, unused=4)

    assert layer.value("select spent from integration.throttle_scope") == 26


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_becomes_of_workers_a_day_has_no_more_calls_than_its_budget(layer: "Layer", seed: int) -> None:
    random, limit, calls, lost = Random(seed), 60, 0, 0
    async with claimants(layer, 4, **budget(limit)) as workers:
        in_hand = dict.fromkeys(range(4), 0)
        while layer.value("select spent from integration.throttle_scope") < limit:
            number = random.randrange(4)
            worker = workers[number]
            match random.choice(("draw", "draw", "use", "use", "give back", "die")):
                case "draw":
                    in_hand[number] += (await worker.tell(random.randint(1, 5), in_hand=in_hand[number])).granted
                case "use":
                    calls, in_hand[number] = calls + in_hand[number], 0
                case "give back":
                    await worker.tell(0, unused=in_hand[number])
                    in_hand[number] = 0
                case "die":
                    lost, in_hand[number] = lost + in_hand[number], 0
                    await close_session(worker.database, worker.session)
                    pool = layer.published[f"acme/hook-{number}"].pool
                    worker.session = await open_session(worker.database, pool, f"worker-{number}", LEASE)
                    await acquire_lanes(worker.database, pool, worker.session, limit=1)
        refused = [(await worker.tell(5)).granted for worker in workers]

    assert refused == [0] * 4
    assert calls + sum(in_hand.values()) + lost == limit


async def test_a_changed_budget_keeps_what_is_spent(layer: "Layer") -> None:
    async with claimants(layer, 1, **budget(10)) as (worker,):
        spent = [await worker.draw(20)]
        for limit, zone in ((15, "UTC"), (20, "Asia/Tokyo")):
            spec = layer.spec(throttle={"scope": "account", "concurrency": 1000, **budget(limit, zone)})
            await layer.publish(spec, name="hook-0")
            spent.append(await worker.draw(20))

    assert spent == [10, 5, 5]


async def test_a_budget_that_is_spent_outlives_the_connection_until_the_day_ends(layer: "Layer") -> None:
    async with claimants(layer, 1, **budget(10)) as (worker,):
        await worker.draw(20)
        async with await layer.connect("operator") as operator:
            await remove(operator, [layer.published["acme/hook-0"].uid], keep=False, reason="gone")
    layer.published.clear()
    await layer.publish(layer.spec(throttle={"scope": "account", **budget(10)}), name="hook-0")

    assert layer.rows("select name, spent from integration.throttle_scope") == [("account", 10)]


async def test_what_is_spent_can_be_read_and_is_nothing_once_the_day_has_ended(layer: "Layer") -> None:
    await layer.publish(layer.spec(throttle=budget(7)), name="alone")
    await layer.publish(layer.spec(throttle=budget(50, scope="account", requestsPerSecond=9.0)), name="shared")
    ended = "update integration.throttle_scope set spent = 5, resets_at = %s"
    layer.rows(ended, ("2100-01-01T00:00:00Z",))
    resets_at = layer.value("select max(resets_at) from integration.throttle_scope")
    async with await layer.connect("reader") as reader, await layer.connect("dispatcher") as dispatcher:
        found = [await read_scope(reader, "acme", name) for name in ("alone", "shared", "nothing")]
        budgets = await read_budgets(dispatcher)
        layer.rows(ended, ("2020-01-01T00:00:00Z",))
        later = [each.spent for each in await read_budgets(dispatcher)]

    assert found == [
        ScopeDetails(None, None, None, None, 1, 7, 5, "UTC", resets_at, None),
        ScopeDetails("account", 9.0, 1000, 16, 1, 50, 5, "UTC", resets_at, None),
        None,
    ]
    assert [each.scope for each in sorted(budgets, key=lambda each: each.scope)] == ["account", "acme/alone"]
    assert [each.spent for each in budgets] == [5, 5]
    assert later == [0, 0]


def midnights(layer: "Layer", zone: str, first: str, days: int) -> list[datetime]:
    """Return the ends of days in a row, each asked for at the end of the one before."""
    found = [datetime.fromisoformat(first)]
    for _ in range(days):
        found.append(layer.value("select integration.next_midnight(%s, %s)", (zone, found[-1])))
    return found


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("Europe/Berlin", "2026-03-27T23:00:00+00:00", [24, 23, 24]),
        ("Europe/Berlin", "2026-10-23T22:00:00+00:00", [24, 25, 24]),
        ("America/New_York", "2026-11-01T04:00:00+00:00", [25, 24]),
        # Where the clock is changed at midnight: 00:00 does not exist, or 23:00 comes twice.
        ("America/Santiago", "2026-09-05T04:00:00+00:00", [24, 23, 24]),
        ("Asia/Beirut", "2026-03-28T22:00:00+00:00", [23, 24]),
        ("Asia/Beirut", "2026-10-22T21:00:00+00:00", [24, 25, 24]),
        ("Asia/Kathmandu", "2026-10-23T18:15:00+00:00", [24, 24]),
    ],
)
def test_days_are_as_long_as_they_are(layer: "Layer", zone: str, first: str, hours: list[int]) -> None:
    found = midnights(layer, zone, first, len(hours))

    assert [(after - before) / timedelta(hours=1) for before, after in pairwise(found)] == hours


def every_hour(year: int) -> Iterator[datetime]:
    at = datetime(year, 1, 1, 0, 30, tzinfo=UTC)
    while at.year == year:
        yield at
        at += timedelta(hours=1)


@pytest.mark.parametrize("zone", ["Asia/Beirut", "America/Havana", "America/Santiago", "Africa/Cairo", "Europe/Berlin"])
def test_a_day_never_ends_before_the_moment_that_asks(layer: "Layer", zone: str) -> None:
    wrong = layer.rows(
        "select at, integration.next_midnight(%s, at) from unnest(%s::timestamptz[]) as at"
        " where not integration.next_midnight(%s, at) > at"
        " or integration.next_midnight(%s, at) > at + interval '25 hours'",
        (zone, list(every_hour(2026)), zone, zone),
    )

    assert wrong == []
