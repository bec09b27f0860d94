"""The export has every attempt of its range once, and never many in memory."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from contracts.ids import EventId
from integrations import archives
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


# Files ------------------------------------------------------------------------------------------------------------

PARTICULARS = {
    "method": "POST",
    "address": "https://partner.example",
    "request_headers": {"content-type": "application/json"},
    "response_headers": {"retry-after": "5", "server": ""},
}


def record_all_kinds(layer: "Layer") -> None:
    """Record attempts in two days, among them one with all that can be known and one with nothing."""
    record(layer, "2026-11-20 10:00+00", number=MANY)
    record(layer, "2026-11-21 10:00+00", number=2, tenant="globex")
    layer.admin.execute(
        "update integration.attempt set outcome = 'TimedOut', status_code = 503, resolving_ms = 1.25, answering_ms = 7,"
        " replay_id = 9, detail = 'Zu spät', particulars = %s where tenant_id = 'globex' and job_id = 1",
        (orjson.dumps(PARTICULARS).decode(),),
    )
    layer.admin.execute("update integration.attempt set body_digest = null where tenant_id = 'globex' and job_id = 2")


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Write a row of Parquet as JSON Lines would."""
    if row["request"] is not None:
        row["request"] |= {name: dict(row["request"][name]) for name in ("request_headers", "response_headers")}
    parsed: dict[str, Any] = orjson.loads(orjson.dumps(row, option=orjson.OPT_UTC_Z))
    return parsed


def test_parquet_has_what_json_lines_have_in_typed_columns_and_several_row_groups(
    layer: "Layer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ROW_GROUP_BYTES", 1)
    record_all_kinds(layer)
    file = tmp_path / "attempts.parquet"
    written = exported(layer, "--format", "parquet", "--output", str(file))
    read = parquet.ParquetFile(file)

    assert written == []
    assert [as_json(row) for row in read.read().to_pylist()] == exported(layer)
    assert read.num_row_groups == 4
    assert str(read.schema_arrow.field("at").type) == "timestamp[us, tz=UTC]"


def test_a_file_of_json_lines_has_what_standard_output_has(layer: "Layer", tmp_path: Path) -> None:
    record(layer, "2026-11-20 10:00+00", number=3)
    exported(layer, "--output", str(tmp_path / "attempts.jsonl"))

    lines = (tmp_path / "attempts.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line) for line in lines] == exported(layer)


@pytest.mark.parametrize("written_as", ["jsonl", "parquet"])
def test_an_export_that_fails_leaves_the_former_file_and_nothing_else(
    layer: "Layer", tmp_path: Path, written_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(layer, "2026-11-20 10:00+00", number=3)
    file = tmp_path / "attempts"
    file.write_text("former")
    arguments = ("--format", written_as, "--output", str(file))
    monkeypatch.setattr("store.export.FETCHED_ROWS", -1)
    failed = export(layer, "--from", "2026-11-20", *arguments)
    kept = file.read_text()
    monkeypatch.undo()
    exported(layer, *arguments)

    assert failed.exit_code != 0
    assert kept == "former"
    assert file.read_bytes() != b"former"
    assert list(tmp_path.iterdir()) == [file]


def test_parquet_without_a_file_is_a_mistake(layer: "Layer") -> None:
    assert "--output" in str(export(layer, "--from", "2026-11-20", "--format", "parquet").exception)


def test_parquet_without_its_library_says_how_to_get_it(
    layer: "Layer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    arguments = ("--from", "2026-11-20", "--format", "parquet", "--output", str(tmp_path / "x"))

    assert "pip install" in str(export(layer, *arguments).exception)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(layer: "Layer", tmp_path: Path) -> None:
    record(layer, "2026-11-20 10:00+00", number=3)
    (tmp_path / ".attempts.partial").symlink_to("/dev/full")
    result = export(layer, "--from", "2026-11-20", "--output", str(tmp_path / "attempts"))

    assert str(result.exception) == f"cannot write {tmp_path / 'attempts'}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_named(layer: "Layer", tmp_path: Path) -> None:
    result = export(layer, "--from", "2026-11-20", "--output", str(tmp_path / "missing" / "x"))

    assert str(tmp_path / "missing") in str(result.exception)
