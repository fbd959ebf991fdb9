"""Wake whoever has timed work when its instant has come: one clock for all nouns of a process.

What is due stands in the database; this only knows when to look. Each noun names the earliest instant at which it has
work, APScheduler's timer strikes then, and the noun does all that is due in transactions of its own, which also decide
who of several processes does it. So nothing is lost when a timer is, and nothing is done twice when two strike.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger
from sqlalchemy import Connection, Engine

from server.core.errors import FlagstaffError
from server.store.engine import is_there, reading, watching
from server.store.schema import is_newest

LOOK_S: Final = 0.1
"""Between two looks whether others made new work, or the clock was set: 10 looks a second take 0.2 % of a core."""

SET_BACK: Final = timedelta(seconds=1)
"""A clock that shows so much less than before was set; by less it is steered all the time."""

RETRY_S: Final = 0.25
RETRY_S_MAX: Final = 1.0
"""After work that could not be done, or that another process is at."""

REOPEN_S: Final = 1.0
"""Between two attempts to reach a database that is gone."""

FAR_S: Final = 86_400.0
"""No timer is set for longer: it is set anew then, and cannot drift apart from the clock."""

log = logging.getLogger("flagstaff.clockwork")


class Timed(Protocol):
    """A noun with work at certain instants."""

    name: str
    """Of the noun, for threads and log lines."""

    def next_at(self, connection: Connection) -> datetime | None:
        """The earliest instant with work, perhaps past; None when there is none. One query, answered by an index.

        What cannot be carried on must not stay the earliest: it would be tried every second, and hold up the others.
        """

    def carry_on(self, now: datetime) -> None:
        """Do all that is due, in transactions of its own. Errors: any; it is called again for what is still due."""


@dataclass(eq=False)
class _Hand:
    """What the clockwork knows of one noun."""

    timed: Timed
    at: datetime | None = None
    """The earliest instant with work."""

    not_before: float = 0.0
    """By the monotonic clock: earlier it would find what it just could not do."""

    retry_s: float = RETRY_S
    reported: str = ""
    asking: threading.Lock = field(default_factory=threading.Lock)
    """Held from the question to the timer, so that an older answer never replaces a newer one."""

    strike: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class Clockwork:
    """A timer, a thread that looks at the database, and a thread for each noun, so that none waits for another.

    Units: clock gives aware instants of the wall, and may jump; waiting goes by the monotonic clock.
    """

    def __init__(
        self,
        engine: Engine,
        timed: Iterable[Timed],
        *,
        clock: Callable[[], datetime],
        look_s: float = LOOK_S,
    ) -> None:
        self._engine, self._clock, self._look_s = engine, clock, look_s
        self._hands: Sequence[_Hand] = [_Hand(each) for each in timed]
        self._timer = BackgroundScheduler(timezone=UTC, executors={"default": DebugExecutor()})
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._reported = ""
        self._looking = threading.Thread(target=self._look, name="flagstaff-clockwork", daemon=True)

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._timer.start()
        for hand in self._hands:
            name = f"flagstaff-{hand.timed.name}"
            hand.thread = threading.Thread(target=self._work, args=(hand,), name=name, daemon=True)
            hand.thread.start()
        self._looking.start()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop, after what is being done."""
        self._stopping.set()
        self._wake.set()
        for hand in self._hands:
            hand.strike.set()
        if self._timer.running:
            self._timer.shutdown(wait=False)
        for thread in (self._looking, *(hand.thread for hand in self._hands)):
            if thread is not None and thread.ident is not None:
                thread.join(timeout_s)

    def wake(self) -> None:
        """Look at the database now: something may have become due that no commit tells of."""
        self._wake.set()

    def _look(self) -> None:
        while not self._stopping.is_set():
            try:
                # Whoever migrates does so meanwhile.
                if is_there(self._engine) and is_newest(self._engine):
                    self._look_on()
            except FlagstaffError as error:
                if str(error) != self._reported:
                    self._reported = str(error)
                    log.warning("timed work cannot be looked at; trying again", extra={"error": str(error)})
            except Exception:
                # The thread must live on: without it nothing would be done at its time.
                log.exception("looking at timed work failed; trying again")
            self._stopping.wait(REOPEN_S)

    def _look_on(self) -> None:
        """Ask for the next instants at once, then after every commit. Returns when stopping. Errors: as the store's."""
        with watching(self._engine) as watch:
            seen: object = None
            shown = self._clock()
            while not self._stopping.is_set():
                version = watch.version()
                before, shown = shown, self._clock()
                # A noun may reckon by what the clock showed before.
                if version != seen or shown < before - SET_BACK or self._wake.is_set():
                    self._wake.clear()
                    for hand in self._hands:
                        with hand.asking:
                            self._set(hand, self._next_at(hand))
                    seen, self._reported = version, ""
                    # On a busy database each look would find another commit.
                    self._stopping.wait(self._look_s / 2)
                self._strike_overdue()
                watch.wait(self._look_s, until=self._is_awake)

    def _is_awake(self) -> bool:
        return self._stopping.is_set() or self._wake.is_set()

    def _next_at(self, hand: _Hand) -> datetime | None:
        with reading(self._engine) as connection:
            return hand.timed.next_at(connection)

    def _set(self, hand: _Hand, at: datetime | None) -> None:
        """Have the timer strike at an instant by our clock."""
        hand.at = at
        if at is None:
            # Its timer may strike all the same; then nothing is found to be due.
            return
        rest_s = max((at - self._clock()).total_seconds(), hand.not_before - time.monotonic(), 0.0)
        self._timer.add_job(
            hand.strike.set,
            # By the timer's own clock, which need not be ours.
            DateTrigger(datetime.now(UTC) + timedelta(seconds=min(rest_s, FAR_S))),
            id=hand.timed.name,
            replace_existing=True,
            misfire_grace_time=None,
        )

    def _strike_overdue(self) -> None:
        """Strike where the timer will not: the clock was set forward, or the timer's was set back."""
        now, moment = self._clock(), time.monotonic()
        for hand in self._hands:
            if hand.at is not None and hand.at <= now and moment >= hand.not_before:
                hand.strike.set()

    def _work(self, hand: _Hand) -> None:
        while True:
            hand.strike.wait()
            hand.strike.clear()
            if self._stopping.is_set():
                return
            try:
                self._carry_on(hand)
            except Exception as error:
                # The thread must live on, and so must the other nouns' work.
                hand.not_before = time.monotonic() + RETRY_S_MAX
                self._report(hand, error)

    def _carry_on(self, hand: _Hand) -> None:
        """Have a noun do what is due, and find out when it is to do more."""
        now, before = self._clock(), hand.at
        if before is not None and before <= now:
            hand.timed.carry_on(now)
            hand.reported = ""
        with hand.asking:
            at = self._next_at(hand)
            if at is not None and at <= now and at == before:
                # Another process is at it, or nobody can do it.
                hand.not_before = time.monotonic() + hand.retry_s
                hand.retry_s = min(2 * hand.retry_s, RETRY_S_MAX)
            else:
                hand.not_before, hand.retry_s = 0.0, RETRY_S
            self._set(hand, at)

    def _report(self, hand: _Hand, error: Exception) -> None:
        told = str(error) if isinstance(error, FlagstaffError) else type(error).__qualname__
        if told == hand.reported:
            return
        hand.reported = told
        if isinstance(error, FlagstaffError):
            log.warning("timed work could not be done; trying again", extra={"of": hand.timed.name, "error": told})
        else:
            log.error("timed work failed; trying again", extra={"of": hand.timed.name}, exc_info=error)
