"""Starts the replays that resources ask for: the operator, which hands them on, may read no events.

A resource may be older than its connection, so that both can be applied at once; it waits then. What it names by id and
what is not there, or not any more, is refused for good.
"""

import logging

from contracts.errors import InvalidSpecError
from contracts.ids import MalformedIdError
from contracts.replay import ReplaySpec, parse_replay_spec
from delivery.errors import NoConnectionError, ReplayError
from delivery.replay_targets import Wanted, find_selections
from store.database import Database
from store.errors import StoreError
from store.replay_resources import ReplayResource, asked_resources, explain_wait, refuse_resource, start_resource
from store.replay_selection import Moment, Source
from store.replays import Request, read_moment

log = logging.getLogger(__name__)


async def start_asked(database: Database) -> None:
    """Start every resource that can be started now, refuse those that never can, and say what the others wait for."""
    for resource in await asked_resources(database):
        try:
            await _start(database, resource)
        except StoreError:
            raise
        except NoConnectionError:
            await explain_wait(database, resource.uid, _wait(resource))
        except (ReplayError, MalformedIdError, InvalidSpecError) as error:
            await refuse_resource(database, resource.uid, str(error))
        except Exception as error:  # one resource's defect must stop neither the others nor the dispatcher
            log.exception("a replay could not be started", extra=_names(resource))
            why = f"it failed with {type(error).__name__}; see the dispatcher's log"
            await refuse_resource(database, resource.uid, why)


async def _start(database: Database, resource: ReplayResource) -> None:
    spec = parse_replay_spec(resource.spec)
    moment = await read_moment(database)
    wanted = _wanted(resource, spec, moment)
    who = spec.requested_by or resource.title
    requests = [
        Request(selection, who, spec.reason, spec.new_message_ids, dry_run=spec.dry_run, resource=resource.uid)
        for _, selection in await find_selections(database, wanted, moment)
    ]
    if await start_resource(database, resource.uid, requests):
        log.info("a replay is started", extra={**_names(resource), "connections": len(requests)})


def _wanted(resource: ReplayResource, spec: ReplaySpec, moment: Moment) -> Wanted:
    """Say what a resource means: never more than its namespace's connections of its tenant."""
    selection = spec.selection
    if selection.since is not None and selection.since >= moment.at:
        raise ReplayError("selection.since is in the future: nothing was emitted since then")
    source = Source.DEAD_LETTERS if selection.dead_letters else Source.JOBS if selection.jobs else Source.EVENTS
    return Wanted(
        source,
        resource.tenant,
        resource.namespace,
        spec.connection,
        events=selection.events or (),
        jobs=selection.jobs or (),
        types=selection.types or (),
        since=selection.since,
        until=selection.until,
        cause=selection.cause,
        include_superseded=spec.include_superseded,
    )


def _wait(resource: ReplayResource) -> str:
    connection = resource.spec.get("connection")
    which = f"connection {connection}" if connection else "connection"
    return f"tenant {resource.tenant} has no {which} in namespace {resource.namespace} that takes events"


def _names(resource: ReplayResource) -> dict[str, object]:
    return {"replay": f"{resource.namespace}/{resource.name}", "tenant": resource.tenant}
