"""Say what a kind of database has to do for the store; one file a kind does it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Protocol

from sqlalchemy import URL, Connection, Engine

from server.core.errors import FlagstaffError

BEGIN: Final = "flagstaff_begin"
"""Execution option of a connection: how its next transaction begins."""

PATIENCE_S: Final = 5.0
"""How long a writer waits for another one."""

POOL_TIMEOUT_S: Final = 5.0
"""How long for a connection when all are in use."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """How a transaction begins and ends."""

    writes: bool = False
    about: str = ""
    """Writers about the same thing come one after another; "" is about everything."""

    unhurried: bool = False
    """It may wait and work for as long as it takes, as migrations do."""

    tells: bool = True
    """Whether those who watch for commits are told of this one."""


class Watch(Protocol):
    """Looks at one database for commits of others."""

    poll_s: float
    """How long to wait between two looks."""

    def version(self) -> object:
        """A value that is another one after every commit of others; only ever compared with the last.

        Errors: the driver's; StoreUnavailable when the database is not the one that was opened.
        """

    def wait(self, timeout_s: float, *, until: Callable[[], bool]) -> None:
        """Wait for this time, or until the database hints at a commit, or until `until` says so."""


class Kind(Protocol):
    """A kind of database."""

    URL_FORM: ClassVar[str]
    """What an address of this kind looks like, for messages."""

    ERRORS: ClassVar[tuple[type[Exception], ...]]
    """What its driver raises."""

    CONNECTIONS_MAX: ClassVar[int]
    """How many a process has at most, besides one that watches."""

    def check(self, url: URL) -> str:
        """What is wrong with an address of this kind; "" for nothing."""

    def open(self, url: URL) -> Engine:
        """Make the pool of connections; connects at first use. Errors: InvalidRequest."""

    def begin(self, driver: Any, how: Transaction) -> None:
        """Open a transaction on the driver's connection. Errors: the driver's."""

    def is_lost(self, driver: Any) -> bool:
        """Whether the driver's connection is of no more use."""

    def translate(self, engine: Engine, error: Exception) -> FlagstaffError | None:
        """Our error for one of the driver's, or None when it is no error of a database."""

    def database_now(self, connection: Connection) -> datetime:
        """The time by the database's clock."""

    def is_empty(self, connection: Connection) -> bool:
        """Whether there is no table at all, ours or anybody's."""

    def make(self, engine: Engine) -> None:
        """Let there be an empty database where there is none and the kind can make one. Errors: StoreUnavailable."""

    def is_there(self, engine: Engine) -> bool:
        """Whether there is anything in the database, found out without making it. Errors: the driver's."""

    def watching(self, engine: Engine) -> AbstractContextManager[Watch]:
        """Watch for commits of others, on a connection of its own. Errors: the driver's."""
