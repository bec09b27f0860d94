"""Those who publish at once share transactions, and each gets an answer of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.connection import parse_connection_spec
from contracts.ids import ConnectionUid, PoolId
from integration_operator import publisher
from integration_operator.publisher import Publisher
from store.errors import DatabaseUnreachableError
from store.leadership import Term
from store.publication import Publication, PublishedConnection

Make = Callable[..., dict[str, Any]]
RunFast = Callable[[Callable[[], Awaitable[Any]]], Any]

TERM = Term(datetime(2026, 11, 20, tzinfo=UTC), 1, "operator-0")


class FakeDatabase:
    """Takes a second for a transaction; fails those whose number is in `failing`."""

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.groups: list[list[PublishedConnection]] = []
        self.failing = failing

    async def once(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await work(self)


async def fake_publish(
    database: FakeDatabase, connections: Sequence[PublishedConnection], *, term: Term
) -> list[Publication]:
    assert term is TERM
    database.groups.append(list(connections))
    number = len(database.groups)
    await asyncio.sleep(1)
    if number in database.failing:
        raise DatabaseUnreachableError("away")
    return [Publication(each.uid, number, changed=True) for each in connections]


@pytest.fixture(scope="module", autouse=True)
def _publish() -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(publisher, "publish", fake_publish)
        yield


@pytest.fixture(scope="session")
def make_connection(make_spec: Make) -> Callable[..., PublishedConnection]:
    spec = parse_connection_spec(make_spec())

    def make(uid: int, name: str | None = None) -> PublishedConnection:
        return PublishedConnection(ConnectionUid(UUID(int=uid)), "team", name or f"c{uid}", spec, PoolId(1))

    return make


async def publish_all(database: FakeDatabase, connections: Sequence[PublishedConnection]) -> list[Any]:
    subject = Publisher(database, TERM)  # type: ignore[arg-type]
    running = asyncio.create_task(subject.run())
    answers = await asyncio.gather(*(subject.publish(each) for each in connections), return_exceptions=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return answers


def test_many_at_once_share_few_transactions(run_fast: RunFast, make_connection: Any) -> None:
    database = FakeDatabase()
    wanted = [make_connection(number) for number in range(1, 1_201)]
    answers = run_fast(lambda: publish_all(database, wanted))

    assert [len(group) for group in database.groups] == [500, 500, 200]
    assert [answer.uid for answer in answers] == [each.uid for each in wanted]


@settings(max_examples=40)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_a_name_is_never_twice_in_a_transaction_and_the_order_of_its_objects_stays(
    run_fast: RunFast, make_connection: Any, names: list[str]
) -> None:
    database = FakeDatabase()
    wanted = [make_connection(number, name) for number, name in enumerate(names, start=1)]
    answers = run_fast(lambda: publish_all(database, wanted))
    written = [each for group in database.groups for each in group]

    assert all(len({each.name for each in group}) == len(group) for group in database.groups)
    assert [answer.uid for answer in answers] == [each.uid for each in wanted]
    for name in names:
        assert [each for each in written if each.name == name] == [each for each in wanted if each.name == name]
    assert len(database.groups) == max(names.count(name) for name in names)


def test_a_failure_is_told_to_all_who_were_in_it_and_to_nobody_else(run_fast: RunFast, make_connection: Any) -> None:
    database = FakeDatabase(failing=[1])
    wanted = [make_connection(1, "a"), make_connection(2, "b"), make_connection(3, "a")]
    answers = run_fast(lambda: publish_all(database, wanted))

    assert [type(answer) for answer in answers] == [DatabaseUnreachableError, DatabaseUnreachableError, Publication]


def test_those_who_come_during_a_transaction_share_the_next(run_fast: RunFast, make_connection: Any) -> None:
    database = FakeDatabase()

    async def run() -> None:
        subject = Publisher(database, TERM)  # type: ignore[arg-type]
        running = asyncio.create_task(subject.run())
        first = asyncio.create_task(subject.publish(make_connection(1)))
        await asyncio.sleep(0.5)
        await asyncio.gather(*(subject.publish(make_connection(number)) for number in (2, 3)), first)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_fast(run)

    assert [[each.uid.int for each in group] for group in database.groups] == [[1], [2, 3]]


def test_the_end_of_a_term_leaves_nobody_waiting(run_fast: RunFast, make_connection: Any) -> None:
    async def run() -> list[bool]:
        subject = Publisher(FakeDatabase(), TERM)  # type: ignore[arg-type]
        running = asyncio.create_task(subject.run())
        waiting = [asyncio.create_task(subject.publish(make_connection(number, "same"))) for number in (1, 2)]
        await asyncio.sleep(0.5)
        running.cancel()
        await asyncio.wait([running, *waiting], timeout=10)
        return [task.cancelled() for task in (running, *waiting)]

    assert run_fast(run) == [True, True, True]


def test_one_who_no_longer_waits_disturbs_nobody(run_fast: RunFast, make_connection: Any) -> None:
    async def run() -> Any:
        subject = Publisher(FakeDatabase(), TERM)  # type: ignore[arg-type]
        running = asyncio.create_task(subject.run())
        gone, staying = (asyncio.create_task(subject.publish(make_connection(number))) for number in (1, 2))
        await asyncio.sleep(0.5)
        gone.cancel()
        answer = await staying
        running.cancel()
        await asyncio.gather(running, gone, return_exceptions=True)
        return answer.uid.int

    assert run_fast(run) == 2
