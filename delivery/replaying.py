"""Starts replays and carries them on beside the dispatcher: a few jobs at a time, where live traffic leaves room.

Every dispatcher has a runner and one of them is elected, by a lock that lasts as long as its database connection.
Should two believe that they are, the replay's row lets one of them write (see `store.replaying`).

A replay never has more than `UNFINISHED_AT_MOST` jobs unfinished, those that wait for a retry included, so a live event
finds few of them before it, however large the replay. It waits while its connection is quarantined, suspended or has a
backlog, and goes on by itself. It fails when its connection is retired or has ended, or by a defect, which costs that
replay alone.
"""

import asyncio
import logging
import time

from delivery.replay_counting import count_step
from delivery.replay_starting import start_asked
from delivery.replay_steps import next_step
from programs.reconnect import Reconnecting
from store.database import Database
from store.errors import StoreError
from store.replay_selection import read_connection_routes
from store.replaying import complete, elect, fail, forget, queue
from store.replays import Replay, running_replays
from store.retention import Retention

log = logging.getLogger(__name__)

PACE_SECONDS = 0.1
"""Between two looks while replays are under way."""

IDLE_SECONDS = 1.0
"""Between two looks while there is none, two looks for resources to start, and two tries to be elected."""

FORGET_SECONDS = 600.0

RETIRED = "the connection takes no events any more"


class Replaying:
    """The runner of one dispatcher."""

    def __init__(self, database: Reconnecting, kept: Retention) -> None:
        self._database = database
        self._kept = kept
        self._forget_at = 0.0
        self._start_at = 0.0

    async def run(self) -> None:
        """Carry replays on until cancelled; a cancellation between two statements rolls the transaction back."""
        while True:
            await self._database.keep_trying(self._lead)

    async def _lead(self, database: Database) -> None:
        if not await elect(database):
            await asyncio.sleep(IDLE_SECONDS)
            return
        while True:
            if time.monotonic() >= self._forget_at:
                await forget(database, self._kept)
                self._forget_at = time.monotonic() + FORGET_SECONDS
            began = time.monotonic()
            if began >= self._start_at:
                await start_asked(database)
                self._start_at = began + IDLE_SECONDS
            under_way = await pass_once(database)
            # Never more than half of the time, however many replays there are.
            await asyncio.sleep(max(PACE_SECONDS if under_way else IDLE_SECONDS, time.monotonic() - began))


async def pass_once(database: Database) -> bool:
    """Carry each connection's longest-waiting replay and all dry runs on by one step; say whether any is under way."""
    replays = await running_replays(database)
    moved = set()
    for replay in replays:
        connection = replay.request.selection.connection
        if replay.progress.read_to_end:
            if replay.in_queue == 0 and await complete(database, replay):
                log.info("a replay is completed", extra=_names(replay))
        elif replay.request.dry_run:
            await _carry_on_or_fail(database, replay)
        elif connection not in moved and await _carry_on_or_fail(database, replay):
            moved.add(connection)
    return bool(replays)


async def _carry_on_or_fail(database: Database, replay: Replay) -> bool:
    try:
        return await _carry_on(database, replay)
    except StoreError:
        raise
    except Exception as error:  # one replay's defect must stop neither the others nor the dispatcher
        log.exception("a replay failed", extra=_names(replay))
        await fail(database, replay, f"it failed with {type(error).__name__}; see the dispatcher's log")
        return False


async def _carry_on(database: Database, replay: Replay) -> bool:
    """Take a replay's next step; False if it may not now or cannot any more."""
    selection = replay.request.selection
    routes = await read_connection_routes(database, selection.connection)
    if not routes:
        await fail(database, replay, RETIRED)
        log.warning("a replay failed", extra={**_names(replay), "reason": RETIRED})
        return False
    if replay.request.dry_run:
        return await count_step(database, replay, routes)
    if not replay.room:
        return False
    step = await next_step(database, selection, routes, replay.progress.cursor, limit=replay.room)
    return await queue(database, replay, step) is not None


def _names(replay: Replay) -> dict[str, object]:
    return {
        "replay": replay.id,
        "connection": f"{replay.namespace}/{replay.name}",
        "tenant": replay.request.selection.tenant,
    }
