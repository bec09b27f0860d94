"""The export has every attempt of its range once, and never many in memory."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import pytest
from typer.testing import CliRunner, Result

from contracts.ids import EventId
from integrations.__main__ import app
from store.export import FETCHED_ROWS, Selection, export_attempts
from store.history import Attempt

if TYPE_CHECKING:
    from tests.integration.conftest import Layer

DAY = datetime(2026, 11, 20, tzinfo=UTC)
MANY = 2 * FETCHED_ROWS + 1


def record(layer: "Layer", at: str, *, number: int = 1, tenant: str = "acme", connection: int = 1) -> None:
    layer.admin.execute(
        "insert into integration.attempt (at, event_id, job_id, tenant_id, connection_id, route_id, number, outcome,"
        " duration_ms, worker, body_digest)"
        " select %s::timestamptz + n * interval '1 ms', 31, n, %s, %s, 1, 1, 'Delivered', 1, 1, '\\xabcd'"
        " from generate_series(1, %s) n",
        (at, tenant, connection, number),
    )


def export(layer: "Layer", *arguments: str) -> Result:
    return CliRunner().invoke(app, ["attempts", "export", "--database", layer.dsn("reader"), *arguments])


def exported(layer: "Layer", *arguments: str) -> list[dict[str, object]]:
    result = export(layer, "--from", "2026-11-20", "--to", "2026-11-22", *arguments)
    assert result.exit_code == 0, result.output
    return [orjson.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.anyio
async def test_many_attempts_come_a_few_at_a_time_each_once(layer: "Layer") -> None:
    record(layer, "2026-11-20 10:00+00", number=MANY)
    record(layer, "2026-11-21 10:00+00")
    sizes: list[int] = []
    seen: set[tuple[datetime, int]] = set()

    async def take(attempts: list[tuple[EventId, Attempt]]) -> None:
        sizes.append(len(attempts))
        seen.update((attempt.at, attempt.job) for _, attempt in attempts)

    async with await layer.connect("reader") as reader:
        count = await export_attempts(reader, Selection(DAY, DAY.replace(day=22)), take)

    assert (count, len(seen)) == (MANY + 1, MANY + 1)
    assert sizes == [FETCHED_ROWS, FETCHED_ROWS, 1, 1]


@pytest.mark.anyio
async def test_no_snapshot_is_held_from_one_day_to_the_next(layer: "Layer") -> None:
    record(layer, "2026-11-20 10:00+00")
    record(layer, "2026-11-21 10:00+00")
    began: set[datetime] = set()

    async def take(_: list[tuple[EventId, Attempt]]) -> None:
        began.update(layer.column("select xact_start from pg_stat_activity where state = 'idle in transaction'"))

    async with await layer.connect("reader") as reader:
        await export_attempts(reader, Selection(DAY, DAY.replace(day=22)), take)

    assert len(began) == 2


def test_an_exported_attempt_says_what_is_known_of_it(layer: "Layer") -> None:
    record(layer, "2026-11-20 10:00+00")
    (line,) = exported(layer)

    assert (line["tenant"], line["job"], line["outcome"]) == ("acme", "job_1f_1", "Delivered")
    assert (line["at"], line["body_sha256"], line["answering_ms"]) == ("2026-11-20T10:00:00.001000Z", "abcd", None)


def test_the_end_of_the_range_is_not_in_it(layer: "Layer") -> None:
    for at in ("2026-11-19 23:59:59.998+00", "2026-11-19 23:59:59.999+00", "2026-11-21 23:59:59.999+00"):
        record(layer, at)

    assert [line["at"] for line in exported(layer)] == ["2026-11-20T00:00:00Z"]


@pytest.mark.anyio
async def test_tenant_and_connection_select(layer: "Layer") -> None:
    published = await layer.publish()
    record(layer, "2026-11-20 10:00+00", connection=published.id)
    record(layer, "2026-11-20 11:00+00", tenant="globex", connection=-1)
    reader = await layer.connect("reader")
    found: list[str] = []

    async def take(attempts: list[tuple[EventId, Attempt]]) -> None:
        found.extend(f"{attempt.tenant}/{attempt.connection}" for _, attempt in attempts)

    for tenant, connection in (("globex", None), (None, "hook"), ("globex", "hook"), (None, None)):
        found.append("—")
        await export_attempts(reader, Selection(DAY, DAY.replace(day=22), tenant, connection), take)

    assert found == ["—", "globex/?", "—", "acme/hook", "—", "—", "acme/hook", "globex/?"]


def test_a_range_that_ends_before_it_begins_is_a_mistake(layer: "Layer") -> None:
    result = export(layer, "--from", "2026-11-22", "--to", "2026-11-20")

    assert "is not before" in str(result.exception)
