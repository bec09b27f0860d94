"""The real worker with a window in it: `python -m chaos.worker VIEW_FILE [BREAK]`, settings from the environment.

At SIGUSR1 it writes to the file what it believes of its lanes: which jobs it has in memory, and which subjects are
deferred, held or active. BREAK names one of `chaos.breaks`, applied before the worker starts: a harness that finds
nothing wrong with a broken build is itself broken.
"""

import signal
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from chaos.breaks import BREAKS, exchange
from contracts.ids import PoolId, SessionId
from delivery.clock import DatabaseClock
from delivery.desk import Desk
from delivery.lane import Lane
from integrations.__main__ import main

_desks: "weakref.WeakValueDictionary[int, Desk]" = weakref.WeakValueDictionary()


def _in_sight(begin: Callable[..., None]) -> object:
    def begin_in_sight(desk: Desk, pool: PoolId, session: SessionId, clock: DatabaseClock) -> None:
        begin(desk, pool, session, clock)
        _desks[session] = desk

    return begin_in_sight


def _lane(lane: Lane) -> dict[str, Any]:
    jobs = lane.jobs
    return {
        "connection": lane.id,
        "jobs": sorted(jobs._entries),
        "active": sorted(jobs._behind),
        "waiting": jobs.waiting,
        "under_way": lane.under_way,
        "deferred": sorted(jobs.deferred_subjects),
        "held": sorted(jobs.held_subjects),
        "to_hold": sorted(jobs.to_hold),
    }


def _show(file: Path) -> None:
    session = max(_desks, default=None)
    desk = None if session is None else _desks[session]
    lanes = [] if desk is None else [_lane(lane) for lane in desk.lanes.values()]
    new = file.with_suffix(".new")
    new.write_bytes(orjson.dumps({"session": session, "lanes": lanes}))
    new.rename(file)


if __name__ == "__main__":
    view_file, *broken = sys.argv[1:]
    for name in broken:
        BREAKS[name]()
    exchange(Desk, "__init__", _in_sight)
    signal.signal(signal.SIGUSR1, lambda *_: _show(Path(view_file)))
    sys.argv[1:] = ["worker"]
    main()
