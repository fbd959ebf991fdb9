"""Open the database so that a commit is durable, readers never wait for writers, and its errors are ours.

What the kinds of databases do differently stands behind the functions here, one file a kind
([sqlite](sqlite.py), [postgresql](postgresql.py)); nothing else in the store names one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, MetaData, event, make_url
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from server.core.errors import FlagstaffError, InvalidRequest, StoreUnavailable
from server.store import addresses
from server.store.kinds import BEGIN, POOL_TIMEOUT_S, Kind, Transaction, Watch
from server.store.sqlite import SQLite

_SQLITE: Final = SQLite()
_READS: Final = Transaction()
_EXPECTED: Final = "expected sqlite:///PATH/TO/FILE.db or postgresql+psycopg://USER@HOST/DATABASE"


def open_engine(url: str) -> Engine:
    """Make the pool of connections to a database; connects at first use.

    Errors: InvalidRequest when the URL is not understood or names a database that is not supported.
    """
    parsed = _parse(url)
    kind = _kind(parsed)
    problem = kind.check(parsed)
    if problem:
        raise InvalidRequest(f"{problem}; expected {kind.URL_FORM}")
    engine = kind.open(parsed)
    event.listen(engine, "begin", _begin)
    return engine


def open_scratch(metadata: MetaData) -> Engine:
    """A database of its own in memory, with these tables; it is gone when the engine is disposed of."""
    engine = _SQLITE.open_scratch(metadata)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent view of the database for as long as the block runs.

    Errors: StoreUnavailable, StoreCorrupt.
    """
    with translated(engine), _begun(engine, _READS) as connection:
        yield connection


@contextmanager
def writing(engine: Engine, *, about: str = "", unhurried: bool = False, tells: bool = True) -> Iterator[Connection]:
    """One transaction that has its turn from its start; committed when the block ends, else rolled back.

    Writers about the same thing (such as "project/shop") come one after another, and see all that those before them
    did; one about "" comes alone. SQLite lets only one write at a time, whatever it is about.
    Errors: StoreUnavailable, StoreCorrupt.
    """
    how = Transaction(writes=True, about=about, unhurried=unhurried, tells=tells)
    with translated(engine), _begun(engine, how) as connection:
        yield connection


@contextmanager
def watching(engine: Engine) -> Iterator[Watch]:
    """Watch for commits of others. Errors: StoreUnavailable, StoreCorrupt, also of what is asked in the block."""
    with translated(engine), _kind(engine.url).watching(engine) as watch:
        yield watch


def database_now(connection: Connection) -> datetime:
    """The time by the database's clock, which all processes share. Units: to the millisecond at least."""
    return _kind(connection.engine.url).database_now(connection)


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
    return _kind(connection.engine.url).is_empty(connection)


def is_there(engine: Engine) -> bool:
    """Whether there is a database with anything in it; it is not made. Errors: StoreUnavailable, StoreCorrupt."""
    with translated(engine):
        return _kind(engine.url).is_there(engine)


def make(engine: Engine) -> None:
    """Let there be a database, perhaps an empty one, where its kind can make one. Errors: StoreUnavailable."""
    _kind(engine.url).make(engine)


def is_lost(connection: Connection) -> bool:
    """Whether the connection is of no more use."""
    if connection.invalidated:
        return True
    return _kind(connection.engine.url).is_lost(connection.connection.driver_connection)


def driver_errors(connection: Connection) -> tuple[type[Exception], ...]:
    """What the driver raises when the database refuses or fails, and for a text that cannot be sent to it."""
    return (*_kind(connection.engine.url).ERRORS, UnicodeEncodeError)


def shown(engine: Engine) -> str:
    """The database's address as messages may print it, without its password."""
    return addresses.shown(engine.url)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The text is not printed: what cannot be parsed may hold a password anywhere.
        raise InvalidRequest(f"the database URL cannot be parsed; {_EXPECTED}") from None


def _kind(url: URL) -> Kind:
    match url.get_backend_name():
        case "sqlite":
            return _SQLITE
        case "postgresql":
            return _postgresql()
    raise InvalidRequest(f"database {addresses.shown(url)!r} is of a kind that is not supported; {_EXPECTED}")


@cache
def _postgresql() -> Kind:
    # Its driver is installed and loaded only where it is used.
    try:
        from server.store.postgresql import PostgreSQL  # noqa: PLC0415
    except ImportError as error:
        raise InvalidRequest(f"PostgreSQL needs its driver ({error}); pip install 'flagstaff[postgresql]'") from None
    return PostgreSQL()


@contextmanager
def _begun(engine: Engine, how: Transaction) -> Iterator[Connection]:
    with engine.connect().execution_options(**{BEGIN: how}) as connection, _transaction(connection):
        try:
            yield connection
        except Exception:
            # What was asked of the driver itself may have lost it without SQLAlchemy's knowledge.
            if not connection.invalidated and is_lost(connection):
                connection.invalidate()
            raise


def _transaction(connection: Connection) -> RootTransaction:
    try:
        return connection.begin()
    except Exception:
        if not _kind(connection.engine.url).is_lost(connection.connection.driver_connection):
            raise
    # It was lost while it waited in the pool, and so were the others there; nothing was asked yet, so ask anew.
    connection.engine.dispose()
    connection.invalidate()
    return connection.begin()


def _begin(connection: Connection) -> None:
    how = connection.get_execution_options().get(BEGIN, _READS)
    driver: Any = connection.connection.driver_connection
    _kind(connection.engine.url).begin(driver, how)


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours: StoreUnavailable, StoreCorrupt."""
    try:
        yield
    except FlagstaffError:
        raise
    except PoolTimeoutError as error:
        raise StoreUnavailable(
            f"all {_kind(engine.url).CONNECTIONS_MAX} connections to {shown(engine)} were in use for "
            f"{POOL_TIMEOUT_S:g} s; try again"
        ) from error
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "a text holds half of a surrogate pair and cannot be stored; expected valid Unicode"
        ) from error
    except Exception as error:
        ours = _kind(engine.url).translate(engine, error)
        if ours is None:
            raise
        raise ours from error
