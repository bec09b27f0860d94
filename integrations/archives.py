"""Files that attempts are exported to: JSON Lines, or Parquet with the same columns and their types.

A file appears under its name when it is whole. It is written beside, as `.NAME.partial`, which a kill leaves behind and
the next export to the same name overwrites. Memory stays the same however many attempts there are: lines go out as they
come, and Parquet in row groups of some megabytes.

Parquet needs pyarrow, which is larger than everything else together: an extra, imported when it is asked for.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import orjson

from integrations.errors import CommandError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_BYTES = 16 * 1024 * 1024

Document = Mapping[str, object]


class Format(StrEnum):
    """How an archive is written."""

    JSON_LINES = "jsonl"
    PARQUET = "parquet"


class Archive(Protocol):
    """Something that attempts are written to."""

    def write(self, documents: Sequence[Document]) -> None:
        """Write the next attempts."""

    def close(self) -> None:
        """Write what is left; nothing follows."""


class JsonLines:
    """One object a line; each call is flushed, for whoever reads a pipe."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, documents: Sequence[Document]) -> None:
        """Write the next attempts."""
        lines = [orjson.dumps(document, option=orjson.OPT_UTC_Z) for document in documents]
        self._stream.write(b"\n".join(lines) + b"\n")
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: every line is whole."""


class Parquet:
    """Columns with types; times are UTC, to the microsecond."""

    def __init__(self, stream: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._arrow: Any = pa
        self._schema = _schema(pa)
        self._writer = parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0

    def write(self, documents: Sequence[Document]) -> None:
        """Take the next attempts; write a row group when there are enough."""
        batch = self._arrow.RecordBatch.from_pylist(list(documents), schema=self._schema)
        self._batches.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= ROW_GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._batches:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(self._arrow.Table.from_batches(self._batches, schema=self._schema))
        self._batches.clear()
        self._bytes = 0


def _schema(pa: Any) -> "pa.Schema":
    """Give each column of an attempt its type."""
    text, milliseconds = pa.string(), pa.float64()
    headers = pa.map_(text, text)
    request = pa.struct(
        {"method": text, "address": text, "request_headers": headers, "response_headers": headers}.items()
    )
    return pa.schema(
        {
            "tenant": text,
            "at": pa.timestamp("us", tz="UTC"),
            "job": text,
            "connection": text,
            "route": text,
            "number": pa.int16(),
            "outcome": text,
            "status_code": pa.int16(),
            "duration_ms": milliseconds,
            "resolving_ms": milliseconds,
            "answering_ms": milliseconds,
            "worker": text,
            "worker_session": pa.int64(),
            "body_sha256": text,
            "request": request,
            "detail": text,
            "replay": pa.int64(),
        }
    )


@contextmanager
def open_archive(written_as: Format, stream: IO[bytes]) -> Iterator[Archive]:
    """Write an archive to a stream; raise UsageError where pyarrow is missing."""
    try:
        archive = Parquet(stream) if written_as is Format.PARQUET else JsonLines(stream)
    except ModuleNotFoundError as error:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed: pip install 'queast-integration-layer[parquet]'"
        ) from error
    with closing(archive):
        yield archive


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes its name, and the place of a former one, when all is written; raise CommandError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
