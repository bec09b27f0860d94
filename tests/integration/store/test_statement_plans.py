"""Statements that run once per batch read what they return and little more, at volume, as the roles that run them.

Each is explained on 200,000 jobs in 200 lanes, 50,000 of them quarantined, with events in several partitions, both with
the plan made for these parameters and with the generic one that a prepared statement falls back to.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

# Importing them defines their statements.
from store import (
    connections,
    dead_letters,
    deadlines,
    dispatch,
    export,
    facts,
    history,
    jobs,
    lanes,
    leadership,
    links,
    pools,
    publication,
    removal,
    replay_edits,
    replay_requests,
    replay_resources,
    replay_selection,
    replaying,
    replays,
    scopes,
    settlement,
    standing,
    upkeep,
    watching,
)
from store.arrays import numbers, plain_texts
from store.database import connect
from store.statement import Statement, all_statements

if TYPE_CHECKING:
    from local.postgres import PostgresServer
    from tests.integration.conftest import Layer

LANES = 200
POOLS = 2
JOBS_A_LANE = 1_000
EVENTS = 40_000

FILL = """
insert into integration.pool (name, role) values ('pool_a', 'pool_a'), ('pool_b', 'pool_b');
insert into integration.tenant_role (role, tenant_id)
    select case when n % 2 = 0 then 'pool_a' else 'pool_b' end, 'tenant-' || n from generate_series(0, 199) n;
insert into integration.connection (uid, tenant_id, namespace, name, provider, spec)
    select gen_random_uuid(), 'tenant-' || n, 'ns', 'c' || n, 'Webhook', '{}' from generate_series(0, 199) n;
insert into integration.route (connection_id, tenant_id, name, events, ordered)
    select id, tenant_id, 'all', '{*}', true from integration.connection;
insert into integration.worker_session (pool_id, name, lease_until)
    select id, 'worker', now() + interval '1 hour' from integration.pool;
insert into integration.lane (connection_id, tenant_id, pool_id, owner, state, quarantined_at, quarantine_reason)
    select c.id, c.tenant_id, p.id, s.id, case when c.id % 4 = 0 then 'Quarantined' else 'Open' end,
           case when c.id % 4 = 0 then now() end, case when c.id % 4 = 0 then 'Gone' end
    from integration.connection c
    join integration.tenant_role t using (tenant_id) join integration.pool p using (role)
    join integration.worker_session s on s.pool_id = p.id;
-- Events over several days, each in a transaction number of its own order.
insert into integration.event (at, xid, tenant_id, type, subject, data)
    select date_trunc('day', now()) + n % 4 * interval '1 day' + n * interval '1 ms', (n + 100)::text::xid8,
           'tenant-' || n % 200, 'company.updated', 's' || n, jsonb_build_object('id', n, 'name', repeat('x', 200))
    from generate_series(1, 40000) n;
-- In each lane jobs at random in the order of ids: most ready, some deferred, some held.
insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject, state, run_at)
    select l.pool_id, n, l.connection_id, r.id, e.id, e.at, n % 5000, s.state,
           case when s.state = 1 then now() + (n % 600 - 300) * interval '1 s' end
    from generate_series(1, 200000) n
    cross join lateral (select case n / 200 % 20 when 0 then 1 when 1 then 2 else 0 end as state) s
    join integration.lane l
        on l.connection_id = (select min(connection_id) from integration.lane) + (n * 7919::bigint) % 200
    join integration.route r using (connection_id)
    join integration.event e on e.id = 1 + n % 40000;
select setval('integration.job_id', 200000);
insert into integration.mapping (tenant_id, account, kind, queast_id, remote_id, linked_at)
    select 'tenant-' || t, 'hubspot:1', 'company', 'c-' || n, n, now()
    from generate_series(0, 9) t, generate_series(1, 5000) n;
insert into integration.attempt
    (at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome, duration_ms, worker)
    select now() - n * interval '1 s', 1 + n % 40000, n, 'tenant-1', 1, 1, 1, 'Delivered', 1, 1
    from generate_series(1, 50000) n;
"""


@dataclass(frozen=True)
class Volume:
    """A database with as much in it as a large installation has on a bad day."""

    dsns: dict[str, str]
    pool: int
    session: int
    connections: list[int]
    quarantined: list[int]
    events: list[tuple[int, str]]
    late_job: int
    some_jobs: list[int]


@pytest.fixture(scope="module")
def volume(postgres: "PostgresServer", volume_layer: "Layer") -> Volume:
    layer = volume_layer
    layer.admin.execute(FILL.encode())
    for vacuum in ("vacuum (analyze) integration.job", "analyze"):
        layer.admin.execute(vacuum.encode())
    pool = layer.value("select id from integration.pool where name = 'pool_a'")
    mine = "select connection_id from integration.lane where pool_id = %s and state = %s order by 1"
    return Volume(
        dsns={role: layer.dsn(role) for role in ("pool_a", "dispatcher", "producer", "operator")},
        pool=pool,
        session=layer.value("select id from integration.worker_session where pool_id = %s", (pool,)),
        connections=layer.column(mine, (pool, "Open")),
        quarantined=layer.column(mine, (pool, "Quarantined")),
        events=[
            (id, at)
            for id, at in layer.rows(
                "select e.id, e.at::text from integration.event e join integration.tenant_role using (tenant_id)"
                " where role = 'pool_a' order by e.id desc limit 100"
            )
        ],
        late_job=layer.value("select max(id) - 300 from integration.job where pool_id = %s", (pool,)),
        some_jobs=layer.column(
            "select id from integration.job where pool_id = %s and state = 0 order by connection_id, id limit 100",
            (pool,),
        ),
    )


def parameters_of(volume: Volume) -> dict[Statement, tuple[str, Sequence[object], int]]:
    """Return for each statement its role, typical parameters, and how many rows it may touch."""
    lanes_50 = volume.connections[:50]
    jobs_100 = volume.some_jobs
    ones = [1] * 100
    event_ids = [id for id, _ in volume.events]
    times = sorted(at for _, at in volume.events)
    deferral = (jobs_100, [0] * 100, ones)
    return {
        jobs.LAST_JOB: ("pool_a", (volume.pool,), 1),
        jobs.TAIL_JOBS: ("pool_a", (volume.pool, volume.late_job, 200, volume.session), 200),
        jobs.LANE_JOBS: ("pool_a", (lanes_50, [0] * 50, [20] * 50), 1000),
        jobs.DUE_JOBS: ("pool_a", (lanes_50, 20), 1000),
        jobs.PROBE_JOBS: ("pool_a", (volume.quarantined,), 3 * len(volume.quarantined)),
        jobs.NEXT_DUE: ("pool_a", (lanes_50,), 50),
        jobs.HELD_JOBS: ("pool_a", (lanes_50, list(range(50)), 16), 50 * 16),
        jobs.LOAD_EVENTS: ("pool_a", (numbers(event_ids), times[0], times[-1]), 100),
        jobs.LOAD_DATA: ("pool_a", volume.events[0], 1),
        settlement.FINISH_JOBS: (
            "pool_a",
            (
                volume.pool,
                volume.session,
                numbers(jobs_100),
                numbers([0] * 100),
                plain_texts(["tenant-2"] * 100),
                numbers([204] * 100),
                numbers([1000] * 100),
                numbers([1000] * 100),
                numbers([None] * 100),
                numbers([900] * 100),
                plain_texts(["ab" * 32] * 100),
            ),
            200,
        ),
        settlement.DEFER_JOBS: ("pool_a", (volume.pool, *deferral, [5.0] * 100), 200),
        settlement.HOLD_JOBS: ("pool_a", (volume.pool, jobs_100), 200),
        settlement.BURY_JOBS: ("pool_a", (volume.pool, *deferral, ["Invalid"] * 100, [""] * 100, [True] * 100), 200),
        settlement.HASTEN_JOBS: ("pool_a", (volume.connections[:1],), 150),
        deadlines.EXPIRE_JOBS: (
            "pool_a",
            (
                volume.session,
                volume.quarantined,
                [1.0] * len(volume.quarantined),
                ["1s"] * len(volume.quarantined),
                10,
            ),
            3 * 10 * len(volume.quarantined),
        ),
        links.FIND_LINKS: ("pool_a", ("tenant-2", "hubspot:1", "company", [f"c-{n}" for n in range(100)]), 100),
        links.PUT_LINKS: ("pool_a", ("tenant-2", "hubspot:1", "company", ["c-1", "new"], ["7", "8"]), 4),
        # The lane's unfinished jobs, and for each candidate its event and newer ones of its subject.
        replaying.QUEUE_REPLAY_JOBS: (
            "dispatcher",
            (
                volume.connections[0],
                event_ids[:20],
                [volume.connections[0]] * 20,
                [None] * 20,
                False,
                None,
                datetime(2100, 1, 1, tzinfo=UTC),
                ["*"],
                None,
                "1:1:",
                None,
                0,
                1,
                0,
                False,
                0,
            ),
            JOBS_A_LANE + 100,
        ),
        scopes.DRAW_PERMITS: ("pool_a", (volume.session, lanes_50, *([1] * 50 for _ in range(7))), 0),
        # Each connection with jobs is found, its first job read, and up to the limit counted.
        pools.READ_DEMAND: ("operator", (10, 5.0), LANES * 40),
        standing.READ_STANDINGS: ("operator", (), LANES * 10),
        # Asked every two seconds about each replay that goes on.
        replay_resources.READ_PARTS: ("operator", (uuid4(),), 0),
        dispatch.READ_NEW_EVENTS: ("dispatcher", (str(EVENTS - 100), [str(EVENTS - 500)], True, 1000), 202),
        dispatch.WRITE_JOBS: (
            "dispatcher",
            (
                0,
                "1:1:",
                None,
                0,
                numbers([volume.pool] * 100),
                numbers([volume.connections[0]] * 100),
                numbers(ones),
                numbers(event_ids),
                plain_texts(at for _, at in volume.events),
                numbers(range(100)),
                *([] for _ in range(7)),
                ["integration_jobs_1"],
            ),
            0,
        ),
    }


BIG = ("job", "event", "attempt", "dead_letter")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def explain(dsn: str, what: Statement, parameters: Sequence[object], mode: str, options: str) -> list[dict[str, Any]]:
    """Run a statement as its program's role, prepared as its program prepares it, and roll it back."""
    connection = psycopg.connect(dsn, cursor_factory=psycopg.ClientCursor, options=options)
    with connection:
        connection.execute(f"set plan_cache_mode = {mode}".encode())
        psycopg.RawCursor(connection).execute(b"prepare explained as " + what.sql)
        marks = ", ".join(["%s"] * len(parameters))
        given = f"({marks})" if marks else ""
        query = f"explain (analyze, format json, costs off, timing off, summary off) execute explained{given}"
        (answer,) = connection.execute(query.encode(), parameters).fetchall()
        connection.rollback()
    found = answer[0] if isinstance(answer[0], list) else json.loads(answer[0])
    return list(nodes(found[0]["Plan"]))


HOT = [what for what in all_statements() if what.hot]
GUARDED = [
    jobs.LAST_JOB,
    jobs.TAIL_JOBS,
    jobs.LANE_JOBS,
    jobs.DUE_JOBS,
    jobs.PROBE_JOBS,
    jobs.NEXT_DUE,
    jobs.HELD_JOBS,
    jobs.LOAD_EVENTS,
    jobs.LOAD_DATA,
    settlement.FINISH_JOBS,
    settlement.DEFER_JOBS,
    settlement.HOLD_JOBS,
    settlement.BURY_JOBS,
    settlement.HASTEN_JOBS,
    pools.READ_DEMAND,
    standing.READ_STANDINGS,
    dispatch.READ_NEW_EVENTS,
    dispatch.WRITE_JOBS,
    replaying.QUEUE_REPLAY_JOBS,
    links.FIND_LINKS,
    links.PUT_LINKS,
    scopes.DRAW_PERMITS,
    replay_resources.READ_PARTS,
]


@pytest.fixture(scope="module")
def queue_options() -> str:
    """Return the planner options under which programs run these statements."""
    return "-c jit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"


def test_every_hot_statement_is_guarded() -> None:
    assert set(HOT) <= set(GUARDED)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("what", GUARDED, ids=lambda what: what.name)
def test_a_batch_reads_what_it_returns_by_index(volume: Volume, queue_options: str, what: Statement, mode: str) -> None:
    role, parameters, rows = parameters_of(volume)[what]
    plan = explain(volume.dsns[role], what, parameters, mode, queue_options)

    scans = [
        node for node in plan if str(node.get("Relation Name", "")).startswith(BIG) and "Scan" in node["Node Type"]
    ]
    assert [node for node in scans if node["Node Type"] == "Seq Scan"] == []
    touched = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0))
        * node["Actual Loops"]
        for node in scans
    )
    assert touched <= rows


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("what", "index"),
    [
        (jobs.TAIL_JOBS, "job_pkey"),
        (jobs.LANE_JOBS, "job_ready"),
        (jobs.DUE_JOBS, "job_deferred"),
        (jobs.HELD_JOBS, "job_held"),
        (settlement.FINISH_JOBS, "job_pkey"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_batch_uses_the_index_made_for_it_and_sorts_no_backlog(
    volume: Volume, queue_options: str, what: Statement, index: str, mode: str
) -> None:
    role, parameters, rows = parameters_of(volume)[what]
    plan = explain(volume.dsns[role], what, parameters, mode, queue_options)

    used = {node["Index Name"] for node in plan if str(node.get("Index Name", "")).startswith("job_")}
    assert used == {index}
    assert [node for node in plan if node["Node Type"] == "Sort" and node["Actual Rows"] > rows] == []


def test_events_are_loaded_from_the_partitions_of_their_days_only(volume: Volume, queue_options: str) -> None:
    day = [(id, at) for id, at in volume.events if at[:10] == volume.events[0][1][:10]]
    parameters = (numbers(id for id, _ in day), min(at for _, at in day), max(at for _, at in day))
    plan = explain(volume.dsns["pool_a"], jobs.LOAD_EVENTS, parameters, "force_generic_plan", queue_options)

    run = {
        node["Relation Name"]
        for node in plan
        if str(node.get("Relation Name", "")).startswith("event_") and node["Actual Loops"]
    }
    assert len(run) == 1


@pytest.mark.anyio
async def test_the_programs_run_these_statements_under_the_options_of_this_test(
    volume: Volume, queue_options: str
) -> None:
    async with await connect(volume.dsns["pool_a"], "test", queue=True) as database:
        for setting in queue_options.removeprefix("-c ").split(" -c "):
            name, value = setting.split("=")
            row = await (await database.execute(f"show {name}".encode())).fetchone()
            assert row == (value,)


# The registry -----------------------------------------------------------------------------------------------------


def test_every_statement_has_a_name_and_a_purpose_of_its_own() -> None:
    statements = all_statements()

    assert len(statements) > 40
    assert len({what.name for what in statements}) == len(statements)
    assert len({what.purpose for what in statements}) == len(statements)
    assert [what.name for what in statements if not what.purpose.endswith(".")] == []


def test_every_statement_carries_its_name_to_the_server() -> None:
    assert [what.name for what in all_statements() if not what.sql.startswith(f"/* {what.name} */ ".encode())] == []


@pytest.mark.parametrize("what", all_statements(), ids=lambda what: what.name)
def test_every_statement_can_be_prepared(volume: Volume, volume_layer: "Layer", what: Statement) -> None:
    assert {
        connections,
        dead_letters,
        deadlines,
        dispatch,
        export,
        facts,
        history,
        jobs,
        lanes,
        leadership,
        links,
        pools,
        publication,
        removal,
        replay_edits,
        replay_requests,
        replay_resources,
        replay_selection,
        replaying,
        replays,
        upkeep,
        watching,
    }
    with psycopg.connect(volume_layer.admin_dsn) as connection:
        psycopg.RawCursor(connection).execute(b"prepare tried as " + what.sql)
        connection.rollback()
