"""The state of the layer on this machine, read from the database for people to look at."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from contracts.ids import ConnectionUid
from integration_operator.publication import read_statuses
from local.reconciler import local_uid
from store.database import Database
from store.upkeep import read_backlog


class Condition(StrEnum):
    """How a connection is, in one word."""

    STARTING = "Starting"
    """No worker has taken it yet."""
    READY = "Ready"
    """It delivers."""
    SUSPENDED = "Suspended"
    """Its spec says so."""
    QUARANTINED = "Quarantined"
    """Its partner fails; what it has to deliver is kept."""
    RETIRED = "Retired"
    """Its manifest is gone; it delivers what it has."""


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """One connection; `waiting` counts unfinished jobs, `reason` says why it is quarantined."""

    uid: ConnectionUid
    namespace: str
    name: str
    tenant: str
    condition: Condition
    waiting: int
    reason: str


async def read_state(database: Database, present: Collection[ConnectionUid]) -> list[ConnectionState]:
    """Read all connections by name; those not `present` only as long as they have something to deliver."""
    statuses = await read_statuses(database)
    states: list[ConnectionState] = []
    for row in sorted(await read_backlog(database)):
        uid = local_uid(row.namespace, row.connection)
        status = statuses.get(uid)
        if status is None or (uid not in present and not row.jobs):
            continue
        condition = Condition.RETIRED if uid not in present else _condition(row.state, row.suspended, status.owned)
        reason = status.quarantine_reason or ""
        states.append(ConnectionState(uid, row.namespace, row.connection, row.tenant, condition, row.jobs, reason))
    return states


def _condition(state: str, suspended: bool, owned: bool) -> Condition:
    if suspended:
        return Condition.SUSPENDED
    if state == "Quarantined":
        return Condition.QUARANTINED
    return Condition.READY if owned else Condition.STARTING
