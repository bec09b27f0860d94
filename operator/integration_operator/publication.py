"""From connection resources to what is published: the one place where a connection is accepted or refused.

A resource has passed the contracts, which know its shape. What they cannot know is checked here: filters that CEL
cannot use, and providers that nothing installed serves. Each connection is judged by itself. One that is refused
stays as it was published before, and no other connection notices.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from connectors.errors import NoConnectorError
from connectors.registry import connector_factory
from contracts.connection import ConnectionSpec
from contracts.filters import InvalidFilterError, check_filter
from contracts.ids import ConnectionUid, PoolId
from contracts.manifests import IntegrationConnection
from contracts.problems import Problem
from store import publication as store
from store.database import Database, transaction


class Verdict(StrEnum):
    """What became of one connection."""

    PUBLISHED = "Published"
    """It is new, or what was published differed."""
    UNCHANGED = "Unchanged"
    """It was published already, exactly so."""
    REFUSED = "Refused"
    """It has problems; what was published of it before, if anything, is still in force."""


@dataclass(frozen=True, slots=True)
class ConnectionResource:
    """A connection that somebody applied: the object's uid, what it says, and the pool whose workers deliver for it."""

    uid: ConnectionUid
    connection: IntegrationConnection
    pool: PoolId


@dataclass(frozen=True, slots=True)
class PublicationResult:
    """What became of one resource; `problems` says why it was refused."""

    resource: ConnectionResource
    verdict: Verdict
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Publication:
    """One result for each resource, in the order given, and the connections whose intake was stopped."""

    results: tuple[PublicationResult, ...]
    retired: frozenset[ConnectionUid]


async def read_statuses(database: Database) -> dict[ConnectionUid, store.ConnectionState]:
    """Return what delivery says of every published connection, retired ones included."""
    return {state.uid: state for state in await store.connection_states(database)}


async def publish_resources(
    database: Database, resources: Sequence[ConnectionResource], *, unreadable: Collection[ConnectionUid] = ()
) -> Publication:
    """Publish every connection there is and retire those that are gone, all in one transaction.

    `resources` are all that exist and can be read. `unreadable` are those that exist and cannot: they stay as they are.
    Raises StoreError, with nothing published.
    """
    results: list[PublicationResult] = []
    async with transaction(database):
        for resource in resources:
            problems = tuple(find_problems(resource.connection.spec))
            if problems:
                results.append(PublicationResult(resource, Verdict.REFUSED, problems))
            else:
                results.append(PublicationResult(resource, await _publish(database, resource)))
        present = {resource.uid for resource in resources} | set(unreadable)
        gone = await _retire(database, present)
    return Publication(tuple(results), gone)


def find_problems(spec: ConnectionSpec) -> Iterator[Problem]:
    """Say what is wrong with a spec that the contracts accept."""
    try:
        connector_factory(spec.provider)
    except NoConnectorError as error:
        yield Problem("spec.provider", str(error))
    for index, route in enumerate(spec.routes):
        if route.filter is None:
            continue
        try:
            check_filter(route.filter)
        except InvalidFilterError as error:
            yield Problem(f"spec.routes[{index}].filter", f"{error}; CEL over `event` with a boolean answer is allowed")


async def _publish(database: Database, resource: ConnectionResource) -> Verdict:
    connection = resource.connection
    wanted = store.PublishedConnection(
        resource.uid, connection.namespace, connection.name, connection.spec, resource.pool
    )
    epoch = await store.publish(database, [wanted])
    return Verdict.UNCHANGED if epoch is None else Verdict.PUBLISHED


async def _retire(database: Database, present: Collection[ConnectionUid]) -> frozenset[ConnectionUid]:
    """Retire what is published and not present; return those that were not retired before."""
    gone = [uid for uid in await read_statuses(database) if uid not in present]
    stopped = [uid for uid in gone if await store.publish(database, [], [uid]) is not None]
    return frozenset(stopped)
