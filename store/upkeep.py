"""Upkeep by the dispatcher: partitions and retention, and the numbers for dashboards."""

from typing import NamedTuple

from store.database import Database, run
from store.flows import forget_flows
from store.links import forget_links
from store.retention import Retention, forget_dead_letters
from store.statement import statement
from store.transitions import FORGET_TRANSITIONS

MAINTAIN = statement(
    "maintain",
    "Create coming partitions and drop what outlived the longest retention. $1 days of events, $2 "
    "attempts, $3 dead letters.",
    "select action, relation from integration.maintain($1::int, $2::int, $3::int)",
)

MAINTAIN_WORKERS = statement(
    "maintain_workers",
    "Note once a day which workers live, and forget those whose attempts are no longer kept. $1 days of attempts.",
    """
    with seen as (
        update integration.worker w set seen_at = now()
        where w.seen_at < now() - interval '1 day' and w.session in (select s.id from integration.worker_session s)
    )
    -- Two days more: one that seen_at may be late, and one of the partition that is not over yet.
    delete from integration.worker w
    where w.seen_at < now() - make_interval(days => $1::int + 2)
      and w.session not in (select s.id from integration.worker_session s)
    """,
)

# One pass over the table of unfinished work; whoever asks spaces it by how long it took.
BACKLOG = statement(
    "backlog",
    "Unfinished jobs, and the age of the oldest that no replay made, per connection, with the lane's state.",
    """
    select c.namespace, c.name, c.tenant_id, l.state, l.suspended, coalesce(b.jobs, 0), coalesce(b.oldest, 0)::float8
    from integration.lane l
    join integration.connection c on c.id = l.connection_id
    left join (
        select connection_id, count(*) as jobs,
               extract(epoch from now() - min(event_at) filter (where replay_id is null)) as oldest
        from integration.job group by connection_id
    ) b on b.connection_id = l.connection_id
    """,
)


class BacklogRow(NamedTuple):
    """One connection's unfinished work."""

    namespace: str
    connection: str
    tenant: str
    state: str
    suspended: bool
    jobs: int
    oldest_seconds: float


async def maintain(
    database: Database, *, events: Retention, attempts: Retention, dead_letters: Retention
) -> list[tuple[str, str]]:
    """Run the upkeep but for sweeping; return what was done as (action, relation)."""
    await run(database, MAINTAIN_WORKERS, (attempts.longest,))
    await run(database, FORGET_TRANSITIONS, dead_letters.parameters())
    done = []
    if forgotten := await forget_dead_letters(database, dead_letters):
        done.append((f"deleted {forgotten}", "dead_letter"))
    if forgotten := await forget_links(database):
        done.append((f"deleted {forgotten}", "mapping"))
    if forgotten := await forget_flows(database):
        done.append((f"deleted {forgotten}", "oauth_flow"))
    longest = (events.longest, attempts.longest, dead_letters.longest)
    return done + [(row[0], row[1]) for row in await run(database, MAINTAIN, longest)]


async def read_backlog(database: Database) -> list[BacklogRow]:
    """Count unfinished jobs per connection."""
    return [BacklogRow(*row) for row in await run(database, BACKLOG)]
