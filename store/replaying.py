"""Carrying a replay on, a few jobs a transaction.

One transaction takes a replay's row, inserts the jobs, removes the dead letters they replace, and moves the replay's
cursor. Killed before its commit nothing has happened, after it everything has, and the next runner goes on from the
cursor: each event and route of a selection makes one job. The row's `revision` decides between two runners, and
between a runner and a cancellation.

Job ids must be in commit order (see `store.dispatch`), so the transaction locks the dispatch cursor before it draws the
first one. A dispatcher's batch waits meanwhile: the lock comes late, is held for two short statements, and a runner
that freezes in between loses its connection after a second. While it is held no connection can lose its intake, no
newer event can be dispatched, so the verdicts stand until the commit; a newer event dispatched later gets a later job
id and arrives after the replayed one.

A dead letter that blocks its subject becomes a job under its old id, and so before those that wait behind it. The
lane's owner reads the lane again then: its revision and the routing epoch tell it to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.ids import PoolId
from store.database import Database, run, transaction
from store.dispatch import pool_channel
from store.publication import count_epoch, lock_routing
from store.replay_selection import SAMPLE, VERDICTS, Candidate, Verdict, verdict_parameters
from store.replays import Replay
from store.retention import Retention
from store.statement import statement

ELECT_RUNNER = statement(
    "elect_runner",
    "Become the one that carries replays on, as long as this connection lives.",
    "select pg_try_advisory_lock(7308613719)",
)

TAKE_REPLAY = statement(
    "take_replay",
    "Lock a replay that is as it was read. A frozen runner loses its connection, and its locks, after a second. "
    "$1 id, $2 revision.",
    """
    select p.id, set_config('idle_in_transaction_session_timeout', '1s', true)
    from integration.replay p
    where p.id = $1::bigint and p.revision = $2::bigint and p.state = 'Running' and not p.dry_run
    for update
    """,
)

LOCK_DISPATCH = statement(
    "lock_dispatch",
    "Let no job id be drawn and no intake end until this transaction ends.",
    "select revision from integration.dispatch_cursor for no key update",
)

_QUEUED = """,
    letters as (
        delete from integration.dead_letter d using judged j
        where j.verdict = 'Queued' and d.job_id = j.letter
        returning d.*
    ),
    ended as (
        insert into integration.dead_letter_end
            (job_id, tenant_id, connection_id, route_id, event_id, event_at, attempts, cause, detail, dead_at,
             replay_id, action, resent_by_replay, ended_by, reason)
        select l.job_id, l.tenant_id, l.connection_id, l.route_id, l.event_id, l.event_at, l.attempts, l.reason,
               l.detail, l.dead_at, l.replay_id, 'Resent', p.id, p.requested_by, p.reason
        from letters l, integration.replay p where p.id = $13::bigint
    ),
    made as (
        insert into integration.job
            (pool_id, id, connection_id, route_id, event_id, event_at, subject, replay_id)
        select q.pool_id, coalesce(q.blocking, nextval('integration.job_id')), $1::int, q.route_id, q.event_id, q.at,
               q.subject, $13::bigint
        from (
            select l.pool_id, j.route_id, j.event_id, j.at, case when j.ordered then j.subject end as subject,
                   (select b.job_id from letters b where b.job_id = j.letter and b.blocks) as blocking
            from judged j join integration.lane l on l.connection_id = $1::int
            where j.verdict = 'Queued' and (j.letter is null or j.letter in (select job_id from letters))
            order by j.position
        ) q
        returning pool_id
    ),
    let_go as (
        update integration.lane set revision = revision + 1
        where connection_id = $1::int and exists (select from letters where blocks)
        returning connection_id
    ),
    counted as (
        select (select count(*) from made) as queued,
               count(*) filter (where verdict = 'Superseded') as superseded,
               count(*) filter (where verdict = 'Unfinished') as unfinished,
               count(*) filter (where verdict in ('Queued', 'Gone')) - (select count(*) from made) as gone
        from judged
    )
    update integration.replay p
    set revision = p.revision + 1, cursor = $14::bigint, read_to_end = $15::boolean, queued = p.queued + c.queued,
        superseded = p.superseded + c.superseded, unfinished = p.unfinished + c.unfinished, gone = p.gone + c.gone,
        filter_failed = p.filter_failed + $16::bigint, moved_at = now()
    from counted c where p.id = $13::bigint
    returning c.queued, (select min(pool_id) from made), exists (select from let_go)
"""

QUEUE_REPLAY_JOBS = statement(
    "queue_replay_jobs",
    "Make the jobs of a replay's next candidates, end the dead letters they replace and move the replay on; the pools "
    "that got some are woken by the next statement. $1 connection, $2..$4 candidates, $5..$12 selection, $13 replay, "
    "$14 cursor, $15 whether all is read, $16 failed filters.",
    VERDICTS + _QUEUED,
)

WAKE_POOL = statement("wake_pool", "Tell a pool's workers of new jobs. $1 channel.", "select pg_notify($1::text, '')")

COUNT_STEP = statement(
    "count_replay_step",
    "Carry a dry run on: count what a step would do; no row if it is not as it was read. $1 id, $2 revision, "
    "$3 cursor, $4 whether all is read, $5..$9 counts by verdict, $10 sample, $11 how large a sample is at most.",
    """
    update integration.replay
    set revision = revision + 1, cursor = $3::bigint, read_to_end = $4::boolean, queued = queued + $5::bigint,
        superseded = superseded + $6::bigint, unfinished = unfinished + $7::bigint, gone = gone + $8::bigint,
        filter_failed = filter_failed + $9::bigint, sample = (sample || $10::text[])[1:$11::int], moved_at = now()
    where id = $1::bigint and revision = $2::bigint and state = 'Running' and dry_run
    returning id
    """,
)

COMPLETE_REPLAY = statement(
    "complete_replay",
    "End a replay that is read to its end and has no job left. $1 id.",
    """
    update integration.replay p
    set state = 'Completed', ended_at = now(), revision = revision + 1
    where p.id = $1::bigint and p.state = 'Running' and p.read_to_end
      and not exists (
          select from integration.job j where j.connection_id = p.connection_id and j.replay_id = p.id
      )
    returning id
    """,
)

FAIL_REPLAY = statement(
    "fail_replay",
    "End a replay that cannot go on. $1 id, $2 revision, $3 why.",
    """
    update integration.replay
    set state = 'Failed', detail = $3::text, ended_at = now(), revision = revision + 1
    where id = $1::bigint and revision = $2::bigint and state = 'Running'
    """,
)

FORGET_RESOURCES = statement(
    "forget_replay_resources",
    "Delete what outlived its retention: resources that were decided on and have no replays any more. $1 days by "
    "default, $2 by tenant.",
    """
    delete from integration.replay_resource r
    where r.decided_at < now() - make_interval(days => coalesce(($2::jsonb ->> r.tenant_id)::int, $1::int))
      and not exists (select from integration.replay p where p.resource_uid = r.uid)
    """,
)

FORGET_REPLAYS = statement(
    "forget_replays",
    "Delete what outlived its retention: ended replays without unfinished jobs, and ended dead letters. $1 days by "
    "default, $2 by tenant.",
    """
    with letters as (
        delete from integration.dead_letter_end
        where ended_at < now() - make_interval(days => coalesce(($2::jsonb ->> tenant_id)::int, $1::int))
    )
    delete from integration.replay p
    where p.ended_at < now() - make_interval(days => coalesce(($2::jsonb ->> p.tenant_id)::int, $1::int))
      and not exists (
          select from integration.job j where j.connection_id = p.connection_id and j.replay_id = p.id
      )
      and not exists (select from integration.dead_letter d where d.replay_id = p.id)
    """,
)


@dataclass(frozen=True, slots=True)
class Step:
    """The next part of a replay: what is to be judged and queued, and where its cursor is then."""

    candidates: Sequence[Candidate]
    reached: int
    end: bool
    filter_failed: int = 0


async def elect(database: Database) -> bool:
    """Say whether this connection is the runner's now; call once on each connection until it is."""
    rows = await run(database, ELECT_RUNNER)
    elected: bool = rows[0][0]
    return elected


async def queue(database: Database, replay: Replay, step: Step) -> int | None:
    """Carry a replay on by a step; return how many jobs were made, or None if it is not as it was read."""
    async with transaction(database):
        if not await run(database, TAKE_REPLAY, (replay.id, replay.revision)):
            return None
        if any(candidate.letter is not None for candidate in step.candidates):
            await lock_routing(
                database
            )  # what a letter blocks may be let go; before all other locks, as publications do
        if step.candidates:
            await run(database, LOCK_DISPATCH)
        parameters = (
            *verdict_parameters(replay.request.selection, step.candidates),
            replay.id,
            step.reached,
            step.end,
            step.filter_failed,
        )
        rows = await run(database, QUEUE_REPLAY_JOBS, parameters)
        queued: int
        queued, pool, let_go = rows[0]
        if let_go:
            await count_epoch(database)
        if queued:
            await run(database, WAKE_POOL, (pool_channel(PoolId(pool)),))
    return queued


async def count(
    database: Database, replay: Replay, step: Step, found: Mapping[Verdict, int], sample: list[str]
) -> bool:
    """Carry a dry run on by a step, of which `found` are the verdicts; False if it is not as it was read."""
    order = (Verdict.QUEUED, Verdict.SUPERSEDED, Verdict.UNFINISHED, Verdict.GONE)
    counts = [found.get(verdict, 0) for verdict in order]
    parameters = (replay.id, replay.revision, step.reached, step.end, *counts, step.filter_failed, sample, SAMPLE)
    return bool(await run(database, COUNT_STEP, parameters))


async def complete(database: Database, replay: Replay) -> bool:
    """End a replay whose jobs have all ended; False while it has some."""
    return bool(await run(database, COMPLETE_REPLAY, (replay.id,)))


async def fail(database: Database, replay: Replay, why: str) -> None:
    """End a replay that cannot go on."""
    await run(database, FAIL_REPLAY, (replay.id, replay.revision, why))


async def forget(database: Database, kept: Retention) -> None:
    """Delete ended replays, their resources and ended dead letters that outlived their retention."""
    await run(database, FORGET_REPLAYS, kept.parameters())
    await run(database, FORGET_RESOURCES, kept.parameters())
