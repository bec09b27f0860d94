"""An event exists if and only if its producer commits, once for each dedupe key, and only if it is valid."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import class_row, dict_row, namedtuple_row
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from contracts.errors import InvalidEventError
from contracts.events import canonical_event_types, is_extension_type
from contracts.ids import parse_event_id, public_event_id
from store.outbox import NewEvent, emit

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

EMIT = "select integration.emit_event(%s, %s, %s, %s::jsonb, %s)"
EMIT_MANY = "select integration.emit_events(%s, %s, %s, %s::jsonb[])"
EVENT = NewEvent("acme", "company.updated", "company-1", {"id": "company-1", "name": "Queast"})


@pytest.fixture
def producer(layer: "Layer") -> "psycopg.Connection[Any]":
    with psycopg.connect(layer.dsn("producer")) as connection:
        yield connection


def events(layer: "Layer") -> list[tuple[Any, ...]]:
    return layer.rows("select tenant_id, type, subject, data from integration.event order by id")


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "ext.a.b", "s", "{}", None), "tenant null"),
        (("", "ext.a.b", "s", "{}", None), "tenant ''"),
        (("Acme", "ext.a.b", "s", "{}", None), "tenant 'Acme'"),
        (("acme-", "ext.a.b", "s", "{}", None), "tenant 'acme-'"),
        (("acme\n", "ext.a.b", "s", "{}", None), "tenant"),
        (("a" * 64, "ext.a.b", "s", "{}", None), "tenant"),
        (("acme", None, "s", "{}", None), "type null"),
        (("acme", "company.exploded", "s", "{}", None), "type 'company.exploded'"),
        (("acme", "ext.a", "s", "{}", None), "type 'ext.a'"),
        (("acme", "ext.a.B", "s", "{}", None), "type 'ext.a.B'"),
        (("acme", "ext.a.b\n", "s", "{}", None), "type"),
        (("acme", "company.updated", "s", "{}", None), "lacks id, name"),
        (("acme", "company.updated", "s", '{"id": "1"}', None), "lacks name"),
        (("acme", "ext.a.b", None, "{}", None), "subject has no characters"),
        (("acme", "ext.a.b", "", "{}", None), "subject has 0"),
        (("acme", "ext.a.b", "s" * 513, "{}", None), "subject has 513"),
        (("acme", "ext.a.b", "s", None, None), "data is null"),
        (("acme", "ext.a.b", "s", "[]", None), "data is array"),
        (("acme", "ext.a.b", "s", "null", None), "data is null"),
        (("acme", "ext.a.b", "s", '"x"', None), "data is string"),
        (("acme", "ext.a.b", "s", "{}", ""), "dedupe key has 0"),
        (("acme", "ext.a.b", "s", "{}", "k" * 201), "dedupe key has 201"),
    ],
)
def test_an_invalid_event_is_refused_with_what_to_do_and_ends_the_producer_s_transaction(
    layer: "Layer", producer: "psycopg.Connection[Any]", arguments: tuple[object, ...], message: str
) -> None:
    producer.execute(EMIT, ("acme", "ext.a.b", "before", "{}", None))

    with pytest.raises(psycopg.Error, match=message) as refused:
        producer.execute(EMIT, arguments)

    assert refused.value.sqlstate == "22023"
    assert refused.value.diag.message_hint
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        producer.execute("select 1")
    producer.rollback()
    assert events(layer) == []


def test_data_of_one_byte_too_many_are_refused_however_well_they_compress(producer: "psycopg.Connection[Any]") -> None:
    frame = len('{"x": ""}')

    producer.execute(EMIT, ("acme", "ext.a.b", "s", json.dumps({"x": "a" * (262_144 - frame)}), None))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="262145 bytes, the limit is 262144"):
        producer.execute(EMIT, ("acme", "ext.a.b", "s", json.dumps({"x": "a" * (262_145 - frame)}), None))


def test_of_many_events_one_invalid_refuses_all(layer: "Layer", producer: "psycopg.Connection[Any]") -> None:
    many = ("acme", ["ext.a.b", "nonsense"], ["s", "s"], ["{}", "{}"])

    with pytest.raises(psycopg.errors.InvalidParameterValue, match="nonsense"):
        producer.execute(EMIT_MANY, many)

    producer.commit()
    assert events(layer) == []


def test_lists_of_unequal_length_are_refused(layer: "Layer", producer: "psycopg.Connection[Any]") -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        producer.execute(EMIT_MANY, ("acme", ["ext.a.b"], ["s", "t"], ["{}", "{}"]))

    producer.commit()
    assert events(layer) == []


def test_many_events_keep_the_order_given(layer: "Layer", producer: "psycopg.Connection[Any]") -> None:
    subjects = [f"s{number}" for number in range(500)]

    emitted = producer.execute(EMIT_MANY, ("acme", ["ext.a.b"] * 500, subjects, ["{}"] * 500)).fetchone()

    producer.commit()
    assert emitted == (500,)
    assert [row[2] for row in events(layer)] == subjects


@pytest.mark.parametrize(
    "name", ["ext.a.b", "ext.acme.order_paid", "ext.a.b.c.d.e", "ext.1a.b", "ext.a.1b", "ext.a-.b", "ext.a.b.c.d.e.f"]
)
def test_the_database_and_python_agree_on_what_a_vendor_s_own_type_is(
    producer: "psycopg.Connection[Any]", name: str
) -> None:
    try:
        producer.execute(EMIT, ("acme", name, "s", "{}", None))
        accepted = True
    except psycopg.errors.InvalidParameterValue:
        accepted = False

    assert accepted == is_extension_type(name)


def test_python_refuses_before_it_asks_the_database(layer: "Layer", producer: "psycopg.Connection[Any]") -> None:
    with pytest.raises(InvalidEventError):
        emit(producer, NewEvent("acme", "company.updated", "company-1", {"id": "company-1"}))

    producer.commit()  # the transaction is as good as before
    assert events(layer) == []


def test_the_canonical_types_are_those_of_the_contracts(layer: "Layer") -> None:
    known = layer.rows("select type, version, required_keys from integration.event_type order by type")

    assert known == [(t.type, t.schema_version, list(t.required_keys)) for t in canonical_event_types()]


# The producer's own transaction -----------------------------------------------------------------------------------


Emitting = Callable[["Layer", bool], str]


def with_psycopg(layer: "Layer", commit: bool) -> str:
    with psycopg.connect(layer.dsn("producer")) as connection:
        public_id = emit(connection, EVENT)
        if not commit:
            connection.rollback()
    return public_id


def with_rows(factory: Any) -> Emitting:
    def emitting(layer: "Layer", commit: bool) -> str:
        with psycopg.connect(layer.dsn("producer"), row_factory=factory) as connection:
            public_id = emit(connection, EVENT)
            if not commit:
                connection.rollback()
        return public_id

    return emitting


def with_async_psycopg(layer: "Layer", commit: bool) -> str:
    async def emitting() -> str:
        async with await psycopg.AsyncConnection.connect(layer.dsn("producer"), row_factory=dict_row) as connection:
            public_id = await emit(connection, EVENT)
            if not commit:
                await connection.rollback()
        return public_id

    return asyncio.run(emitting())


def with_plain_async_psycopg(layer: "Layer", commit: bool) -> str:
    async def emitting() -> str:
        connect = psycopg.AsyncConnection.connect(layer.dsn("producer"), cursor_factory=psycopg.AsyncRawCursor)
        async with await connect as connection:
            public_id = await emit(connection, EVENT)
            if not commit:
                await connection.rollback()
        return public_id

    return asyncio.run(emitting())


def _engine_dsn(layer: "Layer") -> str:
    return layer.dsn("producer").replace("postgresql://", "postgresql+psycopg://")


def with_sqlalchemy_session(layer: "Layer", commit: bool) -> str:
    engine = create_engine(_engine_dsn(layer))
    with Session(engine) as session:
        public_id = emit(session, EVENT)
        if commit:
            session.commit()
    engine.dispose()
    return public_id


def with_sqlalchemy_connection(layer: "Layer", commit: bool) -> str:
    engine = create_engine(_engine_dsn(layer))
    with engine.connect() as connection:
        public_id = emit(connection, EVENT)
        if commit:
            connection.commit()
    engine.dispose()
    return public_id


def with_sqlalchemy_async_session(layer: "Layer", commit: bool) -> str:
    pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio extension needs greenlet")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    async def emitting() -> str:
        engine = create_async_engine(_engine_dsn(layer))
        async with AsyncSession(engine) as session:
            public_id = await session.run_sync(emit, EVENT)
            if commit:
                await session.commit()
        await engine.dispose()
        return public_id

    return asyncio.run(emitting())


class Row:
    def __init__(self, emit_event: str) -> None:
        self.emit_event = emit_event


EVERY_WAY = {
    "psycopg": with_psycopg,
    "psycopg with rows as dicts": with_rows(dict_row),
    "psycopg with named rows": with_rows(namedtuple_row),
    "psycopg with rows of a class": with_rows(class_row(Row)),
    "psycopg async, rows as dicts": with_async_psycopg,
    "psycopg async, raw cursors": with_plain_async_psycopg,
    "sqlalchemy session": with_sqlalchemy_session,
    "sqlalchemy connection": with_sqlalchemy_connection,
    "sqlalchemy async session": with_sqlalchemy_async_session,
}


@pytest.mark.parametrize("way", EVERY_WAY.values(), ids=EVERY_WAY)
def test_emit_writes_the_event_in_the_transaction_of_whatever_is_open(layer: "Layer", way: Emitting) -> None:
    public_id = way(layer, True)

    assert events(layer) == [("acme", "company.updated", "company-1", dict(EVENT.data))]
    ((event, nonce),) = layer.rows("select id, nonce from integration.event")
    assert public_id == public_event_id(event, nonce)


@pytest.mark.parametrize("way", EVERY_WAY.values(), ids=EVERY_WAY)
def test_a_rolled_back_transaction_leaves_nothing(layer: "Layer", way: Emitting) -> None:
    way(layer, False)

    assert events(layer) == []


def test_a_rolled_back_savepoint_takes_its_events_with_it(layer: "Layer", producer: "psycopg.Connection[Any]") -> None:
    producer.execute(EMIT, ("acme", "ext.a.b", "before", "{}", "key"))
    with producer.transaction(force_rollback=True):
        producer.execute(EMIT, ("acme", "ext.a.b", "inside", "{}", "another key"))
    producer.execute(EMIT, ("acme", "ext.a.b", "after", "{}", None))
    producer.commit()

    assert [row[2] for row in events(layer)] == ["before", "after"]
    assert layer.column("select dedupe_key from integration.event_dedupe") == ["key"]


def test_the_caller_s_search_path_and_temporary_tables_change_nothing(
    layer: "Layer", producer: "psycopg.Connection[Any]"
) -> None:
    layer.admin.execute(f'grant temporary on database "{layer.name}" to producer')
    producer.execute("create temporary table event (id int)")
    producer.execute("create function pg_temp.nextval(regclass) returns bigint language sql as 'select 1::bigint'")
    producer.execute("set search_path = pg_temp, integration")
    producer.execute("select integration.emit_event('acme', 'ext.a.b', 's', '{}')")
    producer.commit()

    assert len(events(layer)) == 1


# Dedupe keys ------------------------------------------------------------------------------------------------------


def test_a_key_names_one_event_however_often_it_is_emitted(layer: "Layer") -> None:
    ids = {layer.emit(dedupe_key="key", size=1) for _ in range(3)}

    assert len(ids) == 1
    assert layer.value("select count(*) from integration.event") == 1
    assert parse_event_id(ids.pop()) == layer.value("select id from integration.event")


def test_a_key_is_the_tenant_s_own(layer: "Layer") -> None:
    ids = {layer.emit(tenant=tenant, dedupe_key="key") for tenant in ("acme", "globex")}

    assert len(ids) == 2


def test_key_order_and_white_space_do_not_make_other_content(layer: "Layer") -> None:
    first = layer.value(EMIT, ("acme", "ext.a.b", "s", '{"a": 1, "b": 2}', "key"))
    second = layer.value(EMIT, ("acme", "ext.a.b", "s", '{"b":2,"a":1}', "key"))

    assert first == second


@pytest.mark.parametrize(
    "other", [("ext.a.c", "s", '{"a": 1}'), ("ext.a.b", "t", '{"a": 1}'), ("ext.a.b", "s", '{"a": 2}')]
)
def test_a_key_is_refused_for_other_content(layer: "Layer", other: tuple[str, str, str]) -> None:
    first = layer.value(EMIT, ("acme", "ext.a.b", "s", '{"a": 1}', "key"))

    with pytest.raises(psycopg.errors.UniqueViolation, match=first) as refused:
        layer.value(EMIT, ("acme", *other, "key"))

    assert refused.value.diag.message_hint
    assert layer.value("select count(*) from integration.event") == 1


def test_a_rollback_frees_the_key(layer: "Layer", producer: "psycopg.Connection[Any]") -> None:
    producer.execute(EMIT, ("acme", "ext.a.b", "s", '{"a": 1}', "key"))
    producer.rollback()

    layer.value(EMIT, ("acme", "ext.a.b", "s", '{"a": 2}', "key"))

    assert layer.column("select data from integration.event") == [{"a": 2}]


@pytest.mark.parametrize("first_commits", [True, False])
def test_of_two_producers_at_once_the_second_waits_for_the_first(layer: "Layer", first_commits: bool) -> None:
    arguments = ("acme", "ext.a.b", "s", "{}", "key")
    answers: list[str] = []

    def emit_and_commit() -> None:
        with psycopg.connect(layer.dsn("producer"), autocommit=True) as other:
            answers.append(other.execute(EMIT, arguments).fetchall()[0][0])

    with psycopg.connect(layer.dsn("producer")) as first:
        mine = first.execute(EMIT, arguments).fetchall()[0][0]
        second = threading.Thread(target=emit_and_commit)
        second.start()
        waiting = "select count(*) from pg_stat_activity where usename = 'producer' and wait_event_type = 'Lock'"
        while layer.value(waiting) == 0:
            assert second.is_alive()
        if first_commits:
            first.commit()
        else:
            first.rollback()
    second.join()

    assert (answers == [mine]) == first_commits
    assert layer.value("select count(*) from integration.event") == 1


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_producer_that_cannot_see_the_first_event_is_told_to_try_again(layer: "Layer", level: str) -> None:
    with psycopg.connect(layer.dsn("producer")) as late:
        late.execute(f"set transaction isolation level {level}".encode())
        late.execute("select 1")  # takes its snapshot
        layer.emit(dedupe_key="key")
        with pytest.raises(psycopg.errors.SerializationFailure):
            late.execute(EMIT, ("acme", "ext.test.happened", "company-1", "{}", "key"))

    assert layer.value("select count(*) from integration.event") == 1


# The producer's role ----------------------------------------------------------------------------------------------


def test_a_producer_can_emit_and_nothing_else(layer: "Layer", producer: "psycopg.Connection[Any]") -> None:
    relations = layer.column(
        "select format('%%I.%%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'integration' and c.relkind in ('r', 'p', 'v', 'S')"
        " and (c.relkind = 'S' and has_sequence_privilege('producer', c.oid, 'usage, select, update')"
        " or c.relkind <> 'S' and (has_table_privilege('producer', c.oid, 'select, insert, update, delete, truncate,"
        " references, trigger') or has_any_column_privilege('producer', c.oid, 'select, insert, update, references')))",
        (),
    )
    functions = layer.column(
        "select p.proname from pg_proc p where p.pronamespace = 'integration'::regnamespace"
        " and has_function_privilege('producer', p.oid, 'execute') order by 1"
    )

    assert relations == []
    assert functions == ["emit_event", "emit_events"]
    for statement in (
        "select * from integration.event",
        "select * from integration.event_dedupe",
        "delete from integration.event",
        "create table integration.mine ()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            producer.execute(statement.encode())
        producer.rollback()
