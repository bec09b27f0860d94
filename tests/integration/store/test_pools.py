"""Pools get logins of their own and nothing else; what they have to do is known without asking those that idle."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from integration_operator.scaling import wanted_workers
from store.errors import PoolRoleError
from store.pools import (
    READ_DEMAND,
    LaneDemand,
    Pool,
    PoolDemand,
    drop_pool,
    ensure_pool,
    read_demand,
    read_pools,
    scram_verifier,
    set_credential,
)
from store.publication import PublishedConnection, publish

if TYPE_CHECKING:
    from local.postgres import PostgresServer
    from tests.integration.conftest import Layer

pytestmark = pytest.mark.anyio

PASSWORD = "open sesame, but longer"


@pytest.fixture
def pool_name(postgres: "PostgresServer") -> Iterator[str]:
    """Name a pool; its role belongs to the whole server and is dropped at the end."""
    name = f"acme/integrations-tenant-{uuid4().hex[:8]}"
    yield name
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        role = admin.execute(
            "select 'integration_pool_' || left(encode(sha256(%s::text::bytea), 'hex'), 16)", (name,)
        ).fetchone()
        assert role is not None
        admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role[0])))


def logs_in(layer: "Layer", role: str, password: str) -> bool:
    try:
        psycopg.connect(layer.postgres.dsn(layer.name, role, password)).close()
    except psycopg.OperationalError:
        return False
    return True


# Logins -----------------------------------------------------------------------------------------------------------


async def test_a_pool_is_created_once_and_has_no_login_yet(layer: "Layer", pool_name: str) -> None:
    async with await layer.connect("operator") as operator:
        made = [await ensure_pool(operator, pool_name) for _ in range(2)]
        pools = await read_pools(operator)

    assert made[0] == made[1] == Pool(made[0].id, pool_name, made[0].role, None)
    assert pools == [made[0]]
    assert layer.column("select from pg_roles where rolname = %s", (made[0].role,)) == []


async def test_a_pool_s_workers_log_in_with_the_password_and_find_their_pool(layer: "Layer", pool_name: str) -> None:
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        await set_credential(operator, pool_name, "first", scram_verifier(PASSWORD))
        recorded = (await read_pools(operator))[0].credential
    with psycopg.connect(layer.postgres.dsn(layer.name, pool.role, PASSWORD)) as worker:
        found = worker.execute("select id, name from integration.pool").fetchall()

    assert found == [(pool.id, pool_name)]
    assert recorded == "first"


async def test_a_new_password_takes_the_place_of_the_former(layer: "Layer", pool_name: str) -> None:
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        for number, password in enumerate((PASSWORD, "another one")):
            await set_credential(operator, pool_name, str(number), scram_verifier(password))

    assert [logs_in(layer, pool.role, password) for password in (PASSWORD, "another one")] == [False, True]


async def test_a_pool_s_role_is_a_worker_and_nothing_more(layer: "Layer", pool_name: str) -> None:
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        await set_credential(operator, pool_name, "1", scram_verifier(PASSWORD))

    rights = layer.rows(
        "select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,"
        " (select array_agg(roleid::regrole::text) from pg_auth_members where member = r.oid)"
        " from pg_roles r where rolname = %s",
        (pool.role,),
    )
    assert rights == [(False, False, False, False, False, ["integration_worker"])]


async def test_a_database_closed_to_all_is_opened_to_the_pool_s_role(layer: "Layer", pool_name: str) -> None:
    layer.admin.execute(sql.SQL("revoke connect on database {} from public").format(sql.Identifier(layer.name)))
    layer.admin.execute(
        sql.SQL("grant connect on database {} to integration_operator").format(sql.Identifier(layer.name))
    )
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        await set_credential(operator, pool_name, "1", scram_verifier(PASSWORD))
        opened = logs_in(layer, pool.role, PASSWORD)
        dropped = await drop_pool(operator, pool_name)

    assert (opened, dropped) == (True, True)
    assert not logs_in(layer, pool.role, PASSWORD)


@pytest.mark.parametrize("verifier", [PASSWORD, "", "md5" + "0" * 32, "SCRAM-SHA-256$4096:x$y:z"])
async def test_what_is_not_a_verifier_is_refused_and_not_repeated(
    layer: "Layer", pool_name: str, verifier: str
) -> None:
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        with pytest.raises(PoolRoleError, match="not a SCRAM-SHA-256 verifier") as refused:
            await set_credential(operator, pool_name, "1", verifier)

    assert not verifier or verifier not in str(refused.value)
    assert layer.column("select from pg_roles where rolname = %s", (pool.role,)) == []


@pytest.mark.parametrize("role", ["schema_owner", "operator", "integration_worker", "pool_a"])
@pytest.mark.parametrize("ask", ["set", "drop"])
async def test_the_operator_reaches_no_role_but_those_of_pools(layer: "Layer", role: str, ask: str) -> None:
    password = layer.value("select rolpassword from pg_authid where rolname = %s", (role,))
    async with await layer.connect("operator") as operator:
        await ensure_pool(operator, "mine")
        await operator.execute(b"update integration.pool set role = $1", (role,))
        with pytest.raises(PoolRoleError, match="not one that belongs to a pool"):
            if ask == "set":
                await set_credential(operator, "mine", "1", scram_verifier(PASSWORD))
            else:
                await drop_pool(operator, "mine")

    assert layer.value("select rolpassword from pg_authid where rolname = %s", (role,)) == password


@pytest.mark.parametrize("right", ["createdb", "in role integration_operator", ""])
async def test_a_role_that_only_has_the_name_of_a_pool_s_is_refused(layer: "Layer", pool_name: str, right: str) -> None:
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        layer.admin.execute(f"create role {pool.role} {right}".encode())
        with pytest.raises(PoolRoleError, match="is not a pool's"):
            await set_credential(operator, pool_name, "1", scram_verifier(PASSWORD))

    assert not logs_in(layer, pool.role, PASSWORD)


async def test_a_credential_of_no_pool_is_refused(layer: "Layer") -> None:
    async with await layer.connect("operator") as operator:
        with pytest.raises(PoolRoleError, match="there is no pool"):
            await set_credential(operator, "nothing", "1", scram_verifier(PASSWORD))


@pytest.mark.parametrize("password", ["pässword", "two\nlines"])
def test_a_password_that_would_need_preparation_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as refused:
        scram_verifier(password)

    assert password not in str(refused.value)


# Dropping ---------------------------------------------------------------------------------------------------------


async def test_a_dropped_pool_takes_sessions_tenants_and_role_with_it(layer: "Layer", pool_name: str) -> None:
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        await set_credential(operator, pool_name, "1", scram_verifier(PASSWORD))
        layer.admin.execute("insert into integration.tenant_role values (%s, 'acme')", (pool.role,))
        layer.admin.execute(
            "insert into integration.worker_session (pool_id, name, lease_until)"
            " values (%s, 'w', now() + interval '1 minute')",
            (pool.id,),
        )
        with psycopg.connect(layer.postgres.dsn(layer.name, pool.role, PASSWORD), autocommit=True) as worker:
            dropped = [await drop_pool(operator, pool_name) for _ in range(2)]
            with pytest.raises(psycopg.OperationalError):
                worker.execute("select 1")

    assert dropped == [True, True]
    for table in ("pool", "tenant_role", "worker_session"):
        assert layer.value(f"select count(*) from integration.{table}") == 0
    assert layer.column("select from pg_roles where rolname = %s", (pool.role,)) == []


async def test_a_pool_that_has_connections_is_kept(layer: "Layer", pool_name: str) -> None:
    async with await layer.connect("operator") as operator:
        pool = await ensure_pool(operator, pool_name)
        await set_credential(operator, pool_name, "1", scram_verifier(PASSWORD))
        uid = uuid4()
        await publish(operator, [PublishedConnection(uid, "acme", "hook", layer.spec(), pool.id)])  # type: ignore[arg-type]
        dropped = await drop_pool(operator, pool_name)

    assert not dropped
    assert logs_in(layer, pool.role, PASSWORD)


# Demand -----------------------------------------------------------------------------------------------------------


def add_job(layer: "Layer", connection: int, *, state: int = 0, age: int = 0, due_in: int = 0, number: int = 1) -> None:
    layer.admin.execute(
        "insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject, state, run_at)"
        " select l.pool_id, nextval('integration.job_id'), l.connection_id, 1, 1, now() - %s * interval '1 s', 1,"
        " %s::int, case when %s::int = 1 then now() + %s * interval '1 s' end"
        " from integration.lane l, generate_series(1, %s) where l.connection_id = %s",
        (age, state, state, due_in, number, connection),
    )


async def demand_of(layer: "Layer") -> list[PoolDemand]:
    operator = await layer.connect("operator")
    return await read_demand(operator)


async def test_demand_counts_ready_and_due_jobs_and_says_how_fast_they_may_go(layer: "Layer") -> None:
    throttle = {"requestsPerSecond": 7.5, "burst": 1, "concurrency": 3}
    one = await layer.publish(layer.spec(throttle=throttle), name="one")
    two = await layer.publish(name="two")
    await layer.publish(name="idle")
    add_job(layer, one.id, age=100, number=3)
    add_job(layer, one.id, state=1, due_in=-20, number=2)
    add_job(layer, one.id, state=1, due_in=500)
    add_job(layer, one.id, state=2)
    add_job(layer, two.id, state=1, due_in=-300)
    (demand,) = await demand_of(layer)

    assert (demand.pool, demand.lanes) == ("pool_a", (LaneDemand(5, 7.5, 3), LaneDemand(1, 50.0, 16)))
    assert 300 <= demand.oldest_age_seconds < 360


async def test_a_pool_is_told_what_the_operator_would_give_it_and_nothing_of_others(layer: "Layer") -> None:
    mine = await layer.publish(layer.spec(throttle={"requestsPerSecond": 100_000.0, "burst": 1}), name="mine")
    also_mine = await layer.publish(name="also-mine")
    await layer.publish(name="others", pool="pool_b")
    wanted: list[tuple[int, int]] = []
    for number in (0, 1, 9_000):
        add_job(layer, mine.id, number=number)
        add_job(layer, also_mine.id, number=number)
        found = {demand.pool: demand for demand in await demand_of(layer)}
        async with await layer.connect("pool_a") as worker:
            rows = await (await worker.execute("select integration.wanted_workers()")).fetchall()
        wanted.append((rows[0][0], wanted_workers(found.get("pool_a"), 0, 50)))

    assert wanted == [(0, 0), (1, 1), (1, 1)]


@given(lanes=st.lists(st.tuples(st.integers(1, 12_000), st.floats(0.001, 100_000)), max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_counts_workers_as_the_operator_does(layer: "Layer", lanes: list[tuple[int, float]]) -> None:
    demand = PoolDemand("pool", 1.0, tuple(LaneDemand(min(backlog, 10_000), rate, 1) for backlog, rate in lanes))
    (body,) = layer.admin.execute(
        "select prosrc from pg_proc where oid = 'integration.wanted_workers'::regproc"
    ).fetchone() or ("",)
    rows = "(select * from unnest(%s::int[], %s::float8[]) as l (backlog, requests_per_second)) l"
    query = body.replace("integration.lane_demand(10000, 5.0)", rows)
    backlogs, rates = [lane.backlog for lane in demand.lanes], [lane.requests_per_second for lane in demand.lanes]

    assert rows in query
    assert layer.admin.execute(query.encode(), (backlogs, rates)).fetchone() == (wanted_workers(demand, 0, 10_000),)


HELD_UP: dict[str, str] = {
    "suspended": "suspended = true",
    "quarantined for good": "state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'Gone'",
    "quarantined until later": "state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'x',"
    " probe_at = now() + interval '1 minute'",
    "paused": "paused_until = now() + interval '1 minute'",
}


@pytest.mark.parametrize("how", HELD_UP)
async def test_a_lane_that_cannot_deliver_now_asks_for_nobody(layer: "Layer", how: str) -> None:
    published = await layer.publish()
    add_job(layer, published.id)
    layer.admin.execute(f"update integration.lane set {HELD_UP[how]}".encode())

    assert await demand_of(layer) == []


@pytest.mark.parametrize("quarantined", [False, True])
async def test_a_lane_whose_day_is_spent_asks_for_nobody_until_it_is_all_but_over(
    layer: "Layer", quarantined: bool
) -> None:
    published = await layer.publish(layer.spec(throttle={"dailyBudget": {"limit": 5, "resetZone": "UTC"}}))
    add_job(layer, published.id)
    if quarantined:
        layer.admin.execute(f"update integration.lane set {HELD_UP['quarantined for good']}, probe_at = now()".encode())
    found = []
    for resets_in in (60, 2):
        layer.admin.execute(
            "update integration.throttle_scope set spent = daily_limit, resets_at = now() + %s * interval '1 s'",
            (resets_in,),
        )
        found.append(sum(len(demand.lanes) for demand in await demand_of(layer)))

    assert found == [0, 1]


async def test_a_lane_whose_scope_is_paused_asks_for_nobody(layer: "Layer") -> None:
    published = await layer.publish(layer.spec(throttle={"scope": "account"}))
    add_job(layer, published.id)
    before = len(await demand_of(layer))
    layer.admin.execute("update integration.throttle_scope set paused_until = now() + interval '1 minute'")

    assert (before, await demand_of(layer)) == (1, [])


async def test_a_lane_asks_for_no_more_than_its_scope_lets_through(layer: "Layer") -> None:
    for name, rate in (("fast", 20.0), ("slow", 3.0)):
        spec = layer.spec(throttle={"scope": "account", "requestsPerSecond": rate})
        add_job(layer, (await layer.publish(spec, name=name)).id)
    (demand,) = await demand_of(layer)

    assert [lane.requests_per_second for lane in demand.lanes] == [3.0, 3.0]


async def test_a_pause_that_is_all_but_over_asks_already(layer: "Layer") -> None:
    published = await layer.publish()
    add_job(layer, published.id)
    layer.admin.execute("update integration.lane set paused_until = now() + interval '2 s'")

    assert [len(demand.lanes) for demand in await demand_of(layer)] == [1]


@pytest.mark.parametrize("state", [0, 1, 2])
async def test_a_due_probe_asks_for_one_worker_s_attention_if_there_is_a_job(layer: "Layer", state: int) -> None:
    published = await layer.publish()
    await layer.publish(name="nothing to probe with")
    add_job(layer, published.id, state=state, number=5, due_in=1000)
    layer.admin.execute(
        "update integration.lane set state = 'Quarantined', quarantined_at = now(), quarantine_reason = 'x',"
        " probe_at = now()"
    )

    assert [demand.lanes for demand in await demand_of(layer)] == [(LaneDemand(1, 50.0, 16),)]


async def test_jobs_that_only_wait_for_their_time_ask_for_nobody(layer: "Layer") -> None:
    published = await layer.publish()
    add_job(layer, published.id, state=1, due_in=100)

    assert await demand_of(layer) == []


FILL = """
insert into integration.pool (name, role) select 'p' || n, 'r' || n from generate_series(1, {pools}) n;
insert into integration.connection (uid, tenant_id, namespace, name, provider, spec)
    select gen_random_uuid(), 't', 'ns', 'c' || id, 'Webhook',
           '{{"delivery": {{"throttle": {{"requestsPerSecond": 1, "concurrency": 1}}}}}}'
    from integration.pool where name <> 'pool_a';
insert into integration.lane (connection_id, tenant_id, pool_id)
    select c.id, 't', p.id from integration.connection c join integration.pool p on c.name = 'c' || p.id;
insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at)
    select pool_id, nextval('integration.job_id'), connection_id, 1, 1, now()
    from (select * from integration.lane order by connection_id limit 20) l, generate_series(1, 50);
analyze;
"""


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_idle_pools_cost_nothing(layer: "Layer", mode: str) -> None:
    touched: list[int] = []
    for pools in (40, 2_000):
        tables = "pool, connection, lane, job"
        layer.admin.execute(f"truncate {', '.join('integration.' + t for t in tables.split(', '))} cascade".encode())
        layer.admin.execute(FILL.format(pools=pools).encode())
        options = "-c jit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
        with psycopg.connect(layer.dsn("operator"), cursor_factory=psycopg.ClientCursor, options=options) as operator:
            operator.execute(f"set plan_cache_mode = {mode}".encode())
            psycopg.RawCursor(operator).execute(b"prepare explained as " + READ_DEMAND.sql)
            query = "explain (analyze, format json, timing off, summary off) execute explained(10000, 5.0)"
            ((found,),) = operator.execute(query.encode()).fetchall()
        plan = list(_nodes(found[0]["Plan"]))
        assert "Function Scan" not in {node["Node Type"] for node in plan}  # it is planned like ours
        assert len([node for node in plan if node.get("Relation Name") and "Seq Scan" in node["Node Type"]]) == 0
        touched.append(
            sum(
                int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + 1) * node["Actual Loops"])
                for node in plan
                if "Scan" in node["Node Type"]
            )
        )

    assert touched[1] <= touched[0] * 1.1
