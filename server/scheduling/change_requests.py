"""Apply change requests when their time has come, and let go of those that are stale or forgotten.

Those that are due are every process's work: the state of each change request, read and changed in one transaction,
keeps it from being applied twice. What is stale or forgotten is in no hurry, and one process looks after it.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.errors import FlagstaffError, StoreUnavailable
from server.core.limits import CHANGE_REQUEST_DAYS
from server.live.background import Hold, run_alone
from server.operations.change_requests.applying import Applying
from server.store.change_requests import find_due, find_idle, find_touching, first_due_at
from server.store.engine import reading
from server.store.environments import list_environments
from server.store.schema import is_newest

POLL_S: Final = 1.0
"""How late it is noticed at most that one is stale."""

LEASE: Final = "change-requests"

log = logging.getLogger("flagstaff.change_requests")


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done now, by (project, id)."""

    idle: list[tuple[str, str]]
    touched: list[tuple[str, str]]

    def __bool__(self) -> bool:
        return bool(self.idle or self.touched)


class DueChangeRequests:
    """Change requests with a time, as the clockwork asks for them."""

    name = "change-requests"

    def __init__(self, engine: Engine, applying: Applying) -> None:
        self._engine, self._applying = engine, applying

    def next_at(self, connection: Connection) -> datetime | None:
        """The earliest time that one is to be applied at."""
        return first_due_at(connection)

    def carry_on(self, now: datetime) -> None:
        """Apply all that are due, the earliest first. Errors: StoreUnavailable, StoreCorrupt."""
        with reading(self._engine) as connection:
            due = find_due(connection, now=now)
        for project, id in due:
            try:
                self._applying.apply_due(now, project=project, id=id)
            except StoreUnavailable:
                raise
            except FlagstaffError as error:
                # The others go on all the same.
                log.warning("a change request could not be applied", extra={"id": id, "error": str(error)})


class ChangeRequestClock:
    """A thread that looks what is stale or forgotten. Units: clock gives aware instants."""

    def __init__(
        self, engine: Engine, applying: Applying, *, clock: Callable[[], datetime], poll_s: float = POLL_S
    ) -> None:
        self._engine, self._applying, self._clock, self._poll_s = engine, applying, clock, poll_s
        self._seen: dict[tuple[str, str], int] = {}
        """(project, environment) -> the revision that change requests were compared with."""

        self._reported = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flagstaff-change-requests", daemon=True)

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._thread.start()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop, after what is being applied."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def look(self) -> bool:
        """Do what is to be done now; whether there was something and this process did it.

        Errors: StoreUnavailable, StoreCorrupt.
        """
        now = self._clock()
        since = now - timedelta(days=CHANGE_REQUEST_DAYS)
        with reading(self._engine) as connection:
            revisions = {
                (each.environment.project, each.environment.key): each.revision
                for each in list_environments(connection)
            }
            moved = [place for place, revision in revisions.items() if self._seen.get(place) != revision]
            touched = [
                (project, id)
                for project, environment in moved
                for id in find_touching(connection, project=project, environment=environment)
            ]
            work = _Work(find_idle(connection, since=since), touched)
        done = bool(work) and run_alone(self._engine, LEASE, lambda hold: self._do(work, hold, now, since))
        self._seen = revisions
        return done

    def _do(self, work: _Work, hold: Hold, now: datetime, since: datetime) -> None:
        applying = self._applying
        for project, id in dict.fromkeys(work.touched):
            self._one(hold, lambda place: applying.outdate(now, **place), project, id)
        for project, id in work.idle:
            self._one(hold, lambda place: applying.expire(now, **place, since=since), project, id)

    def _one(self, hold: Hold, step: Callable[[dict[str, str]], None], project: str, id: str) -> None:
        if hold.lost or self._stopping.is_set():
            return
        try:
            step({"project": project, "id": id})
        except StoreUnavailable:
            raise
        except FlagstaffError as error:
            # The others go on all the same.
            log.warning("a change request could not be carried on", extra={"id": id, "error": str(error)})

    def _run(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                # Whoever migrates does so meanwhile.
                if is_newest(self._engine):
                    self.look()
                    self._reported = ""
            except FlagstaffError as error:
                if str(error) != self._reported:
                    self._reported = str(error)
                    log.warning("change requests cannot be looked at; trying again", extra={"error": str(error)})
            except Exception:
                # The thread must live on: without it nothing would be applied at its time.
                log.exception("looking at change requests failed; trying again")
