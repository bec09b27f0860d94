"""What people do with dead letters: send one again, or give it up for good.

A job that is sent again keeps its id, and so its place before the later ones of its subject, and its message id, by
which the receiver knows it; its attempts begin anew. The lane's owner reads the lane again, and what a blocking letter
held up follows in order.
"""

from contracts.ids import JobId
from store.database import Database, run, transaction
from store.publication import count_epoch, lock_routing
from store.statement import statement

RESEND_DEAD_LETTER = statement(
    "resend_dead_letter",
    "Make a dead letter a job again and have its lane read anew. $1 job.",
    """
    with letter as (
        delete from integration.dead_letter d using integration.lane l
        where d.job_id = $1::bigint and l.connection_id = d.connection_id
        returning d.job_id, d.connection_id, d.route_id, d.event_id, d.event_at, d.subject, l.pool_id
    ),
    job as (
        insert into integration.job (pool_id, id, connection_id, route_id, event_id, event_at, subject)
        select pool_id, job_id, connection_id, route_id, event_id, event_at, subject from letter
    )
    update integration.lane l set revision = l.revision + 1 from letter where l.connection_id = letter.connection_id
    returning l.connection_id
    """,
)

DISCARD_DEAD_LETTER = statement(
    "discard_dead_letter",
    "Delete a dead letter and have its lane read anew, if it is still there. $1 job.",
    """
    with letter as (
        delete from integration.dead_letter d where d.job_id = $1::bigint returning d.connection_id
    ),
    told as (
        update integration.lane l set revision = l.revision + 1 from letter where l.connection_id = letter.connection_id
    )
    select connection_id from letter
    """,
)


async def resend(database: Database, job: JobId) -> bool:
    """Make a dead letter a job again; False if there is none, or its connection has ended."""
    async with transaction(database):
        await lock_routing(database)
        if not await run(database, RESEND_DEAD_LETTER, (job,)):
            return False
        await count_epoch(database)
        return True


async def discard(database: Database, job: JobId) -> bool:
    """Delete a dead letter; False if there is none."""
    async with transaction(database):
        await lock_routing(database)
        if not await run(database, DISCARD_DEAD_LETTER, (job,)):
            return False
        await count_epoch(database)
        return True
