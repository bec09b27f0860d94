"""What workers believe of their lanes, held against a recount in the database.

Both move, so they are compared until they agree: a difference that lasts is a subject that nobody will wake, a job
that nobody remembers, or one that is remembered and gone.
"""

import signal
import time
from pathlib import Path
from typing import Any

import orjson

from chaos.bed import Bed

PATIENCE_SECONDS = 15.0

RECOUNT = """
select l.owner, l.connection_id, c.name,
       array(select id from integration.job where connection_id = c.id order by id),
       array(select id from integration.job where connection_id = c.id and state = 0 order by id),
       array(select distinct subject from integration.job
             where connection_id = c.id and state = 1 and subject is not null),
       array(select distinct subject from integration.job
             where connection_id = c.id and state = 2 and subject is not null)
from integration.lane l join integration.connection c on c.id = l.connection_id
"""


def view_file(bed: Bed, slot: str) -> Path:
    """Return where the worker of a slot writes what it believes."""
    return bed.directory / f"{slot}.view"


def lasting_differences(bed: Bed, slots: list[str]) -> list[str]:
    """Return in what workers and database differ after having been given time to agree."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := _differences(bed, slots)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _differences(bed: Bed, slots: list[str]) -> list[str]:
    views = {view["session"]: view for view in (_look(bed, slot) for slot in slots)}
    recount = bed.rows(RECOUNT)
    found: list[str] = []
    for owner, connection, name, *jobs in recount:
        lanes = views.get(owner, {}).get("lanes", [])
        mine = [lane for lane in lanes if lane["connection"] == connection]
        if mine:
            found += [f"{name}: {difference}" for difference in _compare(mine[0], *map(set, jobs))]
        else:
            found.append(f"{name}: its owner is session {owner}, which does not know of it")
    owned = {(owner, connection) for owner, connection, *_ in recount}
    for session, view in views.items():
        strange = [lane["connection"] for lane in view["lanes"] if (session, lane["connection"]) not in owned]
        found += [f"session {session} believes it owns lane {lane}" for lane in strange]
    return found


def _compare(lane: dict[str, Any], jobs: set[int], ready: set[int], deferred: set[int], held: set[int]) -> list[str]:
    known, active = set(lane["jobs"]), set(lane["active"])
    wrong = {
        "jobs in memory that are gone": known - jobs,
        "ready jobs that nobody remembers": ready - known,
        "deferred subjects that the worker takes for free": deferred - set(lane["deferred"]) - active,
        "subjects set aside for no job": set(lane["deferred"]) - deferred,
        "held subjects that the worker takes for free": held - set(lane["held"]) - active,
        "subjects held for no job": set(lane["held"]) - held,
    }
    return [f"{what}: {sorted(which)[:5]}" for what, which in wrong.items() if which]


def _look(bed: Bed, slot: str) -> dict[str, Any]:
    file, program = view_file(bed, slot), bed.programs[slot]
    # Before it is ready it may not have opened the window, and the signal would end it.
    bed.until(program.is_ready, f"{slot} has begun")
    file.unlink(missing_ok=True)
    program.send(signal.SIGUSR1)
    bed.until(file.exists, f"{slot} shows what it believes")
    view: dict[str, Any] = orjson.loads(file.read_bytes())
    return view
