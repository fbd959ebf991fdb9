"""Do a piece of work in one process at a time, of all that share a database."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine

from server.core.errors import FlagstaffError
from server.store.engine import writing
from server.store.leases import Lease, acquire, release, renew, require, turn

TTL_S: Final = 15.0
"""How long nobody works after a process died; it renews three times as often."""

WORK_S: Final = 0.001
REST_S: Final = 0.002
"""Of paced work, one after the other."""

Item = TypeVar("Item")

log = logging.getLogger("flagstaff.background")


class Hold:
    """The right to work, for as long as it lasts."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self._engine, self.lease = engine, lease
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        """Whether the work must end: another process may do it now."""
        return self._lost.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for this time, but not longer than the right lasts; whether it is lost."""
        return self._lost.wait(timeout_s)

    def lose(self) -> None:
        """Note that the right is gone."""
        self._lost.set()

    @contextmanager
    def fenced(self, *, alone: bool = True) -> Iterator[Connection]:
        """A transaction in which nobody else can take the work over: what is done in the block is done by one.

        When it is not `alone`, others write meanwhile: for a block that writes nothing that others write too.
        Errors: LeaseLost when it was taken over before, so that the block is not entered; as `writing`.
        """
        transaction = writing(self._engine) if alone else turn(self._engine, self.lease.name)
        with transaction as connection:
            try:
                require(connection, self.lease)
            except FlagstaffError:
                self.lose()
                raise
            yield connection


def run_alone(
    engine: Engine, name: str, work: Callable[[Hold], None], *, holder: str | None = None, ttl_s: float = TTL_S
) -> bool:
    """Do the work here, unless another process is at it; whether it was done here.

    The lease is renewed while the work runs. Work of more than a moment looks at `lost` between its steps, and has
    its effects inside `fenced`. Errors: what the work raises, StoreUnavailable, StoreCorrupt.
    """
    lease = acquire(engine, name, holder=holder or holder_name(), ttl_s=ttl_s)
    if lease is None:
        return False
    hold, done = Hold(engine, lease), threading.Event()
    renewing = threading.Thread(target=_renew, args=(engine, hold, done), name=f"flagstaff-lease-{name}", daemon=True)
    renewing.start()
    try:
        work(hold)
    finally:
        done.set()
        renewing.join()
        if not hold.lost:
            release(engine, lease)
    return True


def paced(items: Iterable[Item], *, ended: threading.Event) -> Iterator[Item]:
    """The same items, with a rest after each moment of work; without rests once `ended` is set.

    Python runs one thread at a time, and a busy one gives way only after a while (server/running.py).
    A commit's way from the database to evaluation has a dozen steps that wait for the disk, and would wait that long
    after each of them.
    """
    rest_at = time.perf_counter() + WORK_S
    for item in items:
        yield item
        if time.perf_counter() >= rest_at:
            ended.wait(REST_S)
            rest_at = time.perf_counter() + WORK_S


def holder_name() -> str:
    """A name for this process, readable for people and no other's: a process's number is used again."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def _renew(engine: Engine, hold: Hold, done: threading.Event) -> None:
    lease = hold.lease
    until = time.monotonic() + lease.ttl_s
    while not done.wait(lease.ttl_s / 3):
        asked_at = time.monotonic()
        try:
            kept = renew(engine, lease)
        except FlagstaffError as error:
            # It may still be held; by its end the database must have been reached again.
            kept = time.monotonic() < until
            log.warning("a lease could not be renewed", extra={"lease": lease.name, "error": str(error)})
        else:
            until = asked_at + lease.ttl_s
        if not kept:
            log.error("a lease was lost; its work ends here", extra={"lease": lease.name, "token": lease.token})
            hold.lose()
            return
