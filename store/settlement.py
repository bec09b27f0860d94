"""What came of attempts, on its way into the database.

Results are written by `finish` (plain successes, one statement) and `settle` (all else, one transaction). Both first
lock the worker's session row. A worker whose lease was taken has no such row: nothing of its batch is written, and its
jobs belong to the lanes' new owner. Killed before the commit, a worker leaves the jobs as they were, and they are sent
again under the same message id; killed after it, nothing is left to do. A settlement whose acknowledgement was lost can
be sent again: each write is fenced by the job's attempt count, so the second one finds nothing to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contracts.ids import ConnectionId, EventId, JobId, PoolId, ReplayId, RouteId, SessionId, TenantId
from store.arrays import columns, numbers, plain_texts
from store.collapsing import Superseding, supersede_jobs
from store.database import Database, run, transaction
from store.errors import LeaseLostError
from store.statement import statement
from store.transitions import Transition, record_transitions


class AttemptRow(NamedTuple):
    """One try, to be recorded. It ended `ended_ago_ms` milliseconds before now; `particulars` is a JSON object."""

    job: JobId
    event: EventId
    tenant: TenantId
    connection: ConnectionId
    route: RouteId
    number: int
    outcome: str
    status_code: int | None
    duration_ms: float
    ended_ago_ms: float
    detail: str | None
    resolving_ms: float | None = None
    answering_ms: float | None = None
    body_digest: bytes | None = None
    particulars: str | None = None
    replay: ReplayId | None = None


class Success(NamedTuple):
    """A plain success: what the job's row does not know. Times in microseconds."""

    job: JobId
    attempts_before: int
    tenant: TenantId
    status_code: int | None
    duration_us: int
    ended_ago_us: int
    resolving_us: int | None = None
    answering_us: int | None = None
    body_digest: bytes | None = None


class Deferral(NamedTuple):
    """A job to be tried again no sooner than in `delay_seconds`, with the attempt count it has then."""

    job: JobId
    attempts_before: int
    attempts: int
    delay_seconds: float


class DeadLetter(NamedTuple):
    """A job that will not be tried again by itself; `blocks` says that its subject waits for a person."""

    job: JobId
    attempts_before: int
    attempts: int
    reason: str
    detail: str
    blocks: bool = False


class LaneChange(NamedTuple):
    """A lane's runtime state as its owner last decided it; times are seconds from now, None for none."""

    connection: ConnectionId
    revision: int
    state: str
    consecutive_failures: int
    quarantine_reason: str | None
    probes: int
    probe_in_seconds: float | None
    paused_for_seconds: float | None
    probe_asked_by: str | None
    ramp_percent: int | None
    effective_rps: float | None
    effective_concurrency: int | None


@dataclass(slots=True)
class Settlement:
    """What came of attempts that were not plain successes, to be written together."""

    deferred: list[Deferral] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    superseded: list[Superseding] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    held: list[JobId] = field(default_factory=list)
    lanes: list[LaneChange] = field(default_factory=list)
    hasten: list[ConnectionId] = field(default_factory=list)
    transitions: list[tuple[ConnectionId, Transition]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.attempts or self.dead or self.superseded or self.held or self.lanes or self.hasten)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did: `fenced` jobs were no longer as the worker knew them; stale lanes had been changed."""

    fenced: int
    stale_lanes: frozenset[ConnectionId]


FENCE = statement(
    "fence",
    "Lock the worker's own session; no row means the lease was lost. Taking a lease deletes the row, so the lock makes "
    "'still the owner' hold until this transaction ends. $1 session.",
    "select id from integration.worker_session where id = $1::bigint for key share",
)

# Jobs are looked up one by one through `lateral … limit 1`: a plain join lets the planner, which may have made its plan
# when the table was empty, read every job of the pool for each batch.
FINISH_JOBS = statement(
    "finish_jobs",
    "Delete delivered jobs and record their attempts. $1 pool, $2 session, then arrays: $3 jobs, $4 attempts before, "
    "$5 tenants, $6 status codes, $7 durations, $8 ages, $9 times of resolving and $10 of answering in microseconds, "
    "$11 digests in hexadecimal, empty for none.",
    """
    with fence as materialized (
        select id from integration.worker_session where id = $2::bigint for key share
    ),
    found as materialized (
        select t.*, j.tid
        from unnest($3::text::bigint[], $4::text::smallint[], $5::text::text[], $6::text::smallint[],
                    $7::text::bigint[], $8::text::bigint[], $9::text::bigint[], $10::text::bigint[],
                    $11::text::text[])
            as t (id, attempts_before, tenant_id, status_code, duration_us, ended_ago_us, resolving_us, answering_us,
                  body_digest)
        cross join lateral (
            select ctid as tid from integration.job
            where pool_id = $1::int and id = t.id and attempts = t.attempts_before limit 1
        ) j
        where exists (select from fence)
    ),
    gone as (
        delete from integration.job j using found f where j.ctid = f.tid
        returning j.id, j.event_id, j.connection_id, j.route_id, j.attempts, j.replay_id, f.tenant_id, f.status_code,
                  f.duration_us, f.ended_ago_us, f.resolving_us, f.answering_us, f.body_digest
    ),
    recorded as (
        insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome,
                                         status_code, duration_ms, worker, resolving_ms, answering_ms,
                                         body_digest, replay_id)
        select now() - ended_ago_us * interval '1 us', event_id, id, tenant_id, connection_id, route_id,
               attempts + 1, 'Delivered', status_code, duration_us / 1000.0, $2::bigint, resolving_us / 1000.0,
               answering_us / 1000.0, decode(nullif(body_digest, ''), 'hex'), replay_id
        from gone
    )
    select (select id from fence), (select count(*) from gone)
    """,
    hot=True,
)

RECORD_ATTEMPTS = statement(
    "record_attempts",
    "Record attempts whose jobs were deferred, dead-lettered or returned, except those of tenants that have left the "
    "pool meanwhile. $1 session, $2..$17 the attempts.",
    """
    insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome,
                                     status_code, duration_ms, worker, detail, resolving_ms, answering_ms,
                                     body_digest, particulars, replay_id)
    select now() - make_interval(secs => ended_ago_ms / 1000), event_id, job_id, tenant_id, connection_id,
           route_id, number, outcome, status_code, duration_ms, $1::bigint, detail, resolving_ms, answering_ms,
           body_digest, particulars::jsonb, replay_id
    from unnest($2::bigint[], $3::bigint[], $4::text[], $5::int[], $6::int[], $7::smallint[], $8::text[],
                $9::smallint[], $10::real[], $11::real[], $12::text[], $13::real[], $14::real[], $15::bytea[],
                $16::text[], $17::bigint[])
        as t (job_id, event_id, tenant_id, connection_id, route_id, number, outcome, status_code, duration_ms,
              ended_ago_ms, detail, resolving_ms, answering_ms, body_digest, particulars, replay_id)
    where tenant_id in (select tenant_id from integration.tenant_role where role = current_user)
    """,
)

DEFER_JOBS = statement(
    "defer_jobs",
    "Set jobs aside until their next attempt. $1 pool, $2 ids, $3 attempts before, $4 attempts, $5 delays in seconds.",
    """
    with found as materialized (
        select d.*, j.tid
        from unnest($2::bigint[], $3::smallint[], $4::smallint[], $5::float8[])
            as d (id, attempts_before, attempts, delay)
        cross join lateral (
            select ctid as tid from integration.job
            where pool_id = $1::int and id = d.id and attempts = d.attempts_before limit 1
        ) j
    )
    update integration.job j
    set state = 1, attempts = f.attempts, run_at = now() + make_interval(secs => f.delay)
    from found f where j.ctid = f.tid
    returning j.id
    """,
)

HOLD_JOBS = statement(
    "hold_jobs",
    "Set ready jobs aside that wait behind an earlier one of their subject. $1 pool, $2 ids.",
    "update integration.job set state = 2 where pool_id = $1::int and id = any ($2::bigint[]) and state = 0",
)

BURY_JOBS = statement(
    "bury_jobs",
    "Move jobs to the dead letters. $1 pool, $2 ids, $3 attempts before, $4 attempts, $5 reasons, $6 details, "
    "$7 whether they block their subjects.",
    """
    with found as materialized (
        select d.*, j.tid
        from unnest($2::bigint[], $3::smallint[], $4::smallint[], $5::text[], $6::text[], $7::boolean[])
            as d (id, attempts_before, attempts, reason, detail, blocks)
        cross join lateral (
            select ctid as tid from integration.job
            where pool_id = $1::int and id = d.id and attempts = d.attempts_before limit 1
        ) j
    ),
    dead as (
        delete from integration.job j using found f where j.ctid = f.tid
        returning j.*, f.attempts as made, f.reason, f.detail, f.blocks
    ),
    buried as (
        insert into integration.dead_letter
            (job_id, tenant_id, connection_id, route_id, event_id, event_at, subject, attempts, reason, detail,
             replay_id, blocks)
        select d.id, l.tenant_id, d.connection_id, d.route_id, d.event_id, d.event_at, d.subject, d.made, d.reason,
               d.detail, d.replay_id, d.blocks
        from dead d join integration.lane l using (connection_id)
    )
    select id from dead
    """,
)

CHANGE_LANES = statement(
    "change_lanes",
    "Write lane states their owner decided, unless somebody changed the lane meanwhile. $1 session, $2..$13 changes.",
    """
    update integration.lane l
    set revision = l.revision + 1, state = c.state, consecutive_failures = c.failures,
        quarantined_at = case when c.state = 'Quarantined' then coalesce(l.quarantined_at, now()) end,
        quarantine_reason = c.reason, probes = c.probes,
        probe_at = now() + make_interval(secs => c.probe_in),
        paused_until = now() + make_interval(secs => c.paused_for), probe_asked_by = c.asked_by,
        ramp_percent = c.ramp_percent, effective_rps = c.rps, effective_concurrency = c.concurrency
    from unnest($2::int[], $3::bigint[], $4::text[], $5::int[], $6::text[], $7::int[], $8::float8[], $9::float8[],
                $10::text[], $11::smallint[], $12::float8[], $13::int[])
        as c (connection_id, revision, state, failures, reason, probes, probe_in, paused_for, asked_by, ramp_percent,
              rps, concurrency)
    where l.connection_id = c.connection_id and l.revision = c.revision and l.owner = $1::bigint
    returning l.connection_id
    """,
)

HASTEN_JOBS = statement(
    "hasten_jobs",
    "Make the deferred jobs of released lanes due now: what they waited for is over. $1 connections.",
    "update integration.job set run_at = now() where state = 1 and connection_id = any ($1::int[]) and run_at > now()",
)


async def finish(database: Database, pool: PoolId, session: SessionId, delivered: Sequence[Success]) -> int:
    """Record deliveries and delete their jobs, each fenced by its attempts before; return how many were still ours.

    Raise LeaseLostError, with nothing written.
    """
    jobs, before, tenants, statuses, durations, ages, resolving, answering, digests = zip(*delivered, strict=True)
    columns = (
        numbers(jobs),
        numbers(before),
        plain_texts(tenants),
        numbers(statuses),
        numbers(durations),
        numbers(ages),
        numbers(resolving),
        numbers(answering),
        plain_texts([digest.hex() if digest else "" for digest in digests]),
    )
    rows = await run(database, FINISH_JOBS, (pool, session, *columns))
    fence, moved = rows[0]
    if fence is None:
        raise LeaseLostError(f"session {session} was taken; its results of {len(delivered)} deliveries came too late")
    count: int = moved
    return count


async def settle(database: Database, pool: PoolId, session: SessionId, what: Settlement) -> Settled:
    """Write everything but plain successes, in one transaction. Raise LeaseLostError, with nothing written."""
    ending = {deferral.job for deferral in what.deferred} | {letter.job for letter in what.dead}
    moved: set[int] = set()
    changed: set[int] = set()
    async with transaction(database):
        if not await run(database, FENCE, (session,)):
            raise LeaseLostError(
                f"session {session} was taken; its results of {len(what.attempts)} attempts came too late"
            )
        if what.deferred:
            moved.update(row[0] for row in await run(database, DEFER_JOBS, (pool, *columns(what.deferred))))
        if what.dead:
            moved.update(row[0] for row in await run(database, BURY_JOBS, (pool, *columns(what.dead))))
        if what.superseded:
            await supersede_jobs(database, pool, session, what.superseded)
        if what.held:
            await run(database, HOLD_JOBS, (pool, what.held))
        if attempts := [attempt for attempt in what.attempts if attempt.job not in ending or attempt.job in moved]:
            await run(database, RECORD_ATTEMPTS, (session, *columns(attempts)))
        if what.lanes:
            changed.update(row[0] for row in await run(database, CHANGE_LANES, (session, *columns(what.lanes))))
        if transitions := [(lane, transition) for lane, transition in what.transitions if lane in changed]:
            await record_transitions(database, transitions)
        if what.hasten:
            await run(database, HASTEN_JOBS, (what.hasten,))
    return Settled(
        fenced=len(what.deferred) + len(what.dead) - len(moved),
        stale_lanes=frozenset(lane.connection for lane in what.lanes if lane.connection not in changed),
    )
