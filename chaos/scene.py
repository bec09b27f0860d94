"""Who takes part: two tenants, six connections of different kinds, four producers, and workers with wrong clocks."""

from collections.abc import Callable
from typing import Any, NamedTuple

from chaos.bed import Bed

PRODUCERS = {"producer-1": "acme", "producer-2": "acme", "producer-3": "globex", "producer-4": "globex"}
DISPATCHERS = {"dispatcher-1": 0.0, "dispatcher-2": 3600.0}
"""With the seconds by which their clocks are wrong."""

WORKERS = {"worker-1": 0.0, "worker-2": 150.0, "worker-3": -150.0, "worker-4": 0.0}
"""With the seconds by which their clocks are wrong; receivers accept five minutes."""

SUBJECTS = 100
"""Of each tenant."""

ENDLESS = 1_000_000_000


class Wish(NamedTuple):
    """A connection, and which of its tenant's events it wants."""

    tenant: str
    wants: Callable[[int], bool] = lambda _: True
    ordered: bool = True
    from_the_beginning: bool = True


LATE = "late"
"""A connection of globex that is published on the way."""

CONNECTIONS = {
    "everything": Wish("acme"),
    "even": Wish("acme", lambda n: n % 2 == 0),
    "touchy": Wish("acme", lambda n: n % 3 == 0),
    "whole": Wish("globex"),
    "loose": Wish("globex", ordered=False),
}


def publish_all(bed: Bed, **throttle: float) -> None:
    """Publish the connections; called again with another throttle, it is an edit of every one."""
    limits = {"requestsPerSecond": 1000.0, "burst": 100, "concurrency": 16, **throttle}
    even = {"name": "even", "events": ["ext.chaos.*"], "filter": 'event.data.parity == "even"'}
    third = {"name": "third", "events": ["*"], "filter": "event.data.third"}
    bed.publish("everything", throttle=limits)
    many = {"maxItems": 20, "maxDelay": "200ms"}
    bed.publish("even", routes=[even], form="CloudEvents", batch=many, throttle=limits)
    quarantine = {"consecutiveFailures": 5, "probeInterval": "1s"}
    bed.publish("touchy", routes=[third], throttle=limits, quarantine=quarantine)
    bed.publish("whole", tenant="globex", throttle=limits)
    unordered = {"name": "all", "events": ["*"], "ordering": "Unordered"}
    bed.publish("loose", tenant="globex", routes=[unordered], form="CloudEventsBinary", throttle=limits)


def publish_late(bed: Bed) -> None:
    """Publish the connection that was not there from the beginning."""
    bed.publish(LATE, tenant="globex")


def event_data(number: int) -> dict[str, Any]:
    """Return what an event that counts its subject up to a number says."""
    return {"n": number, "parity": "even" if number % 2 == 0 else "odd", "third": number % 3 == 0}


def prepare_workload(bed: Bed) -> None:
    """Write down the subjects, and the producers with all the quota they can want."""
    with bed.admin() as admin, admin.cursor() as cursor:
        subjects = [(tenant, f"{tenant}-{n}") for tenant in ("acme", "globex") for n in range(SUBJECTS)]
        cursor.executemany("insert into workload.subject (tenant, name) values (%s, %s)", subjects)
        insert = "insert into workload.producer (name, quota) values (%s, %s)"
        cursor.executemany(insert, [(name, ENDLESS) for name in PRODUCERS])


def start_producer(bed: Bed, name: str, events_per_second: float) -> None:
    """Start a producer at its share of the rate."""
    bed.start_producer(name, PRODUCERS[name], events_per_second / len(PRODUCERS))


def end_producers(bed: Bed) -> None:
    """Let producers commit what they have begun and nothing more; return when they have ended."""
    bed.rows("update workload.producer set quota = emitted")
    bed.until(lambda: all(bed.programs[name].ended() for name in PRODUCERS), "all producers are done")
