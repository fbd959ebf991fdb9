"""Background work is done by one process at a time, also when that one sleeps."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from server.core.errors import LeaseLost
from server.live.background import REST_S, WORK_S, Hold, paced, run_alone
from server.store.engine import open_engine, reading
from server.store.leases import acquire, held
from server.store.migrations import migrate

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
TTL_S = 1.5


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database of this test's own."""
    engine = open_engine(f"sqlite:///{tmp_path / 'flags.db'}")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def workers(engine: Engine, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that want the same work; the first has it."""
    command = [sys.executable, "-m", "tests.live.lone_worker", str(engine.url), str(tmp_path / "effects"), str(TTL_S)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes: list[subprocess.Popen[str]] = []
    for _ in range(2):
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
        if len(processes) == 1:
            assert "working 1\n" == said(processes[0])
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def stopped_between_effects(process: subprocess.Popen[str], database: Path) -> bool:
    """Stop a process where it holds no lock on the database, which would keep every other writer out."""
    process.send_signal(signal.SIGSTOP)
    with closing(sqlite3.connect(database, timeout=0.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            return False
        connection.execute("ROLLBACK")
    return True


def test_a_sleeper_is_replaced_and_does_nothing_more(workers: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """SIGSTOP past its lease, then SIGCONT: it finds the higher token before its next effect."""
    sleeper, successor = workers
    effects_file = tmp_path / "effects"
    until = time.monotonic() + TIMEOUT_S
    while not effects_file.exists() or not stopped_between_effects(sleeper, tmp_path / "flags.db"):
        assert time.monotonic() < until, "the first process did not get to work"
        time.sleep(0.01)
    took_over = said(successor)
    sleeper.send_signal(signal.SIGCONT)
    noticed = said(sleeper)
    sleeper.wait(TIMEOUT_S)
    effects = effects_file.read_text().split()

    assert ("working 2\n", "lost 1\n") == (took_over, noticed)
    assert sorted(effects) == effects
    assert {"1", "2"} == set(effects)


def test_a_dead_process_is_replaced(workers: list[subprocess.Popen[str]]) -> None:
    """After its lease has run out."""
    workers[0].kill()

    assert "working 2\n" == said(workers[1])


def test_work_is_refused_while_another_is_at_it(engine: Engine) -> None:
    """And done again when that one is ready, without waiting for the term."""
    done: list[int] = []

    def work(hold: Hold) -> None:
        done.append(hold.lease.token)
        done.append(run_alone(engine, "sweep", work, ttl_s=60.0))

    first = run_alone(engine, "sweep", work, ttl_s=60.0)
    second = run_alone(engine, "sweep", lambda hold: done.append(hold.lease.token), ttl_s=60.0)

    assert (True, True) == (first, second)
    assert [1, False, 2] == done


def test_a_lease_is_renewed_while_the_work_runs(engine: Engine) -> None:
    """For several terms."""
    kept: list[bool] = []

    def work(hold: Hold) -> None:
        for _ in range(4):
            kept.append(not hold.wait(1.5))
            with reading(engine) as connection:
                kept.append(held(connection, hold.lease))

    run_alone(engine, "sweep", work, ttl_s=3.0)

    assert [True] * 8 == kept


def test_failed_work_gives_its_lease_back(engine: Engine) -> None:
    """The next one need not wait for the term."""

    def fail(_: Hold) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run_alone(engine, "sweep", fail, ttl_s=60.0)

    assert acquire(engine, "sweep", holder="next", ttl_s=60.0) is not None
    assert [] == [each.name for each in threading.enumerate() if each.name.startswith("flagstaff-lease")]


def test_an_overtaken_worker_learns_it_by_itself(engine: Engine) -> None:
    """`lost` is set at the next renewal, also when the work has no effects for a while."""
    learnt: list[bool] = []

    def work(hold: Hold) -> None:
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("UPDATE lease SET token = token + 1")
        learnt.append(hold.wait(TIMEOUT_S))
        with pytest.raises(LeaseLost), hold.fenced():
            learnt.append(False)

    run_alone(engine, "sweep", work, ttl_s=0.3)

    assert [True] == learnt


class Rests(threading.Event):
    """Notes how long it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for nothing."""
        self.noted.append(timeout)
        return False


def test_paced_work_rests_between_moments() -> None:
    """Items that take longer than a moment are each followed by a rest, and none is lost."""
    rests = Rests()

    def item(number: int) -> int:
        until = time.perf_counter() + 2 * WORK_S
        while time.perf_counter() < until:
            pass
        return number

    assert [0, 1, 2] == list(paced(map(item, range(3)), ended=rests))
    assert [REST_S] * 3 == rests.noted
