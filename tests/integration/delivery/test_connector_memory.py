"""What connectors remember outlives them, is nobody else's, and lets one at a time make a partner's record."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from connectors.certification.memory import Clock, RememberedLinks
from connectors.connector import BatchLimits, Connection, Delivery
from connectors.context import Account, Claim, ConnectorContext, Kind, Links
from connectors.errors import LinkHeldError, StateUnavailableError
from contracts.ids import ConnectionUid, TenantId
from contracts.outcomes import Delivered, Report
from delivery.memory import Memory, StoredFacts, StoredLinks
from programs.reconnect import Reconnecting
from store.database import connect
from store.links import forget_links
from store.removal import remove

if TYPE_CHECKING:
    from tests.integration.conftest import Layer
    from tests.integration.delivery.conftest import House

pytestmark = pytest.mark.anyio

ACCOUNT = Account("pipedrive:1")
COMPANY = Kind("company")
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def memory(layer: "Layer") -> AsyncIterator[Memory]:
    """Remember as the workers of acme's pool do."""
    await layer.publish(layer.spec(), name="hook", pool="pool_a")
    database = Reconnecting(lambda: layer.dsn("pool_a"), "worker-memory", queue=True)
    yield Memory(database)
    await database.close()


@dataclass
class Time:
    """Time as the links see it."""

    now: Callable[[], datetime]
    passes: Callable[[timedelta], None]


@pytest.fixture(params=["in the database", "under certification"])
def timed_links(request: pytest.FixtureRequest, layer: "Layer", memory: Memory) -> tuple[Links, Time]:
    """Give what workers keep and what certification keeps: connectors must not see a difference."""
    if request.param == "in the database":
        stored = Time(lambda: datetime.now(UTC), lambda duration: pass_time(layer, duration.total_seconds() / 60))
        return StoredLinks(memory, TenantId("acme")), stored
    clock = Clock(time.time)
    return RememberedLinks(clock), Time(lambda: datetime.fromtimestamp(clock.now(), UTC), clock.advance)


@pytest.fixture
def links(timed_links: tuple[Links, Time]) -> Links:
    return timed_links[0]


@pytest.fixture
def passing(timed_links: tuple[Links, Time]) -> Time:
    return timed_links[1]


@pytest.fixture
def stored_links(memory: Memory) -> StoredLinks:
    return StoredLinks(memory, TenantId("acme"))


async def claimed(links: Links, ours: str = "c-1", hold: timedelta = MINUTE) -> Claim:
    claim = await links.claim(ACCOUNT, COMPANY, ours, hold)
    assert isinstance(claim, Claim)
    return claim


def pass_time(layer: "Layer", minutes: float = 2) -> None:
    """Move what claims and links remember into the past."""
    layer.admin.execute(
        "update integration.mapping set held_until = held_until - t.past, tried_since = tried_since - t.past,"
        " forget_at = forget_at - t.past from (select make_interval(secs => %s * 60) as past) t",
        (minutes,),
    )


# Links ------------------------------------------------------------------------------------------------------------


async def test_the_first_to_claim_knows_that_nobody_has_tried(links: Links) -> None:
    claim = await claimed(links)

    assert claim.tried_since is None


async def test_what_was_settled_is_found_and_not_claimed_again(links: Links) -> None:
    await links.settle(await claimed(links), "4711")

    assert await links.find(ACCOUNT, COMPANY, ["c-1", "c-2"]) == {"c-1": "4711"}
    assert await links.claim(ACCOUNT, COMPANY, "c-1", MINUTE) == "4711"


async def test_a_claim_is_held_for_as_long_as_was_asked(links: Links) -> None:
    await claimed(links)
    with pytest.raises(LinkHeldError) as held:
        await links.claim(ACCOUNT, COMPANY, "c-1", MINUTE)

    assert 0 < held.value.seconds <= 60


async def test_whoever_takes_over_learns_since_when_it_may_be_there(links: Links, passing: Time) -> None:
    claims = [await claimed(links)]
    ages = []
    for _ in range(2):
        passing.passes(2 * MINUTE)
        claims.append(await claimed(links))
        assert claims[-1].tried_since is not None
        ages.append(passing.now() - claims[-1].tried_since)

    assert claims[0].token < claims[1].token < claims[2].token
    assert [round(age / MINUTE) for age in ages] == [2, 4]


async def test_a_holder_whose_time_is_over_settles_and_releases_nothing(links: Links, passing: Time) -> None:
    late = await claimed(links)
    passing.passes(2 * MINUTE)
    await links.settle(await claimed(links), "made by the second")
    await links.settle(late, "made by the first")
    await links.release(late)

    assert await links.find(ACCOUNT, COMPANY, ["c-1"]) == {"c-1": "made by the second"}


async def test_a_released_claim_was_never_there(links: Links) -> None:
    await links.release(await claimed(links))

    assert (await claimed(links)).tried_since is None


async def test_of_many_who_claim_at_once_one_gets_it(layer: "Layer") -> None:
    await layer.publish(layer.spec(), name="hook", pool="pool_a")
    databases = [Reconnecting(lambda: layer.dsn("pool_a"), "worker-memory") for _ in range(8)]
    everyone = [StoredLinks(Memory(database), TenantId("acme")) for database in databases]
    for number in range(20):
        answers = await asyncio.gather(
            *(each.claim(ACCOUNT, COMPANY, f"c-{number}", MINUTE) for each in everyone), return_exceptions=True
        )

        assert sum(isinstance(answer, Claim) for answer in answers) == 1
        assert sum(isinstance(answer, LinkHeldError) for answer in answers) == 7
    for database in databases:
        await database.close()


async def test_what_is_certain_replaces_links_and_claims(links: Links) -> None:
    late = await claimed(links)
    await links.link(ACCOUNT, COMPANY, {"c-1": "1", "c-2": "2"})
    await links.link(ACCOUNT, COMPANY, {"c-2": "3"})
    await links.settle(late, "9")

    assert await links.find(ACCOUNT, COMPANY, ["c-1", "c-2"]) == {"c-1": "1", "c-2": "3"}


async def test_only_the_link_that_is_meant_is_forgotten(links: Links) -> None:
    await links.link(ACCOUNT, COMPANY, {"c-1": "new"})
    await links.unlink(ACCOUNT, COMPANY, "c-1", "old")
    kept = await links.find(ACCOUNT, COMPANY, ["c-1"])
    await links.unlink(ACCOUNT, COMPANY, "c-1", "new")

    assert kept == {"c-1": "new"}
    assert await links.find(ACCOUNT, COMPANY, ["c-1"]) == {}


async def test_accounts_and_kinds_and_tenants_have_links_of_their_own(
    memory: Memory, stored_links: StoredLinks
) -> None:
    await stored_links.link(ACCOUNT, COMPANY, {"c-1": "1"})

    assert await stored_links.find(Account("pipedrive:2"), COMPANY, ["c-1"]) == {}
    assert await stored_links.find(ACCOUNT, Kind("note"), ["c-1"]) == {}
    assert await StoredLinks(memory, TenantId("globex")).find(ACCOUNT, COMPANY, ["c-1"]) == {}


async def test_a_pool_links_nothing_for_a_tenant_that_is_not_its_own(memory: Memory) -> None:
    with pytest.raises(Exception, match="row-level security"):
        await StoredLinks(memory, TenantId("globex")).link(ACCOUNT, COMPANY, {"c-1": "1"})


async def test_links_with_an_end_are_forgotten_after_it_and_no_others(
    layer: "Layer", stored_links: StoredLinks
) -> None:
    await stored_links.settle(await claimed(stored_links, "kept for good"), "1")
    await stored_links.settle(await claimed(stored_links, "kept for a minute"), "2", MINUTE)
    await stored_links.settle(await claimed(stored_links, "kept for an hour"), "3", 60 * MINUTE)
    pass_time(layer)
    async with await connect(layer.dsn("dispatcher"), "upkeep") as dispatcher:
        forgotten = await forget_links(dispatcher)

    assert forgotten == 1
    assert layer.column("select remote_id from integration.mapping order by 1") == ["1", "3"]


# Facts ------------------------------------------------------------------------------------------------------------


def connection_of(layer: "Layer", name: str = "hook") -> Connection:
    uid: UUID = layer.value("select uid from integration.connection where name = %s", (name,))
    return Connection(ConnectionUid(uid), "acme", name, TenantId("acme"), layer.spec())


async def test_facts_are_remembered_and_replaced_and_forgotten(layer: "Layer", memory: Memory) -> None:
    facts = StoredFacts(memory, connection_of(layer))
    unknown = await facts.read("account")
    await facts.write("account", {"id": 1})
    await facts.write("account", {"id": 4711, "zone": "Europe/Berlin"})
    known = await facts.read("account")
    await facts.forget("account")

    assert unknown is None
    assert known is not None
    assert known.value == {"id": 4711, "zone": "Europe/Berlin"}
    assert known.learned_at == pytest.approx(layer.value("select extract(epoch from now())::float8"), abs=60)
    assert await facts.read("account") is None


async def test_a_pool_learns_and_tells_nothing_of_another_pool_s_connection(layer: "Layer", memory: Memory) -> None:
    await layer.publish(layer.spec(tenant="globex"), namespace="globex", name="theirs", pool="pool_b")
    facts = StoredFacts(memory, connection_of(layer, "theirs"))
    await facts.write("account", 1)

    assert await facts.read("account") is None
    assert layer.value("select count(*) from integration.partner_fact") == 0


async def test_facts_end_with_their_connection(layer: "Layer", memory: Memory) -> None:
    connection = connection_of(layer)
    await StoredFacts(memory, connection).write("account", 1)
    async with await connect(layer.dsn("operator"), "operator") as operator:
        await remove(operator, [connection.uid], keep=False, reason="it was deleted")

    assert layer.value("select count(*) from integration.partner_fact") == 0


async def test_a_database_that_is_away_is_told_as_such(layer: "Layer") -> None:
    connection = Connection(ConnectionUid(uuid4()), "acme", "hook", TenantId("acme"), layer.spec())
    nowhere = Memory(Reconnecting(lambda: "postgresql://nobody@127.0.0.1:1/none", "worker-memory"))
    with pytest.raises(StateUnavailableError):
        await StoredFacts(nowhere, connection).read("account")


# In a worker ------------------------------------------------------------------------------------------------------


class Forgetful:
    """Cannot reach its memory at first, and remembers then."""

    def __init__(self, context: ConnectorContext, batch: BatchLimits | None) -> None:
        self.batch = batch
        self._context = context
        self._asked = 0

    async def send(self, delivery: Delivery) -> Report:
        (report,) = await self.send_many([delivery])
        return report

    async def send_many(self, deliveries: Sequence[Delivery]) -> list[Report]:
        self._asked += 1
        if self._asked <= 2:
            raise StateUnavailableError("the database is away")
        await self._context.facts.write("sent", deliveries[0].attempt)
        await self._context.links.link(ACCOUNT, COMPANY, {delivery.subject: "1" for delivery in deliveries})
        return [Report(Delivered())] * len(deliveries)

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("batch", [None, BatchLimits(10, 1_000_000, timedelta(milliseconds=10))])
async def test_a_memory_that_is_away_costs_a_delivery_no_attempt(house: "House", batch: BatchLimits | None) -> None:
    await house.publish()
    house.start_dispatcher()
    house.start_worker(factory=lambda _, context: Forgetful(context, batch))
    house.layer.emit("c-1")
    await house.until_settled()

    assert house.layer.rows("select name, value from integration.partner_fact") == [("sent", 1)]
    assert house.layer.rows("select tenant_id, queast_id, remote_id from integration.mapping") == [("acme", "c-1", "1")]
    assert house.layer.rows("select number, outcome from integration.attempt") == [(1, "Delivered")]
