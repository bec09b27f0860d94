"""A domain service: locks subjects, counts each up and emits what it counted, all in one transaction.

Every event carries its subject's counter, so the counters of committed events are 1, 2, 3, … in commit order. Ids are
written to a file only after the commit was acknowledged. Killed at any point and started again, it goes on until its
quota is committed: how much is, it reads from its own row.

    python -m chaos.producer NAME TENANT EVENTS_PER_SECOND FILE

With `hold` as a fifth argument it emits one event, says so, and keeps the transaction open.
"""

import os
import sys
import time
from itertools import count
from random import Random
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from chaos.scene import event_data
from local.parent import exit_with_parent

Connection = psycopg.Connection[tuple[Any, ...]]

DATABASE_VARIABLE = "CHAOS_PRODUCER_URL"
EMIT = "select integration.emit_event(%s, 'ext.chaos.counted', %s, %s, %s)"
BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)

ROLLED_BACK_SHARE = 0.05
LARGE_SHARE = 0.01
LARGE_BYTES = 20_000


def main(name: str, tenant: str, events_per_second: float, acknowledged: str, hold: str = "") -> None:
    """Emit the quota."""
    url = os.environ[DATABASE_VARIABLE]
    if hold:
        hold_one(url, tenant)
    file = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for life in count():
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                emit_rest(connection, Random(f"{name} {os.getpid()} {life}"), name, tenant, events_per_second, file)
                return
        except BROKEN:
            time.sleep(0.1)


def emit_rest(
    connection: Connection, random: Random, name: str, tenant: str, events_per_second: float, file: int
) -> None:
    """Emit what is left of the quota, at a pace."""
    started, emitted = time.monotonic(), 0
    while True:
        ids: list[str] = []
        with connection.transaction():
            left = value(connection, "select quota - emitted from workload.producer where name = %s for update", name)
            if left <= 0:
                return
            ids = emit_some(connection, random, tenant, left)
            connection.execute("update workload.producer set emitted = emitted + %s where name = %s", (len(ids), name))
            if random.random() < ROLLED_BACK_SHARE:
                ids = []
                raise psycopg.Rollback
        os.write(file, "".join(f"{event}\n" for event in ids).encode())
        emitted += len(ids)
        time.sleep(max(0.0, started + emitted / events_per_second - time.monotonic()))


def emit_some(connection: Connection, random: Random, tenant: str, limit: int) -> list[str]:
    """Emit up to `limit` events of a few subjects, which stay locked until the end of the transaction."""
    subjects = [row[0] for row in connection.execute("select name from workload.subject where tenant = %s", (tenant,))]
    ids: list[str] = []
    for subject in sorted(random.sample(subjects, min(4, len(subjects)))):
        counter = value(
            connection,
            "select counter from workload.subject where tenant = %s and name = %s for update",
            tenant,
            subject,
        )
        for number in range(counter + 1, counter + 1 + min(random.randint(1, 3), limit - len(ids))):
            data = event_data(number)
            if random.random() < LARGE_SHARE:
                data["text"] = random.randbytes(LARGE_BYTES // 2).hex()
            key = f"{subject}/{number}" if number % 5 == 0 else None
            ids.append(value(connection, EMIT, tenant, subject, Jsonb(data), key))
            counter = number
        update = "update workload.subject set counter = %s where tenant = %s and name = %s"
        connection.execute(update, (counter, tenant, subject))
    return ids


def hold_one(url: str, tenant: str) -> None:
    """Emit one event and never commit it."""
    with psycopg.connect(url) as connection:
        value(connection, EMIT, tenant, "held", Jsonb({"n": 1}), None)
        sys.stdout.write("emitted\n")
        sys.stdout.flush()
        sys.stdin.read()


def value(connection: Connection, query: str, *parameters: object) -> Any:
    """Return the one value that a query answers."""
    row = connection.execute(query.encode(), parameters).fetchone()
    if row is None:
        raise LookupError(f"no row: {query}")
    return row[0]


if __name__ == "__main__":
    exit_with_parent(grace_seconds=0.5)
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), *sys.argv[4:])
