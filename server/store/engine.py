"""Open the database so that a commit is durable, readers never wait for writers, and its errors are ours.

SQLite is the only kind so far. What another kind needs stands behind `open_engine`, `reading`, `writing`,
`data_version` and `database_now`; nothing else in the store names SQLite.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from server.core.errors import FlagstaffError, InvalidRequest, StoreCorrupt, StoreUnavailable

BUSY_TIMEOUT_MS: Final = 5_000
"""How long a writer waits for another one."""

POOL_SIZE: Final = 5
POOL_OVERFLOW_MAX: Final = 15
POOL_TIMEOUT_S: Final = 5

_BEGIN: Final = "flagstaff_begin"
"""Execution option: the statement that opens a transaction on this connection."""


def open_engine(url: str) -> Engine:
    """Make the pool of connections to a database; connects at first use.

    Errors: InvalidRequest when the URL is not understood or names a database that is not supported.
    """
    parsed = _parse(url)
    engine = create_engine(
        parsed,
        poolclass=QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW_MAX,
        pool_timeout=POOL_TIMEOUT_S,
        # Statement values are customers' data; they stay out of messages and logs.
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent view of the database for as long as the block runs.

    Errors: StoreUnavailable, StoreCorrupt.
    """
    with translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that holds the write lock from its start; committed when the block ends, else rolled back.

    Errors: StoreUnavailable, StoreCorrupt.
    """
    with (
        translated(engine),
        engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection,
        connection.begin(),
    ):
        yield connection


def data_version(connection: Connection) -> int:
    """A number that changes when another connection commits; cheap enough to ask many times a second.

    It compares only with earlier answers of the same connection, and must be asked outside of a transaction to see
    what others did. Asked of the driver itself: SQLAlchemy would open a transaction, and take ten times as long.
    """
    driver: Any = connection.connection.driver_connection
    return int(driver.execute("PRAGMA data_version").fetchone()[0])


def database_now(connection: Connection) -> datetime:
    """The time by the database's clock, which all processes share. Units: to the millisecond."""
    told = connection.exec_driver_sql("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").scalar_one()
    return datetime.fromisoformat(told).replace(tzinfo=UTC)


@contextmanager
def strictly_decoded(connection: Connection) -> Iterator[None]:
    """Inside the block text that is not UTF-8 is an error of the driver, and reading many texts takes half the time.

    Errors: sqlalchemy's OperationalError for such a text.
    """
    if connection.dialect.name != "sqlite":
        # Others refuse such a text when it is written.
        yield
        return
    driver: Any = connection.connection.driver_connection
    usual, driver.text_factory = driver.text_factory, str
    try:
        yield
    finally:
        driver.text_factory = usual


def is_empty(connection: Connection) -> bool:
    """Whether the database has no table at all, ours or anybody's."""
    return connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first() is None


def shown(engine: Engine) -> str:
    """The database's address as messages may print it, without its password."""
    return engine.url.render_as_string(hide_password=True)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text is not printed: what cannot be parsed may hold a password anywhere.
        raise InvalidRequest("the database URL cannot be parsed; expected sqlite:///PATH/TO/FILE.db") from None
    if parsed.get_backend_name() != "sqlite" or parsed.get_driver_name() not in ("", "pysqlite"):
        raise InvalidRequest(
            f"database {parsed.render_as_string(hide_password=True)!r} is of a kind that is not supported; "
            "expected sqlite:///PATH/TO/FILE.db"
        )
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise InvalidRequest(
            "a database in memory or behind a file: address cannot keep commits safely; "
            "expected sqlite:///PATH/TO/FILE.db"
        )
    return parsed


def _prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions on its own: it would leave DDL and reads outside of them.
    dbapi_connection.isolation_level = None
    # A row damaged from outside must not make its neighbours unreadable; documents are checked where they are read.
    dbapi_connection.text_factory = _decode
    _use_wal(dbapi_connection)
    dbapi_connection.execute("PRAGMA foreign_keys = ON")
    dbapi_connection.execute("PRAGMA synchronous = FULL")
    dbapi_connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _use_wal(dbapi_connection: sqlite3.Connection) -> None:
    # Switching a new file needs it alone, and SQLite does not wait for that by itself; two starts at once meet here.
    give_up_at = time.monotonic() + BUSY_TIMEOUT_MS / 1000
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


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours: StoreUnavailable, StoreCorrupt."""
    try:
        yield
    except PoolTimeoutError as error:
        raise StoreUnavailable(
            f"all {POOL_SIZE + POOL_OVERFLOW_MAX} connections to {shown(engine)} were in use for {POOL_TIMEOUT_S} s; "
            "try again"
        ) from error
    except (DBAPIError, sqlite3.Error) as error:
        raise _translate(engine, error) from error
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "a text holds half of a surrogate pair and cannot be stored; expected valid Unicode"
        ) from error


def _translate(engine: Engine, error: DBAPIError | sqlite3.Error) -> FlagstaffError:
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    what, kind, help_text = _BY_CODE.get(code, _ELSE)
    if code == sqlite3.SQLITE_IOERR:
        # After a failed write or sync nothing that is cached for these connections can be trusted.
        engine.dispose()
    return kind(f"{what} {shown(engine)} ({original}); {help_text}")


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
