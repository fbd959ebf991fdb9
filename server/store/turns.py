"""Let writers about one thing that wait at the same time share a transaction, and so one flush of the disk.

Each has a savepoint of its own in it: what is refused is taken back alone. All of them are told when the transaction is
durable, and not before; when it cannot be committed, none of them was.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from server.store.engine import driver_errors, is_lost, translated, writing

SHARED_MAX: Final = 16
"""So many writers share a transaction at most."""

T = TypeVar("T")


def take_turn(engine: Engine, about: str, work: Callable[[Connection], T]) -> T:
    """Do work in a transaction of `writing`, alone or with others who wait; gives what it gives, once that is durable.

    An error of the work takes back what it did. Errors: the work's, StoreUnavailable, StoreCorrupt.
    """
    queue = _queue(engine, about)
    mine = _Waiting(work)
    with queue.lock:
        queue.waiting.append(mine)
        mine.leads = not queue.busy
        queue.busy = True
    if not mine.leads:
        mine.called.wait()
    if mine.leads:
        _lead(engine, about, queue)
    if mine.error is not None:
        raise mine.error
    found: T = mine.value
    return found


@dataclass(slots=True, eq=False)
class _Waiting:
    work: Callable[[Connection], Any]
    called: threading.Event = field(default_factory=threading.Event)
    """Set when its work is done, or when it is to lead."""

    leads: bool = False
    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Queue:
    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: deque[_Waiting] = field(default_factory=deque)
    busy: bool = False
    """Whether somebody leads."""


_queues: Final[WeakKeyDictionary[Engine, dict[str, _Queue]]] = WeakKeyDictionary()
_queues_lock: Final = threading.Lock()


def _queue(engine: Engine, about: str) -> _Queue:
    with _queues_lock:
        return _queues.setdefault(engine, {}).setdefault(about, _Queue())


def _lead(engine: Engine, about: str, queue: _Queue) -> None:
    """Do the work of those who wait, the leader's among it; then let the next one lead."""
    with queue.lock:
        together = [queue.waiting.popleft() for _ in range(min(SHARED_MAX, len(queue.waiting)))]
    try:
        if len(together) == 1 or not _do_together(engine, about, together):
            for each in together:
                _do_alone(engine, about, each)
    finally:
        for each in together:
            each.called.set()
        with queue.lock:
            queue.busy = bool(queue.waiting)
            if queue.waiting:
                queue.waiting[0].leads = True
                queue.waiting[0].called.set()


def _do_alone(engine: Engine, about: str, one: _Waiting) -> None:
    try:
        with writing(engine, about=about) as connection:
            value = one.work(connection)
    except BaseException as error:
        one.error = error
    else:
        one.value = value


class _Broken(Exception):
    """The database failed under one of several works; carries its error."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _do_together(engine: Engine, about: str, together: Sequence[_Waiting]) -> bool:
    """Do all in one transaction; False when it failed under one of them, so that each has to be done alone."""
    outcomes: list[tuple[Any, Exception | None]] = []
    lost = True
    try:
        with writing(engine, about=about) as connection:
            for each in together:
                try:
                    outcomes.append(_do_inside(connection, each))
                except _Broken:
                    lost = is_lost(connection)
                    raise
    except _Broken as broken:
        if not lost:
            return False
        _fail(together, _translated(engine, broken.error))
    except BaseException as error:
        # There was no connection, or it could not be committed: what is true of one is true of all.
        _fail(together, error)
    else:
        for each, (value, refused) in zip(together, outcomes, strict=True):
            each.value, each.error = value, refused
    return True


def _do_inside(connection: Connection, one: _Waiting) -> tuple[Any, Exception | None]:
    """What the work gives, or why it was taken back. Errors: _Broken when the database failed under it."""
    driver: Any = connection.connection.driver_connection
    failures: tuple[type[Exception], ...] = (SQLAlchemyError, *driver_errors(connection))
    driver.execute("SAVEPOINT turn")
    try:
        value = one.work(connection)
    except failures as error:
        raise _Broken(error) from error
    except Exception as refused:
        driver.execute("ROLLBACK TO SAVEPOINT turn")
        driver.execute("RELEASE SAVEPOINT turn")
        return None, refused
    driver.execute("RELEASE SAVEPOINT turn")
    return value, None


def _fail(together: Sequence[_Waiting], error: BaseException) -> None:
    for each in together:
        each.error = error


def _translated(engine: Engine, error: Exception) -> Exception:
    try:
        with translated(engine):
            raise error
    except Exception as ours:
        return ours
