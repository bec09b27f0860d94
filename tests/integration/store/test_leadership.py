"""Of two leaders the newer one writes; the former finds that out in the database, whatever its clock or Lease says."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from contracts.ids import ConnectionUid
from store import pools, publication, removal
from store.database import Database, transaction
from store.errors import SupersededError
from store.leadership import Term, begin_term, require_term
from store.publication import PublishedConnection

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = Term(CREATED, 1, "one")
SECOND = Term(CREATED, 2, "two")
NEW_LEASE = Term(CREATED + timedelta(hours=1), 0, "three")


async def test_a_term_can_be_begun_again_and_holds(layer: "Layer") -> None:
    async with await layer.connect("operator") as operator:
        await begin_term(operator, FIRST)
        await begin_term(operator, FIRST)
        await require_term(operator, FIRST)

    assert layer.rows("select lease_created, transitions, holder from integration.operator_term") == [
        (CREATED, 1, "one")
    ]


@pytest.mark.parametrize(
    ("newer", "older"),
    [(SECOND, FIRST), (NEW_LEASE, SECOND), (SECOND, Term(CREATED, 2, "another of the same number"))],
)
async def test_a_former_leader_cannot_begin_again(layer: "Layer", newer: Term, older: Term) -> None:
    async with await layer.connect("operator") as operator:
        await begin_term(operator, newer)
        with pytest.raises(SupersededError, match="delete the Lease"):
            await begin_term(operator, older)
        await require_term(operator, newer)


async def test_a_term_that_nobody_began_is_none(layer: "Layer") -> None:
    async with await layer.connect("operator") as operator:
        with pytest.raises(SupersededError):
            await require_term(operator, FIRST)


WRITES: dict[str, Callable[[Database, "Layer", Term], Awaitable[object]]] = {
    "publish": lambda database, layer, term: publication.publish(
        database,
        [PublishedConnection(ConnectionUid(uuid4()), "acme", "x", layer.spec(), layer.published["acme/hook"].pool)],
        term=term,
    ),
    "retire": lambda database, layer, term: publication.retire(database, [layer.published["acme/hook"].uid], term=term),
    "remove": lambda database, layer, term: removal.remove(
        database, [layer.published["acme/hook"].uid], keep=True, reason="", term=term
    ),
    "release": lambda database, layer, term: publication.release(database, "acme", "hook", term=term),
    "ensure_pool": lambda database, layer, term: pools.ensure_pool(database, "new", term=term),
    "set_credential": lambda database, layer, term: pools.set_credential(
        database, "pool_a", "1", pools.scram_verifier("x"), term=term
    ),
    "drop_pool": lambda database, layer, term: pools.drop_pool(database, "pool_a", term=term),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_former_leader_writes_nothing(layer: "Layer", write: str) -> None:
    await layer.publish()
    written = (
        "select (select array_agg((r.id, active)) from integration.route r)::text,"
        " (select epoch from integration.routing),"
        " (select array_agg(p::text) from integration.pool p), (select array_agg(l::text) from integration.lane l)"
    )
    before = layer.rows(written)
    async with await layer.connect("operator") as operator:
        await begin_term(operator, SECOND)
        with pytest.raises(SupersededError):
            await WRITES[write](operator, layer, FIRST)

    assert layer.rows(written) == before


async def test_a_new_term_waits_for_what_the_former_leader_is_writing(layer: "Layer") -> None:
    async with await layer.connect("operator") as former, await layer.connect("operator") as latter:
        await begin_term(former, FIRST)
        async with transaction(former):
            await require_term(former, FIRST)
            beginning = asyncio.create_task(begin_term(latter, SECOND))
            async with asyncio.timeout(30):
                while not layer.value("select exists (select from pg_locks where not granted)"):
                    await asyncio.sleep(0.01)
            waited = not beginning.done()
        await beginning

    assert waited
