"""Terms of office: what keeps a former leader of the operator from writing.

The Lease says who leads, but a leader that was stopped, or cut off, does not see it change hands. So each leader
records its term here before it writes anything, and every transaction that writes holds that record locked and finds
its own term in it. Beginning a newer term waits for such a transaction; none that comes later can commit.
"""

from dataclasses import dataclass
from datetime import datetime

from store.database import Database, run
from store.errors import SupersededError
from store.statement import statement

BEGIN_TERM = statement(
    "begin_term",
    "Record a leader's term unless a newer one is recorded. $1 creation of the Lease, $2 its transitions, $3 holder.",
    """
    insert into integration.operator_term as t (lease_created, transitions, holder)
    values ($1::timestamptz, $2::bigint, $3::text)
    on conflict (only_row) do update
    set lease_created = excluded.lease_created, transitions = excluded.transitions, holder = excluded.holder
    where (excluded.lease_created, excluded.transitions) > (t.lease_created, t.transitions)
       or (excluded.lease_created, excluded.transitions, excluded.holder) = (t.lease_created, t.transitions, t.holder)
    returning true
    """,
)

REQUIRE_TERM = statement(
    "require_term",
    "Hold the leader's term until the transaction ends; no row if it is another. "
    "$1 creation of the Lease, $2 its transitions, $3 holder.",
    """
    select true from integration.operator_term
    where lease_created = $1::timestamptz and transitions = $2::bigint and holder = $3::text
    for share
    """,
)


@dataclass(frozen=True, slots=True)
class Term:
    """One leader's time in office: terms are ordered by the Lease's creation, then by its transitions."""

    lease_created: datetime
    transitions: int
    holder: str


async def begin_term(database: Database, term: Term) -> None:
    """Record a term as the newest; raise SupersededError if a newer one is recorded."""
    if not await run(database, BEGIN_TERM, _key(term)):
        raise SupersededError(
            f"{term.holder} cannot lead: the database knows a newer leader than transition {term.transitions} of the"
            " Lease; if that one belongs to a cluster that is gone, delete the Lease, and a new one takes its place"
        )


async def require_term(database: Database, term: Term | None) -> None:
    """Hold a term for the transaction under way; raise SupersededError if it is over. None: there is but one writer."""
    if term is not None and not await run(database, REQUIRE_TERM, _key(term)):
        raise SupersededError(f"{term.holder} leads no longer, or has not begun its term; nothing was written")


def _key(term: Term) -> tuple[datetime, int, str]:
    return term.lease_created, term.transitions, term.holder
