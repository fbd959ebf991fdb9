"""Write all that a database holds as one stream of lines, and read such a stream.

The form belongs to no kind of database: what one kind wrote, another can be brought to. It is gzip over JSON lines: a
header, for each table a line with its columns and a line for each row, and at the end the count of rows and the
SHA-256 of every line before, so that a cut or altered file is known before anything is done with it.
"""

import gzip
import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final

from sqlalchemy import Connection, LargeBinary, Table, select

from server.core.errors import InvalidRequest, StoreCorrupt
from server.store.schema import schema_version
from server.store.tables import Base, Instant

FORMAT: Final = 1
LEFT_OUT: Final = frozenset({"lease"})
"""Who works at present says nothing about flags, and would be wrong elsewhere."""

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
"""No row comes near; a stream of something else must not fill the memory."""

_ROWS_AT_ONCE: Final = 1_000
_COMPRESSION: Final = 5


@dataclass(frozen=True, slots=True)
class Header:
    """What a backup says of itself."""

    schema: str
    """The migration that the database was at."""

    created_at: datetime


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a backup; kind is text, instant, bytes, or json for what JSON can say itself."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of one table, their values as Python's."""

    table: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]


def write_backup(connection: Connection, stream: IO[bytes], *, now: datetime) -> int:
    """Write what the open transaction sees; gives the number of rows.

    Errors: StoreCorrupt when a row cannot be read, StoreUnavailable.
    """
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_COMPRESSION, mtime=0) as packed:
        out = _Writer(packed)
        out.line({"flagstaff-backup": FORMAT, "schema": schema_version(connection), "createdAt": _text(now)})
        for table in Base.metadata.sorted_tables:
            if table.name not in LEFT_OUT:
                _write_table(connection, table, out)
        out.end()
    return out.row_count


class _Writer:
    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._digest = stream, hashlib.sha256()
        self.row_count = 0

    def line(self, value: Any) -> None:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        self._digest.update(text)
        self._stream.write(text)

    def end(self) -> None:
        self.line({"end": True, "rows": self.row_count, "sha256": self._digest.hexdigest()})


def _write_table(connection: Connection, table: Table, out: _Writer) -> None:
    kinds = [_kind(column.type) for column in table.columns]
    out.line(
        {
            "table": table.name,
            "columns": [[column.name, kind] for column, kind in zip(table.columns, kinds, strict=True)],
        }
    )
    encoders = [_ENCODERS[kind] for kind in kinds]
    found = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table))
    try:
        for row in found:
            out.line([None if value is None else encode(value) for encode, value in zip(encoders, row, strict=True)])
            out.row_count += 1
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreCorrupt(
            f"a row of table {table.name} cannot be read ({type(error).__name__}); "
            "mend or remove it, then back up again"
        ) from error


def _kind(type_: Any) -> str:
    return "instant" if isinstance(type_, Instant) else "bytes" if isinstance(type_, LargeBinary) else "json"


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _as_is(value: Any) -> Any:
    return value


_ENCODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "instant": _text,
    "bytes": lambda value: b64encode(value).decode(),
    "json": _as_is,
}
_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {"instant": _instant, "bytes": b64decode, "json": _as_is}


def check_backup(stream: IO[bytes]) -> Header:
    """Read a backup to its end; gives its header. Errors: InvalidRequest when it is none, or is not whole."""
    reader = _Reader(stream)
    for _ in reader.tables():
        pass
    return reader.header


def read_backup(stream: IO[bytes]) -> Iterator[Rows]:
    """The rows of a backup, in portions, parents before children. Errors: as `check_backup`."""
    return _Reader(stream).tables()


class _Reader:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = gzip.GzipFile(fileobj=stream, mode="rb")
        self._digest = hashlib.sha256()
        self._row_count = 0
        self.header = self._read_header()

    def tables(self) -> Iterator[Rows]:
        table, rows = "", list[list[Any]]()
        columns: tuple[Column, ...] = ()
        while True:
            before = self._digest.hexdigest()
            line = self._line()
            if isinstance(line, list):
                rows.append(self._row(line, columns))
                self._row_count += 1
            if rows and (isinstance(line, dict) or len(rows) >= _ROWS_AT_ONCE):
                yield Rows(table, columns, rows)
                rows = []
            if isinstance(line, dict):
                if line.get("end"):
                    self._check_end(line, before)
                    return
                table, columns = self._table(line)

    def _read_header(self) -> Header:
        line = self._line()
        if not isinstance(line, dict) or "flagstaff-backup" not in line:
            raise InvalidRequest("the file is not a backup of Flagstaff's")
        if line["flagstaff-backup"] != FORMAT:
            raise InvalidRequest(
                f"the backup has format {line['flagstaff-backup']!r}, this version reads {FORMAT}; use a later version"
            )
        try:
            return Header(str(line["schema"]), _instant(line["createdAt"]))
        except (KeyError, TypeError, ValueError):
            raise _not_whole("its header cannot be read") from None

    def _line(self) -> Any:
        try:
            text = self._stream.readline(LINE_BYTES_MAX + 1)
        except (OSError, EOFError, ValueError) as error:
            if self._stream.tell() == 0:
                raise InvalidRequest("the file is not a backup of Flagstaff's") from None
            raise _not_whole(str(error)) from None
        if not text.endswith(b"\n") or len(text) > LINE_BYTES_MAX:
            raise _not_whole("it ends too early")
        self._digest.update(text)
        try:
            return json.loads(text)
        except ValueError:
            raise _not_whole("a line is not JSON") from None

    @staticmethod
    def _row(values: list[Any], columns: tuple[Column, ...]) -> list[Any]:
        try:
            return [
                None if value is None else _DECODERS[column.kind](value)
                for value, column in zip(values, columns, strict=True)
            ]
        except (TypeError, ValueError):
            raise _not_whole("a row does not fit its table") from None

    @staticmethod
    def _table(line: dict[str, Any]) -> tuple[str, tuple[Column, ...]]:
        try:
            columns = tuple(Column(str(name), str(kind)) for name, kind in line["columns"])
            if any(column.kind not in _DECODERS for column in columns):
                raise ValueError
            return str(line["table"]), columns
        except (KeyError, TypeError, ValueError):
            raise _not_whole("the columns of a table cannot be read") from None

    def _check_end(self, line: dict[str, Any], digest: str) -> None:
        if line.get("rows") != self._row_count or line.get("sha256") != digest:
            raise _not_whole("its content is not what its end says")
        try:
            more = self._stream.read(1)
        except (OSError, EOFError) as error:
            raise _not_whole(str(error)) from None
        if more:
            raise _not_whole("something stands behind its end")


def _not_whole(why: str) -> InvalidRequest:
    return InvalidRequest(f"the backup is not whole: {why}; nothing was changed, take another one")
