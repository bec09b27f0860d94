"""From connection resources to what is published: the one place where a connection is accepted or refused.

A resource has passed the contracts, which know its shape. What they cannot know is checked here: expressions that CEL
cannot use, providers that nothing installed serves, and actions that a connector does not offer. Each connection is
judged by itself. One that is refused stays as it was published before, and no other connection notices.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from connectors.actions import action_of
from connectors.connector import Action
from connectors.errors import NoConnectorError, NoSuchActionError
from connectors.registry import connector_name, connector_type, settings_problems
from contracts.connection import ConnectionSpec, PluginConnectionSpec
from contracts.delivery_spec import RouteSpec
from contracts.fields import InvalidFieldError, check_field
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
    problems = [tuple(find_problems(resource.connection.spec)) for resource in resources]
    async with transaction(database):
        sound = [_wanted(resource) for resource, found in zip(resources, problems, strict=True) if not found]
        answers = {answer.uid: answer for answer in await store.publish(database, sound)}
        present = {resource.uid for resource in resources} | set(unreadable)
        gone = await _retire(database, present)
    results = [
        PublicationResult(resource, Verdict.REFUSED, found) if found else _result(resource, answers[resource.uid])
        for resource, found in zip(resources, problems, strict=True)
    ]
    return Publication(tuple(results), gone)


def find_problems(spec: ConnectionSpec) -> Iterator[Problem]:
    """Say what is wrong with a spec that the contracts accept."""
    for place in _places_of_nul(spec.model_dump(mode="json", by_alias=True), "spec"):
        yield Problem(place, "holds the character U+0000, which PostgreSQL cannot store; leave it out")
    actions: tuple[Action, ...] | None = None
    try:
        connector = connector_type(connector_name(spec))
        actions = connector.actions
        yield from settings_problems(spec, connector)
    except NoConnectorError as error:
        plugin = isinstance(spec, PluginConnectionSpec)
        yield Problem("spec.plugin.connector" if plugin else "spec.provider", str(error))
    for index, route in enumerate(spec.routes):
        yield from _problems_of_route(route, f"spec.routes[{index}]", actions)


def _problems_of_route(route: RouteSpec, place: str, actions: tuple[Action, ...] | None) -> Iterator[Problem]:
    if route.filter is not None:
        try:
            check_filter(route.filter)
        except InvalidFilterError as error:
            yield Problem(f"{place}.filter", f"{error}; CEL over `event` with a boolean answer is allowed")
    for field in route.fields:
        try:
            check_field(field.value)
        except InvalidFieldError as error:
            yield Problem(f"{place}.fields[{field.property}].value", f"{error}; CEL over `event` is allowed")
    if actions is not None:
        try:
            action = action_of(route, actions)
        except NoSuchActionError as error:
            yield Problem(f"{place}.action", str(error))
        else:
            if route.fields and not action.takes_fields:
                yield Problem(f"{place}.fields", f"the action {action.name} takes no fields; leave them out")


def _places_of_nul(value: Any, place: str) -> Iterator[str]:
    match value:
        case str():
            if "\0" in value:
                yield place
        case dict():
            for name, each in value.items():
                yield from _places_of_nul(name, place)
                yield from _places_of_nul(each, f"{place}.{name}")
        case list():
            for index, each in enumerate(value):
                yield from _places_of_nul(each, f"{place}[{index}]")


def _wanted(resource: ConnectionResource) -> store.PublishedConnection:
    connection = resource.connection
    return store.PublishedConnection(
        resource.uid, connection.namespace, connection.name, connection.spec, resource.pool
    )


def _result(resource: ConnectionResource, answer: store.Publication | store.Refusal) -> PublicationResult:
    match answer:
        case store.Publication(changed=changed):
            return PublicationResult(resource, Verdict.PUBLISHED if changed else Verdict.UNCHANGED)
        case store.Refusal(reason=reason):
            return PublicationResult(resource, Verdict.REFUSED, (Problem("spec", reason),))
        case _:
            assert_never(answer)


async def _retire(database: Database, present: Collection[ConnectionUid]) -> frozenset[ConnectionUid]:
    """Retire what is published and not present; return those that were not retired before."""
    gone = [uid for uid, state in (await read_statuses(database)).items() if uid not in present and state.active]
    if gone:
        await store.retire(database, gone)
    return frozenset(gone)
