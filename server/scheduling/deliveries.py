"""Deliver what was announced, while there is anybody to deliver to: in a thread, on a loop of its own.

What is to be delivered stands in the database; this only knows when to look. What sends is loaded, and runs, from the
first endpoint on: a server without one takes nothing for it.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine

from server.core.errors import FlagstaffError
from server.live.background import run_alone
from server.operations.deliveries.keeping import Retention, forget
from server.store.engine import is_there, reading, watching
from server.store.kinds import Watch
from server.store.schema import is_newest
from webhooks.endpoints import any_endpoint

if TYPE_CHECKING:
    from server.scheduling.delivering import Delivering

LOOK_S: Final = 0.1
"""Between two looks whether others announced something; where the database hints at it, that is sooner."""

REOPEN_S: Final = 1.0
"""Between two attempts to reach a database that is gone."""

SWEEP_S: Final = 600.0
"""Between two times that what is old is forgotten."""

LEASE: Final = "forgetting"

log = logging.getLogger("flagstaff.deliveries")


class DeliveryClock:
    """A thread that watches for events and endpoints, and has them delivered.

    Shapes: `make` makes what delivers, when there is an endpoint for the first time; it is called again when it fails.
    """

    def __init__(
        self, engine: Engine, make: "Callable[[], Delivering]", *, retention: Retention, look_s: float = LOOK_S
    ) -> None:
        self._engine, self._make, self._retention, self._look_s = engine, make, retention, look_s
        self._delivering: Delivering | None = None
        self._stopping = threading.Event()
        self._reported = ""
        self._sweep_at = time.monotonic() + look_s
        self._sweeping: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="flagstaff-deliveries", daemon=True)

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Let what is under way end, for so long; what did not is sent again by whoever comes next."""
        until = time.monotonic() + timeout_s
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._delivering is not None:
            self._delivering.stop(timeout_s=max(until - time.monotonic(), 0.0))

    @property
    def delivering(self) -> "Delivering | None":
        """What delivers; None as long as there was nobody to deliver to."""
        return self._delivering

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if is_there(self._engine):
                    with watching(self._engine) as watch:
                        self._watch(watch)
            except FlagstaffError as error:
                self._report(error)
            except Exception:
                # The thread must live on: without it nothing would be delivered.
                log.exception("looking for deliveries failed; trying again")
            self._stopping.wait(REOPEN_S)

    def _watch(self, watch: Watch) -> None:
        seen: object = None
        while not self._stopping.is_set():
            version = watch.version()
            if version != seen:
                self._look()
                seen, self._reported = version, ""
            self._sweep()
            watch.wait(self._look_s, until=self._stopping.is_set)

    def _look(self) -> None:
        # Whoever migrates does so meanwhile.
        if not is_newest(self._engine):
            return
        with reading(self._engine) as connection:
            wanted = any_endpoint(connection)
        if not wanted:
            return
        if self._delivering is None:
            self._delivering = self._make()
            self._delivering.start()
        self._delivering.look()

    def _sweep(self) -> None:
        if time.monotonic() < self._sweep_at or (self._sweeping is not None and self._sweeping.is_alive()):
            return
        self._sweep_at = time.monotonic() + SWEEP_S
        self._sweeping = threading.Thread(target=self._forget, name="flagstaff-forgetting", daemon=True)
        self._sweeping.start()

    def _forget(self) -> None:
        try:
            if is_newest(self._engine):
                run_alone(self._engine, LEASE, lambda _: self._forgotten(forget(self._engine, self._retention)))
        except FlagstaffError as error:
            log.warning("what is old could not be forgotten; trying again later", extra={"error": str(error)})

    def _forgotten(self, count: int) -> None:
        if count:
            log.info("forgot what is old", extra={"rows": count})

    def _report(self, error: FlagstaffError) -> None:
        if str(error) != self._reported:
            self._reported = str(error)
            log.warning("deliveries cannot be looked at; trying again", extra={"error": str(error)})
