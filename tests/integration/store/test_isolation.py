"""What each role can see and do: a pool's role the rows of its pool, and nothing of anybody else's."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from contracts.ids import PoolId, SessionId
from store.lanes import acquire_lanes, find_pool, open_session
from store.roles import Group, ensure_login
from store.scopes import Draw, draw_permits

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

TENANT_TABLES = (
    "event",
    "event_dedupe",
    "pool",
    "tenant_role",
    "connection",
    "route",
    "worker_session",
    "worker",
    "lane",
    "job",
    "attempt",
    "dead_letter",
    "lane_transition",
    "replay",
    "replay_edit",
    "replay_resource",
    "dead_letter_end",
    "throttle_scope",
    "throttle_share",
    "mapping",
    "partner_fact",
)
NO_TENANT_TABLES = ("event_type", "dispatcher_sleep", "dispatch_cursor", "routing", "operator_term", "schema_version")
UNSEEN_BY_WORKERS = (
    "event_dedupe",
    "worker",
    "attempt",
    "dead_letter",
    "lane_transition",
    "dead_letter_end",
    "replay_resource",
    "throttle_share",
)
WORKER_WRITES = (
    "worker_session",
    "worker",
    "lane",
    "job",
    "attempt",
    "dead_letter",
    "lane_transition",
    "mapping",
    "partner_fact",
)


@pytest.fixture
def two_pools(layer: "Layer") -> "Layer":
    """Give each of two tenants in pools of their own a row of everything."""
    asyncio.run(_fill(layer))
    return layer


async def _fill(layer: "Layer") -> None:
    for tenant, pool in (("acme", "pool_a"), ("globex", "pool_b")):
        spec = layer.spec(tenant=tenant, throttle={"scope": "account"})
        published = await layer.publish(spec, namespace=tenant, pool=pool)
        layer.emit(tenant=tenant, dedupe_key="key", secret=f"of {tenant}")
        async with await layer.connect(pool) as worker:
            session = await open_session(worker, published.pool, "worker", timedelta(minutes=5))
            (lane,) = await acquire_lanes(worker, published.pool, session, limit=1)
            await draw_permits(worker, session, [Draw(lane, 1, 0, 0, None, 0, None, 1)])
        layer.admin.execute(
            "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject)"
            " select %s, nextval('integration.job_id'), r.connection_id, r.id, e.id, e.at, 1"
            " from integration.route r join integration.event e using (tenant_id) where tenant_id = %s",
            (published.pool, tenant),
        )
        layer.admin.execute(
            "insert into integration.replay (tenant_id, connection_id, requested_by, reason, source, until, types,"
            " dispatched, dispatching_to, include_superseded, new_message_ids)"
            " values (%s, %s, 'ada', 'why', 'Events', now(), '{*}', pg_current_snapshot(), 0, false, false)",
            (tenant, published.id),
        )
        layer.admin.execute(
            "insert into integration.replay_resource (uid, tenant_id, namespace, name, spec)"
            " values (gen_random_uuid(), %s, %s, 'again', '{}')",
            (tenant, tenant),
        )
        layer.admin.execute(
            "insert into integration.replay_edit (replay_id, tenant_id, connection_id, data, changes)"
            " select id, tenant_id, connection_id, '{}', '[1]' from integration.replay where tenant_id = %s",
            (tenant,),
        )
        layer.admin.execute(
            "insert into integration.dead_letter_end (job_id, tenant_id, connection_id, route_id, event_id, event_at,"
            " attempts, cause, detail, dead_at, action, ended_by, reason)"
            " values (%s, %s, %s, 1, 1, now(), 1, 'Invalid', '', now(), 'Discarded', 'ada', 'why')",
            (published.id, tenant, published.id),
        )
        layer.admin.execute(
            "insert into integration.mapping (tenant_id, account, kind, queast_id, remote_id, linked_at)"
            " values (%s, 'hubspot:1', 'company', 'c-1', '1', now())",
            (tenant,),
        )
        layer.admin.execute(
            "insert into integration.partner_fact (connection_id, tenant_id, name, value) values (%s, %s, 'it', '1')",
            (published.id, tenant),
        )
        for table, more in (
            ("attempt", ", number, outcome, duration_ms, worker"),
            ("dead_letter", ", event_at, attempts, reason"),
        ):
            values = ", 1, 'Transient', 1.0, 1" if table == "attempt" else ", event_at, 1, 'Invalid'"
            at = ("at, ", "now(), ") if table == "attempt" else ("", "")
            layer.admin.execute(
                f"insert into integration.{table} ({at[0]}job_id, tenant_id, connection_id, route_id, event_id{more})"
                f" select {at[1]}j.id, r.tenant_id, j.connection_id, j.route_id, j.event_id{values}"
                " from integration.job j join integration.route r on r.id = j.route_id where r.tenant_id = %s".encode(),
                (tenant,),
            )
        layer.admin.execute(
            "insert into integration.lane_transition"
            " (connection_id, tenant_id, from_state, to_state, actor, reason, held)"
            " values (%s, %s, 'Open', 'Quarantined', 'Worker', 'Gone', 1)",
            (published.id, tenant),
        )


def as_role(layer: "Layer", role: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(layer.dsn(role), autocommit=True)


def attempt(connection: "psycopg.Connection[Any]", query: str, parameters: Sequence[object] = ()) -> int | str:
    """Return how many rows a statement saw or wrote, or why it was refused; undo it in any case."""
    try:
        with connection.transaction(force_rollback=True):
            cursor = connection.execute(query.encode(), parameters or None)
            return len(cursor.fetchall()) if cursor.description else cursor.rowcount
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.IntegrityError) as error:
        return type(error).__name__


# The tables -------------------------------------------------------------------------------------------------------


def test_every_table_with_rows_of_tenants_forces_row_level_security_partitions_too(layer: "Layer") -> None:
    open_tables = layer.column(
        "select relname from pg_class where relnamespace = 'integration'::regnamespace and relkind in ('r', 'p')"
        " and not (relrowsecurity and relforcerowsecurity) order by 1"
    )

    assert open_tables == sorted(NO_TENANT_TABLES)


def test_there_are_no_views_or_definer_functions_around_the_policies(layer: "Layer") -> None:
    views = layer.column(
        "select relname from pg_class where relnamespace = 'integration'::regnamespace and relkind in ('v', 'm')"
    )
    definers = layer.rows(
        "select proname, proconfig is not null from pg_proc where pronamespace = 'integration'::regnamespace"
        " and prosecdef order by 1"
    )

    assert views == []
    assert definers == [
        ("answer_oauth_flow", True),
        ("draw_permits", True),
        ("drop_pool", True),
        ("emit_event", True),
        ("emit_events", True),
        ("maintain", True),
        ("oauth_flow_of", True),
        ("set_pool_credential", True),
        ("sweep", True),
    ]


@pytest.mark.parametrize("role", ["producer", "dispatcher", "operator", "reader", "support", "pool_a"])
def test_nobody_reads_or_writes_a_partition_past_its_parent(two_pools: "Layer", role: str) -> None:
    partitions = two_pools.column(
        "select inhrelid::regclass::text from pg_inherits join pg_class c on c.oid = inhrelid"
        " where c.relkind = 'r' and relnamespace = 'integration'::regnamespace"
    )
    with as_role(two_pools, role) as connection:
        answers = {
            attempt(connection, f"{verb} {name}") for name in partitions for verb in ("select * from", "delete from")
        }

    assert len(partitions) > 10
    assert answers == {"InsufficientPrivilege"}


def test_the_owner_without_being_a_superuser_sees_no_pool_s_rows_of_what_it_need_not_see(two_pools: "Layer") -> None:
    with psycopg.connect(two_pools.owner_dsn, autocommit=True) as owner:
        seen = {
            table: attempt(owner, f"select * from integration.{table}") for table in ("lane", "connection", "route")
        }

    assert set(seen.values()) == {0}


# A pool -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_a_pool_s_role_sees_its_own_rows_only(two_pools: "Layer", table: str) -> None:
    everything = two_pools.value(f"select count(*) from integration.{table}")
    with as_role(two_pools, "pool_a") as mine, as_role(two_pools, "pool_b") as theirs:
        columns = {"replay": "id, new_message_ids", "replay_edit": "replay_id, data"}.get(table, "*")
        seen = [attempt(each, f"select {columns} from integration.{table}") for each in (mine, theirs)]

    expected: list[int | str] = [1, 1]
    if table in UNSEEN_BY_WORKERS:
        expected = ["InsufficientPrivilege", "InsufficientPrivilege"]
    assert everything == 2
    assert seen == expected


@pytest.mark.parametrize("table", ["worker_session", "lane", "job"])
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_a_pool_s_role_touches_no_row_of_another_pool(two_pools: "Layer", table: str, verb: str) -> None:
    key = {"worker_session": "id", "lane": "connection_id", "job": "id"}[table]
    theirs = two_pools.value(
        f"select t.{key} from integration.{table} t join integration.pool p on p.id = t.pool_id where p.name = 'pool_b'"
    )
    statement = (
        f"update integration.{table} set pool_id = pool_id where {key} = %s"
        if verb == "update"
        else f"delete from integration.{table} where {key} = %s"
    )
    with as_role(two_pools, "pool_a") as mine:
        assert attempt(mine, statement, (theirs,)) in (0, "InsufficientPrivilege")


@pytest.mark.parametrize("table", ["worker_session", "lane", "job"])
def test_a_pool_s_role_cannot_give_its_rows_to_another_pool(two_pools: "Layer", table: str) -> None:
    other = two_pools.value("select id from integration.pool where name = 'pool_b'")
    with as_role(two_pools, "pool_a") as mine:
        assert attempt(mine, f"update integration.{table} set pool_id = %s", (other,)) == "InsufficientPrivilege"


@pytest.mark.parametrize(
    "change",
    [
        "tenant_id = 'globex'",
        "connection_id = (select max(connection_id) + 1 from integration.lane)",
        "suspended = false",
    ],
)
def test_a_pool_s_role_changes_of_a_lane_only_what_delivery_decides(two_pools: "Layer", change: str) -> None:
    with as_role(two_pools, "pool_a") as mine:
        assert attempt(mine, f"update integration.lane set {change}") == "InsufficientPrivilege"


@pytest.mark.parametrize("change", ["connection_id", "event_id", "route_id"])
def test_a_pool_s_role_cannot_make_a_job_another_one(two_pools: "Layer", change: str) -> None:
    with as_role(two_pools, "pool_a") as mine:
        assert attempt(mine, f"update integration.job set {change} = {change} + 1") == "InsufficientPrivilege"


@pytest.mark.parametrize("table", ["attempt", "dead_letter"])
def test_a_pool_s_role_records_nothing_under_another_tenant(two_pools: "Layer", table: str) -> None:
    columns = {
        "attempt": "(at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome, duration_ms, worker)"
        " values (now(), 1, 99, %s, 1, 1, 1, 'Delivered', 1, 1)",
        "dead_letter": "(job_id, tenant_id, connection_id, route_id, event_id, event_at, attempts, reason)"
        " values (99, %s, 1, 1, 1, now(), 1, 'Invalid')",
    }[table]
    with as_role(two_pools, "pool_a") as mine:
        answers = [attempt(mine, f"insert into integration.{table} {columns}", (t,)) for t in ("acme", "globex")]

    assert answers == [1, "InsufficientPrivilege"]


def test_a_pool_s_role_takes_no_number_that_another_session_may_come_to_have(two_pools: "Layer") -> None:
    pool = two_pools.value("select id from integration.pool where name = 'pool_a'")
    theirs = two_pools.value("select max(session) from integration.worker where pool_id <> %s", (pool,))
    two_pools.admin.execute("delete from integration.worker where session = %s", (theirs,))
    name = "insert into integration.worker (session, pool_id, name) values (%s, %s, 'intruder')"
    session = (
        "insert into integration.worker_session (id, pool_id, name, lease_until) overriding system value"
        " values (1000, %s, 'intruder', now())"
    )
    with as_role(two_pools, "pool_a") as mine:
        answers = [attempt(mine, name, (number, pool)) for number in (theirs, 1000)]
        answers.append(attempt(mine, session, (pool,)))

    assert answers == ["InsufficientPrivilege"] * 3


def test_a_pool_s_role_opens_no_session_in_another_pool(two_pools: "Layer") -> None:
    other = two_pools.value("select id from integration.pool where name = 'pool_b'")
    insert = "insert into integration.worker_session (pool_id, name, lease_until) values (%s, 'intruder', now())"
    with as_role(two_pools, "pool_a") as mine:
        assert attempt(mine, insert, (other,)) == "InsufficientPrivilege"


@pytest.mark.parametrize(
    "table", [table for table in (*TENANT_TABLES, *NO_TENANT_TABLES) if table not in WORKER_WRITES]
)
def test_a_pool_s_role_writes_nothing_but_what_came_of_its_jobs(two_pools: "Layer", table: str) -> None:
    column = two_pools.value(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and attidentity = '' limit 1",
        (f"integration.{table}",),
    )
    with as_role(two_pools, "pool_a") as mine:
        answers = {
            attempt(mine, f"update integration.{table} set {column} = {column}"),
            attempt(mine, f"delete from integration.{table}"),
            attempt(mine, f"insert into integration.{table} default values"),
            attempt(mine, f"truncate integration.{table}"),
        }

    assert answers == {"InsufficientPrivilege"}


async def test_a_role_without_a_pool_sees_nothing(two_pools: "Layer") -> None:
    two_pools.admin.execute("update integration.pool set role = 'somebody' where name = 'pool_b'")
    two_pools.admin.execute("delete from integration.tenant_role where role = 'pool_b'")
    async with await two_pools.connect("pool_b") as worker:
        pool = await find_pool(worker)
    with as_role(two_pools, "pool_b") as connection:
        seen = {
            attempt(connection, f"select * from integration.{t}")
            for t in ("event", "lane", "job", "connection", "route")
        }

    assert pool is None
    assert seen == {0}


async def test_a_pool_cannot_own_another_pool_s_lane(two_pools: "Layer") -> None:
    other = two_pools.value("select id from integration.pool where name = 'pool_b'")
    mine = two_pools.value(
        "select s.id from integration.worker_session s join integration.pool p on p.id = pool_id"
        " where p.name = 'pool_a'"
    )
    two_pools.admin.execute("update integration.lane set owner = null")
    async with await two_pools.connect("pool_a") as worker:
        taken = await acquire_lanes(worker, PoolId(other), SessionId(mine), limit=10)

    assert taken == []


# The other roles --------------------------------------------------------------------------------------------------


def _granted(layer: "Layer", role: str, privilege: str) -> list[str]:
    return layer.column(
        "select relname from pg_class where relnamespace = 'integration'::regnamespace and relkind in ('r', 'p')"
        " and case when %s = 'delete' then has_table_privilege(%s, oid, 'delete')"
        " else has_any_column_privilege(%s, oid, nullif(%s, 'delete')) end order by 1",
        (privilege, role, role, privilege),
    )


def _changeable_columns(layer: "Layer", role: str, table: str) -> list[str]:
    return layer.column(
        "select attname from pg_attribute where attrelid = ('integration.' || %s)::regclass and attnum > 0"
        " and has_column_privilege(%s, attrelid, attnum, 'update') order by 1",
        (table, role),
    )


def test_a_reader_changes_nothing(layer: "Layer") -> None:
    assert [_granted(layer, "reader", privilege) for privilege in ("insert", "update")] == [[], []]
    assert (
        layer.column(
            "select relname from pg_class where relnamespace = 'integration'::regnamespace and relkind in ('r', 'p')"
            " and has_table_privilege('reader', oid, 'delete, truncate')"
        )
        == []
    )


def test_the_dispatcher_changes_no_event_or_connection_and_of_a_lane_only_that_it_is_to_be_read_again(
    layer: "Layer",
) -> None:
    assert _granted(layer, "dispatcher", "insert") == ["dead_letter", "dead_letter_end", "job", "replay"]
    assert _granted(layer, "dispatcher", "update") == [
        "dispatch_cursor",
        "dispatcher_sleep",
        "lane",
        "replay",
        "replay_resource",
        "routing",
        "worker",
    ]
    assert _changeable_columns(layer, "dispatcher", "lane") == ["revision"]


def test_support_asks_for_replays_and_makes_no_job(layer: "Layer") -> None:
    granted = {verb: _granted(layer, "support", verb) for verb in ("insert", "update", "delete")}

    assert granted == {
        "insert": ["dead_letter_end", "oauth_flow", "replay", "replay_edit"],
        "update": ["lane", "replay", "routing"],
        "delete": ["dead_letter"],
    }
    assert _changeable_columns(layer, "support", "lane") == ["revision"]


def test_the_ingress_may_call_two_functions_and_read_no_table(layer: "Layer") -> None:
    tables = layer.column(
        "select relname from pg_class where relnamespace = 'integration'::regnamespace and relkind in ('r', 'p')"
    )
    with as_role(layer, "ingress") as ingress:
        answers = {attempt(ingress, f"select * from integration.{table}") for table in tables}
    functions = layer.column(
        "select proname from pg_proc where pronamespace = 'integration'::regnamespace"
        " and has_function_privilege('integration_ingress', oid, 'execute') and prosecdef order by 1"
    )

    assert answers == {"InsufficientPrivilege"}
    assert functions == ["answer_oauth_flow", "oauth_flow_of"]


def test_of_a_replay_a_pool_s_role_sees_neither_who_asked_nor_why(two_pools: "Layer") -> None:
    with as_role(two_pools, "pool_a") as mine:
        assert attempt(mine, "select requested_by, reason from integration.replay") == "InsufficientPrivilege"
        assert attempt(mine, "select changes from integration.replay_edit") == "InsufficientPrivilege"


def test_the_operator_reads_no_event(two_pools: "Layer") -> None:
    with as_role(two_pools, "operator") as operator:
        answers = {
            attempt(operator, f"select * from integration.{t}")
            for t in ("event", "event_dedupe", "attempt", "dead_letter")
        }

    assert answers == {"InsufficientPrivilege"}


def test_of_a_replay_the_operator_sees_how_far_it_is_and_none_that_was_asked_for_by_command(
    two_pools: "Layer",
) -> None:
    two_pools.admin.execute(
        "update integration.replay p set resource_uid = r.uid from integration.replay_resource r"
        " where p.tenant_id = 'acme' and r.tenant_id = 'acme'"
    )
    with as_role(two_pools, "operator") as operator:
        assert attempt(operator, "select id, queued from integration.replay") == 1
        assert attempt(operator, "update integration.replay set revision = revision + 1") == 1
        assert attempt(operator, "select event_ids from integration.replay") == "InsufficientPrivilege"
        assert attempt(operator, "select event_id from integration.attempt") == "InsufficientPrivilege"
        assert attempt(operator, "select outcome from integration.attempt") == 0
        assert attempt(operator, "update integration.replay_resource set spec = '{}'") == "InsufficientPrivilege"


def test_the_dispatcher_starts_no_replay_that_no_resource_asks_for(two_pools: "Layer") -> None:
    insert = (
        "insert into integration.replay (tenant_id, connection_id, requested_by, reason, source, until, types,"
        " dispatched, dispatching_to, include_superseded, new_message_ids, resource_uid)"
        " select tenant_id, connection_id, 'ada', 'why', 'Events', now(), '{{*}}', pg_current_snapshot(), 0, false,"
        " false, {} from integration.replay where tenant_id = 'acme'"
    )
    uid = "(select uid from integration.replay_resource limit 1)"
    with as_role(two_pools, "dispatcher") as dispatcher:
        assert attempt(dispatcher, insert.format("null")) == "InsufficientPrivilege"
        assert attempt(dispatcher, insert.format(uid)) == 1


@pytest.mark.parametrize("role", ["producer", "dispatcher", "operator", "reader", "support", "pool_a"])
def test_no_program_makes_objects_or_becomes_another_role(layer: "Layer", role: str) -> None:
    with as_role(layer, role) as connection:
        answers = [
            attempt(connection, query)
            for query in (
                "create table integration.mine (id int)",
                "create schema mine",
                "set role integration_emitter",
                "set role schema_owner",
                "create role mine",
            )
        ]

    assert answers == ["InsufficientPrivilege"] * 5


def test_public_may_call_nothing(layer: "Layer") -> None:
    layer.admin.execute("drop role if exists nobody_in_particular")
    layer.admin.execute("create role nobody_in_particular")
    callable_by_all = layer.column(
        "select proname from pg_proc where pronamespace = 'integration'::regnamespace"
        " and has_function_privilege('nobody_in_particular', oid, 'execute')"
    )
    layer.admin.execute("drop role nobody_in_particular")

    assert callable_by_all == []


def test_connection_strings_and_passwords_are_not_kept_in_the_clear(layer: "Layer") -> None:
    stored = layer.column("select rolpassword from pg_authid where rolname in ('producer', 'pool_a')")

    assert all(password.startswith("SCRAM-SHA-256$") for password in stored)
    assert len(stored) == 2


def test_identifiers_of_roles_are_quoted(layer: "Layer") -> None:
    strange = 'pool "x"; drop'

    try:
        ensure_login(layer.admin, strange, Group.WORKER, "pass'word")
        ensure_login(layer.admin, strange, Group.WORKER, "another'one")
        with psycopg.connect(layer.postgres.dsn(layer.name, strange, "another'one")) as connection:
            assert connection.execute("select current_user").fetchone() == (strange,)
    finally:
        layer.admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(strange)))
