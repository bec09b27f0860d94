"""Replays that are asked for with a resource: handed on by the operator, started by the dispatcher.

The operator may read no events, so it records what a resource says, once for each uid. The dispatcher finds out which
connections, events and jobs are meant, and in one transaction marks the resource as started and makes a replay for
each connection: killed before, it looks again; after, it is done. From then on these are replays like all others.

A cancellation holds the resource's row, so it comes before a start, which then finds nothing to start, or after it, and
then finds its replays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from contracts.ids import ReplayUid, TenantId
from store.database import Database, run, transaction
from store.leadership import Term, require_term
from store.replays import ReplayState, Request, start_one
from store.statement import statement

LOOKED_AT_ONCE = 20

WAIT_SECONDS = 5.0
"""Until one that waits is looked at again."""


class ResourceState(StrEnum):
    """How far a resource has come."""

    ASKED = "Asked"
    """The dispatcher has not started it; `detail` says what it waits for, if it has looked."""
    STARTED = "Started"
    """Its replays say how it stands."""
    REFUSED = "Refused"
    """It asks for what there is not; `detail` says what."""
    CANCELLED = "Cancelled"
    """It was cancelled before it was started."""


class ReplayResource(NamedTuple):
    """An IntegrationReplay: the object's identity, and its spec in its wire form."""

    uid: ReplayUid
    tenant: TenantId
    namespace: str
    name: str
    spec: dict[str, Any]

    @property
    def title(self) -> str:
        """Who asks, where nobody has said it."""
        return f"IntegrationReplay {self.namespace}/{self.name}"[:200]


class Part(NamedTuple):
    """The replay of a resource to one connection. `lane` is None if the connection has ended."""

    connection: str
    state: ReplayState
    detail: str
    started_at: datetime
    ended_at: datetime | None
    queued: int
    superseded: int
    unfinished: int
    gone: int
    filter_failed: int
    sample: list[str]
    lane: str | None
    suspended: bool
    in_queue: int
    delivered: int
    dead: int


@dataclass(frozen=True, slots=True)
class ResourceProgress:
    """How far a resource has come, and its replays by the names of their connections."""

    state: ResourceState
    detail: str
    asked_at: datetime
    decided_at: datetime | None
    parts: tuple[Part, ...] = ()


RECORD_RESOURCE = statement(
    "record_replay_resource",
    "Record what a resource asks for, unless it is recorded. $1 uid, $2 tenant, $3 namespace, $4 name, $5 spec.",
    """
    insert into integration.replay_resource (uid, tenant_id, namespace, name, spec)
    values ($1::uuid, $2::text, $3::text, $4::text, $5::jsonb)
    on conflict (uid) do nothing
    """,
)

HOLD_RESOURCE = statement(
    "hold_replay_resource",
    "Let nobody start a resource until this transaction ends. $1 uid.",
    "select uid from integration.replay_resource where uid = $1::uuid for update",
)

CANCEL_RESOURCE = statement(
    "cancel_replay_resource",
    "Let a resource that is held make no more jobs. $1 uid, $2 who, $3 why.",
    """
    with stopped as (
        update integration.replay
        set state = 'Cancelled', cancelled_by = $2::text, detail = $3::text, ended_at = now(), revision = revision + 1
        where resource_uid = $1::uuid and state = 'Running'
    )
    update integration.replay_resource set state = 'Cancelled', detail = $3::text, decided_at = now()
    where uid = $1::uuid and state = 'Asked'
    """,
)

READ_RESOURCE = statement(
    "read_replay_resource",
    "How far a resource has come by itself. $1 uid.",
    "select state, detail, asked_at, decided_at from integration.replay_resource where uid = $1::uuid",
)

# A dead letter that was resent or discarded since did die all the same.
READ_PARTS = statement(
    "read_replay_parts",
    "The replays of a resource, in numbers. $1 uid.",
    """
    select split_part(c.name, '~', 1), p.state, p.detail, p.requested_at, p.ended_at,
           p.queued, p.superseded, p.unfinished, p.gone, p.filter_failed, p.sample,
           l.state, coalesce(l.suspended, false),
           (select count(*) from integration.job j where j.connection_id = p.connection_id and j.replay_id = p.id),
           (select count(*) from integration.attempt a where a.replay_id = p.id and a.outcome = 'Delivered'),
           (select count(*) from integration.dead_letter d where d.replay_id = p.id)
           + (select count(*) from integration.dead_letter_end e where e.replay_id = p.id)
    from integration.replay p
    join integration.connection c on c.id = p.connection_id
    left join integration.lane l on l.connection_id = p.connection_id
    where p.resource_uid = $1::uuid
    order by c.name, p.id
    """,
)

READ_UNFINISHED = statement(
    "read_unfinished_resources",
    "Resources that wait to be started, or have replays that are not ended.",
    """
    select r.uid, r.namespace, r.name from integration.replay_resource r where r.state = 'Asked'
    union
    select r.uid, r.namespace, r.name
    from integration.replay p join integration.replay_resource r on r.uid = p.resource_uid
    where p.state = 'Running'
    """,
)

READ_ASKED = statement(
    "read_asked_resources",
    "Resources to be started that are to be looked at now. $1 how many at most.",
    """
    select uid, tenant_id, namespace, name, spec from integration.replay_resource
    where state = 'Asked' and look_at <= now() order by look_at, uid limit $1::int
    """,
)

DECIDE_RESOURCE = statement(
    "decide_replay_resource",
    "Start or refuse a resource; no row if that is done, or it was cancelled. $1 uid, $2 state, $3 why.",
    """
    update integration.replay_resource set state = $2::text, detail = $3::text, decided_at = now()
    where uid = $1::uuid and state = 'Asked' returning uid
    """,
)

EXPLAIN_WAIT = statement(
    "explain_resource_wait",
    "Say what a resource waits for, and look at it again later. $1 uid, $2 what, $3 seconds.",
    """
    update integration.replay_resource set detail = $2::text, look_at = now() + make_interval(secs => $3::float8)
    where uid = $1::uuid and state = 'Asked'
    """,
)


# The operator ---------------------------------------------------------------------------------------------------------


async def hand_on(
    database: Database, resource: ReplayResource, *, cancelled: str | None = None, term: Term | None = None
) -> None:
    """Record what a resource asks for, once, and cancel it if there is a reason to; raise SupersededError."""
    async with transaction(database):
        await require_term(database, term)
        await run(database, RECORD_RESOURCE, (*resource[:4], Jsonb(resource.spec)))
        if cancelled is not None:
            await _cancel(database, resource.uid, resource.title, cancelled)


async def cancel_resource(database: Database, uid: ReplayUid, *, by: str, why: str, term: Term | None = None) -> None:
    """Cancel what is not finished of a resource; what it has queued is still delivered. Raise SupersededError."""
    async with transaction(database):
        await require_term(database, term)
        await _cancel(database, uid, by, why)


async def read_progress(database: Database, uid: ReplayUid) -> ResourceProgress | None:
    """Return how far a resource has come; None if it was never handed on, or is no longer kept."""
    found = await run(database, READ_RESOURCE, (uid,))
    if not found:
        return None
    state, detail, asked_at, decided_at = found[0]
    parts = [
        Part._make((name, ReplayState(each), *rest)) for name, each, *rest in await run(database, READ_PARTS, (uid,))
    ]
    return ResourceProgress(ResourceState(state), detail, asked_at, decided_at, tuple(parts))


async def unfinished_resources(database: Database) -> list[tuple[ReplayUid, str, str]]:
    """Return uid, namespace and name of all resources that are not finished."""
    return [(ReplayUid(uid), namespace, name) for uid, namespace, name in await run(database, READ_UNFINISHED)]


async def _cancel(database: Database, uid: ReplayUid, by: str, why: str) -> None:
    # Two statements: the second sees what a start has written that the first had to wait for.
    await run(database, HOLD_RESOURCE, (uid,))
    await run(database, CANCEL_RESOURCE, (uid, by, why))


# The dispatcher -------------------------------------------------------------------------------------------------------


async def asked_resources(database: Database) -> list[ReplayResource]:
    """Return resources to be started that are to be looked at now."""
    return list(map(ReplayResource._make, await run(database, READ_ASKED, (LOOKED_AT_ONCE,))))


async def start_resource(database: Database, uid: ReplayUid, requests: Sequence[Request]) -> bool:
    """Start a resource with a replay for each request; False if it is started already, or was cancelled."""
    async with transaction(database):
        if not await run(database, DECIDE_RESOURCE, (uid, ResourceState.STARTED, "")):
            return False
        for request in requests:
            await start_one(database, request)
    return True


async def refuse_resource(database: Database, uid: ReplayUid, why: str) -> None:
    """Refuse what cannot be started now or later."""
    await run(database, DECIDE_RESOURCE, (uid, ResourceState.REFUSED, why))


async def explain_wait(database: Database, uid: ReplayUid, what: str) -> None:
    """Say what a resource waits for; others are looked at meanwhile."""
    await run(database, EXPLAIN_WAIT, (uid, what, WAIT_SECONDS))
