"""PostgreSQL: many processes on many machines, one order of commits a project, and never an endless wait."""

import binascii
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, cast

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from server.core.errors import FlagstaffError, InvalidRequest, StoreCorrupt, StoreUnavailable
from server.store.addresses import shown
from server.store.kinds import POOL_TIMEOUT_S, Transaction
from server.store.postgresql_driver import (
    ANSWER_MAX_S,
    CHANNEL,
    HEARD_S,
    SILENCE_MAX_S,
    CommitInDoubt,
    Driver,
    Gate,
    connect,
)

POLL_S: Final = 1.0
"""Between two looks when nobody hints at a commit."""

POOL_SIZE: Final = 5
"""Connections that are kept."""

LOCKS: Final = 0x464C4147
"""The first key of our advisory locks, by which they meet nobody else's."""

_SLICE_S: Final = 0.1


class PostgreSQL:
    """PostgreSQL by psycopg."""

    URL_FORM: ClassVar[str] = "postgresql+psycopg://USER@HOST/DATABASE"
    ERRORS: ClassVar[tuple[type[Exception], ...]] = (psycopg.Error,)
    CONNECTIONS_MAX: ClassVar[int] = 10

    def check(self, url: URL) -> str:
        """Refuse other drivers: another one waits, fails and tells in other ways."""
        if url.drivername not in ("postgresql", "postgresql+psycopg"):
            return f"database {shown(url)!r} names a driver that is not supported"
        if not url.database:
            return f"the address {shown(url)!r} names no database"
        return ""

    def open(self, url: URL) -> Engine:
        """A pool of connections to one database, which tries no faster than it may."""
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=QueuePool,
            pool_size=POOL_SIZE,
            max_overflow=self.CONNECTIONS_MAX - POOL_SIZE,
            pool_timeout=POOL_TIMEOUT_S,
            # Statement values are customers' data; they stay out of messages and logs.
            hide_parameters=True,
            use_native_hstore=False,
        )
        gate = Gate()

        def through_the_gate(_dialect: object, _record: object, _args: object, options: dict[str, Any]) -> Driver:
            return connect(gate, options)

        event.listen(engine, "do_connect", through_the_gate)
        return engine

    def begin(self, driver: Any, how: Transaction) -> None:
        """Readers see one moment. Writers see, from statement to statement, all that was committed before their turn.

        A snapshot that is taken with the turn's own statement would be older than the turn, so writers have none.
        """
        if how.writes:
            _begin_writing(driver, how)
        else:
            driver.tells = False
            _begin(driver, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def is_lost(self, driver: Any) -> bool:
        """Closed by us or broken by others."""
        return driver is None or driver.closed or driver.broken

    def translate(self, engine: Engine, error: Exception) -> FlagstaffError | None:
        """By SQLSTATE. Values, which a message's details may have, are left out."""
        original: Any = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(original, psycopg.Error):
            return None
        if isinstance(original, psycopg.DataError) and "NUL" in str(original):
            return InvalidRequest("a text holds the character NUL and cannot be stored; take it out")
        where = shown(engine.url)
        told = " ".join((original.diag.message_primary or str(original)).split())
        if isinstance(original, CommitInDoubt):
            help_text = (
                "the change may or may not be there: read before repeating it, or repeat it under its request id"
            )
            return StoreUnavailable(
                f"the connection to {where} was lost while a commit was under way ({told}); {help_text}"
            )
        what, kind, help_text = _meaning(original)
        return kind(f"{what} {where} ({told}); {help_text}")

    def database_now(self, connection: Connection) -> datetime:
        """The moment of asking, not of the transaction's start."""
        told: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return told.astimezone(UTC)

    def is_empty(self, connection: Connection) -> bool:
        """By the tables of the schema that ours would be made in."""
        query = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() LIMIT 1"
        return connection.exec_driver_sql(query).first() is None

    def make(self, engine: Engine) -> None:
        """Nothing: a database is made by its administrator, with the rights that go with it."""

    def is_there(self, engine: Engine) -> bool:
        """Whether it has any table."""
        with engine.connect() as connection:
            return not self.is_empty(connection)

    @contextmanager
    def watching(self, engine: Engine) -> Iterator["ServerWatch"]:
        """Listen on a connection outside of the pool: one that hears hints must not be handed to others."""
        pooled = engine.raw_connection()
        driver = cast("Driver", pooled.driver_connection)
        pooled.detach()
        driver.silence_max_s = ANSWER_MAX_S
        try:
            driver.execute(f"LISTEN {CHANNEL}")
            yield ServerWatch(driver)
        finally:
            driver.close()


class ServerWatch:
    """Compares which transactions are over; told by NOTIFY when it is worth looking.

    A commit of anybody in the whole server makes it look once more. Not the revisions themselves are compared: that
    would cost more the more environments there are.
    """

    poll_s = POLL_S

    def __init__(self, driver: "Driver") -> None:
        self._driver = driver

    def version(self) -> object:
        """The moment's snapshot: it is another one as soon as any writer has ended. Errors: psycopg.Error."""
        row = self._driver.execute("SELECT pg_catalog.pg_current_snapshot()::text").fetchone()
        assert row is not None
        return row[0]

    def wait(self, timeout_s: float, *, until: Callable[[], bool]) -> None:
        """Sleep until a hint comes; several hints at once are one. Errors: psycopg.Error when the server went away."""
        poll = select.poll()
        poll.register(self._driver.fileno(), select.POLLIN)
        end_at = time.monotonic() + timeout_s
        while not until():
            left_s = end_at - time.monotonic()
            if left_s <= 0:
                return
            if poll.poll(min(left_s, _SLICE_S) * 1000):
                list(self._driver.notifies(timeout=0))
                return


def _begin(driver: Driver, begin: str) -> None:
    # A server that is frozen is noticed here, and not by whatever may take its time.
    driver.silence_max_s = ANSWER_MAX_S
    driver.execute(begin)
    driver.silence_max_s = SILENCE_MAX_S


def _begin_writing(driver: Driver, how: Transaction) -> None:
    driver.tells = how.tells
    begin = "BEGIN;"
    if time.monotonic() - driver.heard_at > HEARD_S:
        # Who waits for a turn is silent for long. The question costs a way there and back.
        _begin(driver, begin)
        begin = ""
    if how.unhurried:
        begin += (
            "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;"
            "SET LOCAL idle_in_transaction_session_timeout = 0;"
        )
    if how.about:
        # Who writes about everything waits for all of these, and they for it.
        turn = f"pg_advisory_xact_lock_shared({LOCKS}, 0), pg_advisory_xact_lock({LOCKS}, {_lock_of(how.about)})"
    else:
        turn = f"pg_advisory_xact_lock({LOCKS}, 0)"
    driver.silence_max_s = float("inf") if how.unhurried else SILENCE_MAX_S
    driver.execute(f"{begin} SELECT {turn}")


def _lock_of(about: str) -> int:
    # Two things with the same number wait for each other without need, and that is all.
    return binascii.crc32(about.encode()) % 0x7FFFFFFF + 1


_WROTE_NOTHING: Final = "nothing was written, try again"
_NOT_REACHED: Final = ("cannot reach", StoreUnavailable, "check that it runs and that its address is right")
_CORRUPT: Final = ("damaged content in", StoreCorrupt, "restore it from a backup")
_SCHEMA: Final = ("the schema is not the expected one in", StoreCorrupt, "run `flagstaff migrate`")
_RULE: Final = ("a rule of the schema refused a write to", StoreCorrupt, "nothing was written")
_ELSE: Final = ("a statement failed in", StoreUnavailable, _WROTE_NOTHING)
_BY_STATE: Final[dict[str, tuple[str, type[FlagstaffError], str]]] = {
    "08": _NOT_REACHED,
    "23": _RULE,
    "P0001": _RULE,
    "28": ("no entry to", StoreUnavailable, "check user and password"),
    "3D000": ("there is no such database:", StoreUnavailable, "create it first, with encoding UTF8"),
    "25006": ("no write is allowed to", StoreUnavailable, "it may be a standby; name the primary"),
    "25P03": ("the writer was too slow for", StoreUnavailable, _WROTE_NOTHING),
    "40": ("another writer was in the way in", StoreUnavailable, _WROTE_NOTHING),
    "42": _SCHEMA,
    "42501": ("no permission in", StoreUnavailable, "grant this user the rights to its schema"),
    "53100": ("there is no room for", StoreUnavailable, "nothing was written, free some space"),
    "53300": ("there are too many connections to", StoreUnavailable, "raise max_connections, or run fewer processes"),
    "55P03": ("another writer holds", StoreUnavailable, _WROTE_NOTHING),
    "57014": ("a statement took too long in", StoreUnavailable, _WROTE_NOTHING),
    "57P": ("the server is stopping or starting:", StoreUnavailable, _WROTE_NOTHING),
    "58": (
        "the disk failed under",
        StoreUnavailable,
        "a change sent now may or may not be there, read before repeating it",
    ),
    "XX001": _CORRUPT,
    "XX002": _CORRUPT,
}


def _meaning(error: psycopg.Error) -> tuple[str, type[FlagstaffError], str]:
    """By SQLSTATE, of which the longest beginning that is known counts; what has none did not come from a server."""
    state = error.sqlstate or ""
    if not state:
        return _NOT_REACHED if isinstance(error, psycopg.OperationalError) else _ELSE
    for length in (5, 3, 2):
        if state[:length] in _BY_STATE:
            return _BY_STATE[state[:length]]
    return _ELSE
