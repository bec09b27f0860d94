"""Which of a tenant's records is which at a partner, and who may make those that are missing there.

A claim is a row that is committed before a connector asks the partner to make the record. Its holder has a token and a
time; whoever takes over afterwards learns since when the record may be there, and looks for it first. Killed
at any moment, a holder leaves a claim that says just that. Only the newest token settles or releases: what a frozen
process says when it wakes up is ignored, and the link that somebody else has made stays.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from contracts.ids import TenantId
from store.database import Database, run
from store.statement import statement

FORGOTTEN_AT_ONCE = 5_000

FIND_LINKS = statement(
    "find_links",
    "Records of ours that are linked, with the partner's ids. $1 tenant, $2 account, $3 kind, $4 our ids.",
    """
    select queast_id, remote_id from integration.mapping
    where tenant_id = $1::text and account = $2::text and kind = $3::text and queast_id = any ($4::text[])
      and remote_id is not null
    """,
    hot=True,
)

# One row for one record, so that two claims at once meet on its lock. A held claim is returned as it is; a link too.
CLAIM_LINK = statement(
    "claim_link",
    "Take the right to make a record. $1 tenant, $2 account, $3 kind, $4 our id, $5 seconds. Returns the partner's id "
    "if it is linked; else whether the right was got, the token, since when it may have been tried by others, and for "
    "how many seconds it is held.",
    """
    with wanted as materialized (select nextval('integration.claim_token') as token),
    claimed as (
        insert into integration.mapping as m
            (tenant_id, account, kind, queast_id, token, held_until, tried_since)
        select $1::text, $2::text, $3::text, $4::text, w.token,
               clock_timestamp() + make_interval(secs => $5::float8), clock_timestamp()
        from wanted w
        on conflict (tenant_id, account, kind, queast_id) do update
            set token = case when m.held_until <= clock_timestamp() then excluded.token else m.token end,
                held_until =
                    case when m.held_until <= clock_timestamp() then excluded.held_until else m.held_until end
        returning m.remote_id, m.token, m.tried_since, m.held_until, (m.xmax = 0) as is_new
    )
    select c.remote_id, c.token = w.token, c.token, case when not c.is_new then c.tried_since end,
           extract(epoch from c.held_until - clock_timestamp())::float8
    from claimed c, wanted w
    """,
)

SETTLE_LINK = statement(
    "settle_link",
    "Link what a claim's holder made or found. $1 tenant, $2 account, $3 kind, $4 our id, $5 token, $6 the partner's "
    "id, $7 seconds until it is forgotten, null for never.",
    """
    update integration.mapping
    set remote_id = $6::text, linked_at = now(), token = null, held_until = null, tried_since = null,
        forget_at = now() + make_interval(secs => $7::float8)
    where tenant_id = $1::text and account = $2::text and kind = $3::text and queast_id = $4::text
      and token = $5::bigint
    """,
)

RELEASE_LINK = statement(
    "release_link",
    "Give a claim back: the record was surely not made. $1 tenant, $2 account, $3 kind, $4 our id, $5 token.",
    """
    delete from integration.mapping
    where tenant_id = $1::text and account = $2::text and kind = $3::text and queast_id = $4::text
      and token = $5::bigint
    """,
)

PUT_LINKS = statement(
    "put_links",
    "Link records that are certain. $1 tenant, $2 account, $3 kind, $4 our ids, $5 the partner's ids.",
    """
    insert into integration.mapping as m (tenant_id, account, kind, queast_id, remote_id, linked_at)
    select $1::text, $2::text, $3::text, p.ours, p.remote, now()
    from unnest($4::text[], $5::text[]) as p (ours, remote)
    order by p.ours
    on conflict (tenant_id, account, kind, queast_id) do update
        set remote_id = excluded.remote_id, linked_at = now(), token = null, held_until = null, tried_since = null,
            forget_at = null
        where m.remote_id is distinct from excluded.remote_id
    """,
    hot=True,
)

UNLINK = statement(
    "unlink",
    "Forget a link if it is to that record. $1 tenant, $2 account, $3 kind, $4 our id, $5 the partner's id.",
    """
    delete from integration.mapping
    where tenant_id = $1::text and account = $2::text and kind = $3::text and queast_id = $4::text
      and remote_id = $5::text
    """,
)

FORGET_LINKS = statement(
    "forget_links",
    "Delete links that nobody can ask for any more. $1 how many at once.",
    """
    delete from integration.mapping where ctid = any (array(
        select ctid from integration.mapping where forget_at < now() limit $1::int
    )) and forget_at < now()
    returning 1
    """,
)


class LinkKey(NamedTuple):
    """One of our records in one account of a partner."""

    tenant: TenantId
    account: str
    kind: str
    ours: str


class ClaimRow(NamedTuple):
    """What came of asking for a claim: a link, the right, or how long somebody else has it."""

    remote: str | None
    granted: bool | None
    token: int | None
    tried_since: datetime | None
    held_seconds: float | None


async def find_links(
    database: Database, tenant: TenantId, account: str, kind: str, ours: Sequence[str]
) -> dict[str, str]:
    """Return the partner's ids of those of our records that are linked."""
    return dict(await run(database, FIND_LINKS, (tenant, account, kind, list(ours))))


async def claim_link(database: Database, key: LinkKey, hold: timedelta) -> ClaimRow:
    """Take the right to make a record for so long, unless it is linked or somebody has the right."""
    rows = await run(database, CLAIM_LINK, (*key, hold.total_seconds()))
    return ClaimRow._make(rows[0])


async def settle_link(database: Database, key: LinkKey, token: int, remote: str, keep: timedelta | None) -> None:
    """Link what the claim's holder made or found; nothing happens if the claim is another's by now."""
    await run(database, SETTLE_LINK, (*key, token, remote, None if keep is None else keep.total_seconds()))


async def release_link(database: Database, key: LinkKey, token: int) -> None:
    """Give a claim back."""
    await run(database, RELEASE_LINK, (*key, token))


async def put_links(database: Database, tenant: TenantId, account: str, kind: str, pairs: Mapping[str, str]) -> None:
    """Link records of ours to partner's ids that are certain, in place of former links and claims."""
    await run(database, PUT_LINKS, (tenant, account, kind, list(pairs), list(pairs.values())))


async def unlink(database: Database, key: LinkKey, remote: str) -> None:
    """Forget a link if it is still to that record."""
    await run(database, UNLINK, (*key, remote))


async def forget_links(database: Database) -> int:
    """Delete links that nobody can ask for any more; return how many."""
    total = deleted = len(await run(database, FORGET_LINKS, (FORGOTTEN_AT_ONCE,)))
    while deleted == FORGOTTEN_AT_ONCE:
        deleted = len(await run(database, FORGET_LINKS, (FORGOTTEN_AT_ONCE,)))
        total += deleted
    return total
