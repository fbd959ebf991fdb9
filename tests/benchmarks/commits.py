"""Measure commits to one project on both kinds of database, and how soon another process serves them."""

import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, event

from server.core.changes import PutFlag
from server.core.flags import FlagDefinition
from server.live.follower import Follower
from server.live.holder import Holder
from server.store.engine import open_engine
from server.store.migrations import migrate
from tests import postgres
from tests.benchmarks.figures import HIGHER, LOWER, Figure, Goal, Say, spread
from tests.store.definitions import flag, open_shop, put

KINDS: Final = ("sqlite", "postgresql")
GOALS: Final = {
    "sqlite": Goal("value", HIGHER, 500, "with synchronous FULL"),
    "postgresql": Goal("value", HIGHER, 300),
}
SIZE_GOAL: Final = Goal("ratio", LOWER, 1.5)
HINTED_GOAL: Final = Goal("value", LOWER, 200)
POLLED_GOAL: Final = Goal("value", LOWER, 2_000)
FEW: Final = 100
MANY: Final = 10_000
ROUNDS: Final = 3
ROUND_S: Final = 3.0
WRITERS: Final = 8
SEEN: Final = 200
SEEN_POLLED: Final = 20
PAUSE_S: Final = 0.01


def run(say: Say) -> list[Figure]:
    """Each commit changes a rule's share of one flag. Beside: one row a commit, by the driver alone."""
    figures: list[Figure] = []
    for kind in KINDS:
        with ExitStack() as stack:
            url, bare = stack.enter_context(_database(kind))
            engine = open_engine(url)
            stack.callback(engine.dispose)
            migrate(engine)
            open_shop(engine)
            figures += _rates(engine, bare, kind, say)
            if kind == "postgresql":
                figures += _seen(engine, url, say)
    return figures


@contextmanager
def _database(kind: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A durable database, and one commit of one row to it without us."""
    if kind == "postgresql":
        with postgres.new_cluster() as cluster:
            url = postgres.create_database(cluster.url)
            with postgres.connect(url) as connection:
                connection.execute("CREATE SCHEMA bare; CREATE TABLE bare.row (at double precision)")
                yield postgres.text_of(url), lambda: _insert(connection, "bare.row", "%s")
        return
    with tempfile.TemporaryDirectory() as folder:
        beside = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None, check_same_thread=False)
        beside.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE row (at REAL)")
        yield f"sqlite:///{folder}/flags.db", lambda: _insert(beside, "row", "?")
        beside.close()


def _insert(connection: object, table: str, mark: str) -> None:
    connection.execute(f"INSERT INTO {table} VALUES ({mark})", (time.time(),))  # type: ignore[attr-defined]


def _rates(engine: Engine, bare: Callable[[], None], kind: str, say: Say) -> list[Figure]:
    put(engine, *(PutFlag(flag(f"flag-{number:05}")) for number in range(FEW)))
    say(f"{kind}: commits with {FEW} flags")
    alone, few, crowd = [], [], []
    for _ in range(ROUNDS):
        alone.append(_rate([bare]))
        few.append(_rate([_commits(engine, "hot")]))
        crowd.append(_rate([_commits(engine, f"hot-{number}") for number in range(WRITERS)]))
    put(engine, *(PutFlag(flag(f"flag-{number:05}")) for number in range(FEW, MANY)))
    say(f"{kind}: commits with {MANY:,} flags")
    many = [_rate([_commits(engine, "hot")]) for _ in range(ROUNDS)]
    return [
        Figure(
            f"{kind}: commits a second, one writer", "/s", spread(few), "one row a commit", spread(alone),
            spread([mine / bare for mine, bare in zip(few, alone, strict=True)]), GOALS[kind],
        ),
        Figure(f"{kind}: commits a second, {WRITERS} writers", "/s", spread(crowd), goal=GOALS[kind]),
        Figure(
            f"{kind}: a commit with {MANY:,} flags", "ms", spread([1000 / rate for rate in many]),
            f"with {FEW}", spread([1000 / rate for rate in few]),
            spread([one / other for one, other in zip(sorted(few), sorted(many), strict=True)]), SIZE_GOAL,
        ),
    ]  # fmt: skip


def _commits(engine: Engine, key: str) -> Callable[[], None]:
    count = 0

    def commit() -> None:
        nonlocal count
        count += 1
        put(engine, PutFlag(_shared(key, count)), now=datetime.now(UTC))

    return commit


def _shared(key: str, share: int) -> FlagDefinition:
    return flag(key, rules=[{"id": "r", "share": {"percent": share % 100}, "serve": "on"}])


def _rate(works: Sequence[Callable[[], None]]) -> float:
    """How often all of these together run in a second."""
    until = time.monotonic() + ROUND_S

    def work(one: Callable[[], None]) -> int:
        count = 0
        while time.monotonic() < until:
            one()
            count += 1
        return count

    with ThreadPoolExecutor(len(works)) as pool:
        return sum(pool.map(work, works)) / ROUND_S


def _seen(engine: Engine, url: str, say: Say) -> list[Figure]:
    """From the commit's return until another process's kind of follower serves it."""
    say(f"{SEEN} commits by one engine, seen by another's follower")
    hinted = _delays(engine, url, SEEN)
    say(f"{SEEN_POLLED} commits without hints")
    silent = open_engine(url)
    event.listen(silent, "begin", _say_nothing)
    polled = _delays(silent, url, SEEN_POLLED)
    silent.dispose()
    return [
        Figure("postgresql: commit to served elsewhere, p99", "ms", spread([_p99(hinted)]), goal=HINTED_GOAL),
        Figure("postgresql: the same without NOTIFY, p99", "ms", spread([_p99(polled)]), goal=POLLED_GOAL),
    ]


def _say_nothing(connection: Connection) -> None:
    connection.connection.driver_connection.tells = False  # type: ignore[union-attr]


def _delays(engine: Engine, url: str, count: int) -> list[float]:
    holder, served = Holder("shop/production"), threading.Condition()

    def changed(_changes: object) -> None:
        with served:
            served.notify_all()

    other = open_engine(url)
    follower = Follower(other, holder, changed=changed)
    follower.start()
    delays = []
    for number in range(count):
        done = put(engine, PutFlag(_shared("seen", number + 1)), now=datetime.now(UTC))
        committed_at = time.perf_counter()
        with served:
            served.wait_for(lambda wanted=done.revision: _revision(holder) >= wanted, timeout=60)  # type: ignore[misc]
        delays.append((time.perf_counter() - committed_at) * 1000)
        time.sleep(PAUSE_S)
    follower.stop()
    other.dispose()
    return delays


def _revision(holder: Holder) -> int:
    snapshot = holder.serving.snapshots.get("shop/production")
    return 0 if snapshot is None else snapshot.revision


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99) - 1 if len(values) >= 100 else -1]
