"""SQLite: one file in WAL mode, one writer at a time, readers that never wait."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from server.core.errors import FlagstaffError, StoreCorrupt, StoreUnavailable
from server.store.addresses import shown
from server.store.kinds import PATIENCE_S, POOL_TIMEOUT_S, Transaction

POLL_S: Final = 0.02
"""It tells cheaply that another connection committed: some 5 us a look."""

POOL_SIZE: Final = 5
"""Connections that are kept."""


class SQLite:
    """SQLite by Python's own driver."""

    URL_FORM: ClassVar[str] = "sqlite:///PATH/TO/FILE.db"
    ERRORS: ClassVar[tuple[type[Exception], ...]] = (sqlite3.Error,)
    CONNECTIONS_MAX: ClassVar[int] = 20

    def check(self, url: URL) -> str:
        """Refuse what cannot keep commits safely."""
        if url.get_driver_name() not in ("", "pysqlite"):
            return f"database {shown(url)!r} names a driver that is not supported"
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            return "a database in memory or behind a file: address cannot keep commits safely"
        return ""

    def open(self, url: URL) -> Engine:
        """A pool of connections to one file."""
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=POOL_SIZE,
            max_overflow=self.CONNECTIONS_MAX - POOL_SIZE,
            pool_timeout=POOL_TIMEOUT_S,
            # Statement values are customers' data; they stay out of messages and logs.
            hide_parameters=True,
            creator=partial(_connect, url.database or ""),
        )
        event.listen(engine, "connect", _prepare)
        return engine

    def open_scratch(self, metadata: MetaData) -> Engine:
        """A database in memory for one connection, with tables that are laid out once."""

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(":memory:", check_same_thread=False)
            connection.deserialize(_laid_out(metadata))
            connection.isolation_level = None
            return connection

        return create_engine("sqlite://", poolclass=StaticPool, hide_parameters=True, creator=connect)

    def begin(self, driver: Any, how: Transaction) -> None:
        """Writers take the one write lock from their start: what is read then is what will be there at the end."""
        driver.execute("BEGIN IMMEDIATE" if how.writes else "BEGIN")

    def is_lost(self, _driver: Any) -> bool:
        """A file is not lost by itself."""
        return False

    def translate(self, engine: Engine, error: Exception) -> FlagstaffError | None:
        """By SQLite's result code."""
        original: Any = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(original, sqlite3.Error):
            return None
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        what, kind, help_text = _BY_CODE.get(code, _ELSE)
        if code == sqlite3.SQLITE_IOERR:
            # After a failed write or sync nothing that is cached for these connections can be trusted.
            engine.dispose()
        return kind(f"{what} {shown(engine.url)} ({original}); {help_text}")

    def database_now(self, connection: Connection) -> datetime:
        """To the millisecond."""
        told = connection.exec_driver_sql("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").scalar_one()
        return datetime.fromisoformat(told).replace(tzinfo=UTC)

    def is_empty(self, connection: Connection) -> bool:
        """By SQLite's own list of tables."""
        return connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first() is None

    def is_there(self, engine: Engine) -> bool:
        """By the file: looking by a connection would make an empty one."""
        return Path(engine.url.database or "").exists()

    def make(self, engine: Engine) -> None:
        """An empty file where there is none."""
        try:
            Path(engine.url.database or "").touch()
        except OSError as error:
            raise StoreUnavailable(
                f"cannot make {shown(engine.url)} ({error.strerror or error}); "
                "check that its directory exists and may be written"
            ) from None

    @contextmanager
    def watching(self, engine: Engine) -> Iterator["FileWatch"]:
        """Watch the file that is there now."""
        file = _file(engine)
        with engine.connect() as connection:
            yield FileWatch(engine, connection, file)


class FileWatch:
    """Compares SQLite's own counter of other connections' commits."""

    poll_s = POLL_S

    def __init__(self, engine: Engine, connection: Connection, file: tuple[int, int] | None) -> None:
        self._engine, self._file = engine, file
        # Asked of the driver itself: SQLAlchemy would open a transaction, and take ten times as long.
        self._driver: Any = connection.connection.driver_connection

    def version(self) -> object:
        """Errors: StoreUnavailable when the file is another one than at first; sqlite3.Error."""
        if _file(self._engine) != self._file:
            # An open connection would follow the old file for ever.
            self._engine.dispose()
            raise StoreUnavailable(f"the file of {shown(self._engine.url)} was taken away or replaced")
        return self._driver.execute("PRAGMA data_version").fetchone()[0]

    def wait(self, timeout_s: float, *, until: Callable[[], bool]) -> None:
        """Sleep; SQLite gives no hints."""
        if not until():
            time.sleep(timeout_s)


@cache
def _laid_out(metadata: MetaData) -> bytes:
    """An empty database with these tables; making them takes a hundred times as long as copying it."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    engine = create_engine("sqlite://", poolclass=StaticPool, creator=lambda: connection)
    metadata.create_all(engine)
    laid_out = connection.serialize()
    engine.dispose()
    return laid_out


def _file(engine: Engine) -> tuple[int, int] | None:
    """Which file the database is; None when there is none."""
    try:
        status = os.stat(engine.url.database or "")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: str) -> sqlite3.Connection:
    # A file that is gone is not made anew by whoever looks for it: an empty one would be served as if it were it.
    return sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=PATIENCE_S, check_same_thread=False)


def _prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions on its own: it would leave DDL and reads outside of them.
    dbapi_connection.isolation_level = None
    # A row damaged from outside must not make its neighbours unreadable; documents are checked where they are read.
    dbapi_connection.text_factory = _decode
    _use_wal(dbapi_connection)
    dbapi_connection.execute("PRAGMA foreign_keys = ON")
    dbapi_connection.execute("PRAGMA synchronous = FULL")
    dbapi_connection.execute(f"PRAGMA busy_timeout = {round(PATIENCE_S * 1000)}")


def _use_wal(dbapi_connection: sqlite3.Connection) -> None:
    # Switching a new file needs it alone, and SQLite does not wait for that by itself; two starts at once meet here.
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            (mode,) = dbapi_connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise StoreUnavailable(
                f"the file system keeps SQLite in journal mode {mode!r}, expected 'wal'; "
                "put the database on a local disk"
            )
        return


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


_WROTE_NOTHING: Final = "nothing was written, try again"
_BY_CODE: Final[dict[int, tuple[str, type[FlagstaffError], str]]] = {
    sqlite3.SQLITE_BUSY: ("another writer holds", StoreUnavailable, _WROTE_NOTHING),
    sqlite3.SQLITE_LOCKED: ("another writer holds", StoreUnavailable, _WROTE_NOTHING),
    sqlite3.SQLITE_FULL: ("there is no room for", StoreUnavailable, "nothing was written, free some space"),
    sqlite3.SQLITE_READONLY: (
        "no write is allowed to",
        StoreUnavailable,
        "check the permissions of file and directory",
    ),
    sqlite3.SQLITE_CANTOPEN: ("cannot open", StoreUnavailable, "check that its directory exists and may be written"),
    sqlite3.SQLITE_PERM: ("cannot open", StoreUnavailable, "check the permissions of file and directory"),
    sqlite3.SQLITE_IOERR: (
        "the disk failed under",
        StoreUnavailable,
        "a change sent now may or may not be there, read before repeating it",
    ),
    sqlite3.SQLITE_CORRUPT: ("damaged content in", StoreCorrupt, "restore it from a backup"),
    sqlite3.SQLITE_NOTADB: ("not an SQLite database:", StoreCorrupt, "check the path, or restore it from a backup"),
    sqlite3.SQLITE_ERROR: ("the schema is not the expected one in", StoreCorrupt, "run `flagstaff migrate`"),
    sqlite3.SQLITE_CONSTRAINT: ("a rule of the schema refused a write to", StoreCorrupt, "nothing was written"),
}
_ELSE: Final = ("a statement failed in", StoreUnavailable, _WROTE_NOTHING)
