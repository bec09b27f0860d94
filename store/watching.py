"""What dashboards and alerts want to know of the database: what waits, what was given up, what holds it back."""

from typing import NamedTuple

from store.database import Database, run
from store.statement import statement

OLDEST_UNDISPATCHED = statement(
    "oldest_undispatched",
    "Age in seconds of the event that waits longest for a dispatcher, by transaction; 0 if none waits.",
    """
    select coalesce(max(extract(epoch from clock_timestamp() - waiting.at)), 0)::float8
    from integration.dispatch_cursor c
    cross join lateral (
        (select e.at from integration.event e
         where e.xid >= pg_snapshot_xmax(c.lower)
           and not (e.id <= c.last_event_id and pg_visible_in_snapshot(e.xid, coalesce(c.upper, c.lower)))
         order by e.xid limit 1)
        union all
        (select e.at from integration.event e
         where e.xid = any (array(select pg_snapshot_xip(c.lower)))
           and not (e.id <= c.last_event_id and pg_visible_in_snapshot(e.xid, coalesce(c.upper, c.lower)))
         order by e.at limit 1)
    ) waiting
    """,
)

DEAD_LETTERS = statement(
    "count_dead_letters",
    "Dead letters of each connection that has any and has not ended.",
    """
    select c.namespace, c.name, d.letters
    from (select connection_id, count(*) as letters from integration.dead_letter group by connection_id) d
    join integration.connection c on c.id = d.connection_id
    where c.deleted_at is null
    """,
)

# Who holds what may be read without any right of its own; since when may not, so whoever asks compares over time.
# VACUUM's own snapshot holds nothing back.
OLDEST_TRANSACTION = statement(
    "oldest_transaction",
    "The next transaction number, and the oldest that somebody in this database, a standby or a slot still holds.",
    """
    with snapshot as (select pg_snapshot_xmax(pg_current_snapshot()) as next),
    session as (
        select backend_xmin, backend_xid from pg_stat_activity
        where pid <> pg_backend_pid() and (datname = current_database() or datname is null)
          and pid not in (select pid from pg_stat_progress_vacuum)
    ),
    held as (
        select backend_xmin as xid from session
        union all select backend_xid from session
        union all select transaction from pg_prepared_xacts where database = current_database()
        union all select xmin from pg_replication_slots
    )
    select next::text::bigint,
           next::text::bigint - greatest(0, coalesce((select max(age(xid)) from held) - age(next::xid), 0))
    from snapshot
    """,
)

PARTITIONS_AHEAD = statement(
    "partitions_ahead",
    "For how many days after today each partitioned table has partitions.",
    """
    select p.relname, max(to_date(right(c.relname, 8), 'YYYYMMDD')) - (now() at time zone 'UTC')::date
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    join pg_class p on p.oid = i.inhparent
    where p.relnamespace = 'integration'::regnamespace and p.relkind = 'p' and c.relname ~ '_[0-9]{8}$'
    group by p.relname
    """,
)


# Counted by the statistics system: what VACUUM has not removed yet, whether or not something keeps it from that.
DEAD_ROWS = statement(
    "dead_rows",
    "Dead rows of the tables whose rows come and go.",
    """
    select relname, n_dead_tup from pg_stat_user_tables
    where schemaname = 'integration' and relname in ('job', 'lane', 'dispatch_cursor', 'worker_session')
    """,
)


class Watched(NamedTuple):
    """One look at the database. Transaction numbers count up for ever; days ahead and dead rows are told by table."""

    undispatched_seconds: float
    dead_letters: dict[tuple[str, str], int]
    next_transaction: int
    oldest_transaction: int
    partitions_ahead: dict[str, int]
    dead_rows: dict[str, int]


async def watch(database: Database) -> Watched:
    """Look once."""
    ((undispatched,),) = await run(database, OLDEST_UNDISPATCHED)
    ((following, oldest),) = await run(database, OLDEST_TRANSACTION)
    dead = {(row[0], row[1]): row[2] for row in await run(database, DEAD_LETTERS)}
    ahead, rows = dict(await run(database, PARTITIONS_AHEAD)), dict(await run(database, DEAD_ROWS))
    return Watched(undispatched, dead, following, oldest, ahead, rows)
