"""The clockwork wakes each noun at its instant, whatever happens to clocks, databases and other nouns."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from server.core.changes import PutFlag
from server.core.errors import StoreUnavailable
from server.scheduling.clockwork import Clockwork
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests.store.definitions import KINDS, NOW, another, database, flag, put

HOUR = timedelta(hours=1)
PATIENCE_S = 60


@pytest.fixture(params=KINDS)
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A shop in a database of each kind."""
    with database(tmp_path, request.param, shop=True) as engine:
        yield engine


@dataclass
class Noun:
    """Has work at the instants in `due`, and notes when it was told to do it."""

    name: str = "nouns"
    due: list[datetime] = field(default_factory=list)
    told: list[datetime] = field(default_factory=list)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    work: Callable[[], None] = lambda: None

    def next_at(self, _connection: Connection) -> datetime | None:
        """The earliest."""
        self.asked.release()
        return min(self.due, default=None)

    def carry_on(self, now: datetime) -> None:
        """Do all that is due, as the test wants it."""
        self.work()
        self.due = [each for each in self.due if each > now]
        self.told.append(now)
        self.done.release()


class Stuck(Noun):
    """Finds its work done by nobody."""

    def carry_on(self, now: datetime) -> None:
        """Leave it."""
        self.done.release()


class Hand:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """What it shows."""
        return self.now


def test_work_is_done_at_its_instant(shop: Engine) -> None:
    """Never before, by the clock that it was given."""
    noun = Noun(due=[datetime.now(UTC) + timedelta(milliseconds=50 * number) for number in (1, 2, 3)])
    due = sorted(noun.due)
    with _running(shop, noun, clock=lambda: datetime.now(UTC)):
        while noun.due:
            assert noun.done.acquire(timeout=PATIENCE_S)

    assert all(any(at <= told for told in noun.told) for at in due)
    assert noun.told[0] >= due[0]


def test_work_that_a_commit_made_is_found(shop: Engine) -> None:
    """Also when another process committed."""
    noun = Noun()
    with _running(shop, noun) as clockwork:
        assert noun.asked.acquire(timeout=PATIENCE_S)
        noun.due = [NOW]
        other = another(shop)
        put(other, PutFlag(flag("new")))
        other.dispose()
        assert noun.done.acquire(timeout=PATIENCE_S)
        noun.due = [NOW]
        clockwork.wake()

        assert noun.done.acquire(timeout=PATIENCE_S)


def test_a_clock_that_is_set_forward(shop: Engine) -> None:
    """What became due is done, though nobody commits."""
    clock, noun = Hand(), Noun(due=[NOW + HOUR])
    with _running(shop, noun, clock=clock):
        assert noun.asked.acquire(timeout=PATIENCE_S)
        clock.now = NOW + 2 * HOUR
        assert noun.done.acquire(timeout=PATIENCE_S)

    assert [NOW + 2 * HOUR] == noun.told


def test_a_clock_that_is_set_back(shop: Engine) -> None:
    """What was due in an hour is not done now, and what is done is not done again."""
    clock, noun = Hand(), Noun(due=[NOW, NOW + HOUR])
    other = Noun("others", due=[NOW - 2 * HOUR])
    with _running(shop, noun, other, clock=clock) as clockwork:
        assert noun.done.acquire(timeout=PATIENCE_S)
        clock.now = NOW - HOUR
        for _ in range(3):
            other.due = [NOW - 2 * HOUR]
            clockwork.wake()
            assert other.done.acquire(timeout=PATIENCE_S)

    assert [NOW] == noun.told


def test_a_clock_that_is_set_back_is_told(shop: Engine) -> None:
    """Nouns are asked again though nobody commits: some reckon by what it showed."""
    clock, noun = Hand(), Noun()
    with _running(shop, noun, clock=clock):
        assert noun.asked.acquire(timeout=PATIENCE_S)
        noun.due = [NOW - HOUR]
        clock.now = NOW - HOUR
        assert noun.done.acquire(timeout=PATIENCE_S)


def test_work_that_fails_is_tried_again(shop: Engine) -> None:
    """And holds nobody else up."""
    left = [RuntimeError("broken"), StoreUnavailable("away")]

    def fail() -> None:
        if left:
            raise left.pop()

    noun, other = Noun(due=[NOW], work=fail), Noun("others", due=[NOW])
    with _running(shop, noun, other):
        assert other.done.acquire(timeout=PATIENCE_S)
        assert noun.done.acquire(timeout=PATIENCE_S)


def test_slow_work_holds_nobody_up(shop: Engine) -> None:
    """Each noun has a thread of its own."""
    free = threading.Event()
    noun, other = Noun(due=[NOW], work=lambda: _wait(free)), Noun("others", due=[NOW])
    with _running(shop, noun, other):
        assert other.done.acquire(timeout=PATIENCE_S)
        free.set()
        assert noun.done.acquire(timeout=PATIENCE_S)


def test_work_that_stays_due_is_tried_again(shop: Engine) -> None:
    """Another process may have begun with it, and died."""
    noun = Stuck(due=[NOW])
    with _running(shop, noun):
        for _ in range(3):
            assert noun.done.acquire(timeout=PATIENCE_S)


def test_a_database_that_comes_later(tmp_path: Path) -> None:
    """The clockwork waits for whoever migrates it."""
    engine = open_engine(f"sqlite:///{tmp_path}/flagstaff.db")
    noun = Noun(due=[NOW])
    with _running(engine, noun):
        migrate(engine)
        assert noun.done.acquire(timeout=PATIENCE_S)
    engine.dispose()


def test_it_stops_whether_it_was_started_or_not(shop: Engine) -> None:
    """All its threads end."""
    clockwork = Clockwork(shop, [Noun()], clock=Hand())
    clockwork.stop()
    with _running(shop, Noun("stopped")):
        pass

    assert not [
        each.name for each in threading.enumerate() if each.name in ("flagstaff-clockwork", "flagstaff-stopped")
    ]


def _wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S)


class _running:
    def __init__(self, engine: Engine, *nouns: Noun, clock: Callable[[], datetime] | None = None) -> None:
        self._clockwork = Clockwork(engine, nouns, clock=clock or Hand(), look_s=0.01)

    def __enter__(self) -> Clockwork:
        self._clockwork.start()
        return self._clockwork

    def __exit__(self, *_error: object) -> None:
        self._clockwork.stop()
