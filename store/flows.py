"""Flows by which a person has a partner grant access (OAuth 2.0 authorization code): who asked, and how far it came.

    Requested ──worker──▶ Offered ──ingress──▶ Answered ──worker──▶ Connected
                             └──the partner says no──▶ Failed ◀──the code is refused

A flow ends with its time, wherever it is. State, verifier and code are nowhere in clear.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from contracts.ids import ConnectionUid
from store.database import Database, run
from store.statement import statement

REQUEST_FLOW = statement(
    "request_flow",
    "Ask for a flow of a connection. $1 namespace, $2 name, $3 digest of the state, $4 redirect address, $5 who, "
    "$6 seconds it may take.",
    """
    insert into integration.oauth_flow
        (connection_id, tenant_id, connection_name, state_digest, redirect_uri, requested_by, expires_at)
    select c.id, c.tenant_id, c.namespace || '/' || c.name, $3::bytea, $4::text, $5::text,
           now() + make_interval(secs => $6::float8)
    from integration.connection c
    where c.namespace = $1::text and c.name = $2::text and c.deleted_at is null
    returning id
    """,
)

READ_FLOW = statement(
    "read_flow",
    "How far a flow has come. $1 id.",
    "select status, expires_at <= now(), authorize_url, detail from integration.oauth_flow where id = $1::bigint",
)

OPEN_FLOWS = statement(
    "open_flows",
    "Flows that wait for their worker. $1 uids.",
    """
    select f.id, c.uid, f.status, f.redirect_uri, f.sealed, f.code
    from integration.oauth_flow f join integration.connection c on c.id = f.connection_id
    where c.uid = any ($1::uuid[]) and f.status in ('Requested', 'Answered') and f.expires_at > now()
    order by f.id
    """,
)

OFFER_FLOW = statement(
    "offer_flow",
    "Offer the partner's page. $1 id, $2 its address, $3 the key to seal the code with, $4 sealed secrets.",
    """
    update integration.oauth_flow set status = 'Offered', authorize_url = $2::text, public_key = $3::bytea,
        sealed = $4::bytea
    where id = $1::bigint and status = 'Requested'
    """,
)

END_FLOW = statement(
    "end_flow",
    "End a flow and forget its secrets. $1 id, $2 status, $3 what there is to say.",
    """
    update integration.oauth_flow set status = $2::text, detail = left($3::text, 1000), sealed = null, code = null,
        public_key = null, authorize_url = null
    where id = $1::bigint and status in ('Requested', 'Answered')
    """,
)

FIND_FLOW = statement(
    "find_flow",
    "The flow that a state belongs to. $1 digest of the state.",
    "select status, expired, public_key, connection_name from integration.oauth_flow_of($1::bytea)",
)

ANSWER_FLOW = statement(
    "answer_flow",
    "Take in a partner's answer, once. $1 digest of the state, $2 sealed code or null, $3 why there is none.",
    "select integration.answer_oauth_flow($1::bytea, $2::bytea, $3::text)",
)

FORGET_FLOWS = statement(
    "forget_flows",
    "Delete flows a day after their time.",
    "delete from integration.oauth_flow where expires_at < now() - interval '1 day' returning 1",
)

DELETE_FLOWS = statement(
    "delete_flows",
    "Forget the flows of connections, as they end. $1 connections.",
    "delete from integration.oauth_flow where connection_id = any ($1::int[])",
)


class FlowState(NamedTuple):
    """What the person who asked sees of a flow."""

    status: str
    expired: bool
    authorize_url: str | None
    detail: str


class OpenFlow(NamedTuple):
    """What a worker has to do something about."""

    id: int
    connection: ConnectionUid
    status: str
    redirect_uri: str
    sealed: bytes | None
    code: bytes | None


class FoundFlow(NamedTuple):
    """What the ingress sees of a flow."""

    status: str
    expired: bool
    public_key: bytes | None
    connection_name: str


async def request_flow(
    database: Database, connection: tuple[str, str], digest: bytes, redirect_uri: str, who: str, limit: timedelta
) -> int | None:
    """Ask for a flow; return its id, None if there is no such connection (namespace, name)."""
    parameters = (*connection, digest, redirect_uri, who, limit.total_seconds())
    rows = await run(database, REQUEST_FLOW, parameters)
    return rows[0][0] if rows else None


async def read_flow(database: Database, flow: int) -> FlowState | None:
    """Return how far a flow has come; None if it is gone."""
    rows = await run(database, READ_FLOW, (flow,))
    return FlowState._make(rows[0]) if rows else None


async def open_flows(database: Database, connections: Sequence[ConnectionUid]) -> list[OpenFlow]:
    """Return the flows of these connections that wait for their worker."""
    return [OpenFlow._make(row) for row in await run(database, OPEN_FLOWS, (list(connections),))]


async def offer_flow(database: Database, flow: int, authorize_url: str, public_key: bytes, sealed: bytes) -> None:
    """Offer the partner's page."""
    await run(database, OFFER_FLOW, (flow, authorize_url, public_key, sealed))


async def end_flow(database: Database, flow: int, status: str, detail: str) -> None:
    """End a flow as Connected or Failed."""
    await run(database, END_FLOW, (flow, status, detail))


async def find_flow(database: Database, digest: bytes) -> FoundFlow | None:
    """Return the flow that a state belongs to."""
    rows = await run(database, FIND_FLOW, (digest,))
    return FoundFlow._make(rows[0]) if rows else None


async def answer_flow(database: Database, digest: bytes, code: bytes | None, refusal: str) -> bool:
    """Take in a partner's answer: a sealed code, or why there is none; whether it is the first, and in time."""
    rows = await run(database, ANSWER_FLOW, (digest, code, refusal))
    return bool(rows[0][0])


async def forget_flows(database: Database) -> int:
    """Delete flows a day after their time; return how many."""
    return len(await run(database, FORGET_FLOWS))
