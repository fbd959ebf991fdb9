"""Connect to PostgreSQL: give up a server that says nothing, and try again no faster than it can bear."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

from server.core.errors import StoreCorrupt
from server.store.kinds import PATIENCE_S

CONNECT_TIMEOUT_S: Final = 3
CONNECT_EVERY_S: Final = 1.0
"""A process tries to reach a server that is away no more often than this."""

STATEMENT_TIMEOUT_S: Final = 10.0
"""The server gives up a statement that takes longer."""

SILENCE_MAX_S: Final = STATEMENT_TIMEOUT_S + 2
"""A server that says nothing at all for this long is given up: it is frozen, or behind a network that swallows."""

ANSWER_MAX_S: Final = 3.0
"""The same for what waits for no disk, no lock and nobody: to begin, and to look for commits. A server that is slower
than this could not be connected to either."""

HEARD_S: Final = 1.0
"""A server that was heard so recently is not asked first whether it still answers."""

IDLE_IN_TRANSACTION_MAX_S: Final = 60.0
"""The server takes the turn from a writer that neither goes on nor ends, such as a process that was stopped."""

CHANNEL: Final = "flagstaff"
"""Where commits are hinted at."""

_SLICE_S: Final = 0.1

_T = TypeVar("_T")


class CommitInDoubt(psycopg.OperationalError):
    """The connection was lost between asking for a commit and hearing of it."""


class Driver(psycopg.Connection[TupleRow]):
    """A connection that gives up a silent server, and hints at its commits."""

    silence_max_s = SILENCE_MAX_S
    tells = False
    """Whether those who listen are told of the commit of the open transaction."""

    heard_at = 0.0
    """When the server answered last, by the monotonic clock."""

    def wait(self, gen: PQGen[_T], interval: float = _SLICE_S, timeout: float | None = None) -> _T:
        """As psycopg's, but not for ever: keep-alive tells of dead machines, and not of frozen servers."""
        found = super().wait(_audible(gen, self), interval, timeout)
        self.heard_at = time.monotonic()
        return found

    def commit(self) -> None:
        """Commit, then hint, by one message.

        The hint is a transaction of its own, which waits for no disk: inside the commit's it would hold a lock that
        all commits of a server share until the disk has answered.
        """
        if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            self.execute(f"COMMIT; NOTIFY {CHANNEL}" if self.tells else "COMMIT")
        except psycopg.OperationalError as error:
            if self.closed or self.broken:
                raise CommitInDoubt(str(error)) from error
            raise


def _audible(gen: PQGen[_T], driver: Driver) -> PQGen[_T]:
    """The same steps, ended when nothing came for too long."""
    heard_at = time.monotonic()
    try:
        step = next(gen)
        while True:
            ready = yield step
            if ready:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > driver.silence_max_s:
                gen.close()
                driver.close()
                raise psycopg.OperationalError(f"the server said nothing for {driver.silence_max_s:g} s")
            step = gen.send(ready)
    except StopIteration as end:
        return cast("_T", end.value)


class Gate:
    """Lets one attempt to connect at a time through to a server that is away, and not too often."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._why = ""
        self._next_at = 0.0
        self._under_way = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Errors: OperationalError with what was wrong the last time, when it is too early for another attempt."""
        with self._lock:
            now = time.monotonic()
            if self._why and (self._under_way or now < self._next_at):
                raise psycopg.OperationalError(self._why)
            self._under_way = True
        try:
            yield
        except psycopg.Error as error:
            with self._lock:
                self._why = " ".join(str(error).split())
                self._next_at = now + CONNECT_EVERY_S * (1 + random.random() / 4)
                self._under_way = False
            raise
        with self._lock:
            self._why, self._under_way = "", False


def connect(gate: Gate, options: dict[str, Any]) -> Driver:
    """Connect with an address's own options over our defaults. Errors: psycopg.Error, StoreCorrupt."""
    defaults = {
        "application_name": "flagstaff",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    with gate.attempt():
        driver = Driver.connect(**{**defaults, **options}, autocommit=True)
        try:
            _prepare(driver)
        except BaseException:
            driver.close()
            raise
    return driver


def _prepare(driver: Driver) -> None:
    encoding = driver.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreCorrupt(f"the database keeps texts as {encoding}, expected UTF8; make one with that encoding")
    driver.execute(
        f"SET lock_timeout = {round(PATIENCE_S * 1000)};"
        f"SET statement_timeout = {round(STATEMENT_TIMEOUT_S * 1000)};"
        f"SET idle_in_transaction_session_timeout = {round(IDLE_IN_TRANSACTION_MAX_S * 1000)};"
        "SET TimeZone = 'UTC';"
        # A commit that was acknowledged is on the disk, whatever the server's default; a stricter one is kept.
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
