"""Measure what a backlog of deliveries takes, how soon an event arrives, and what receivers that hang cost others."""

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, func, select

from server.core.changes import PutFlag
from server.operations.deliveries.fanning import Fanning
from server.store.engine import open_engine, reading
from server.store.migrations import migrate
from tests import postgres
from tests.benchmarks.figures import HIGHER, LOWER, Figure, Goal, Say, spread
from tests.benchmarks.processes import Running, deliver
from tests.store.definitions import flag, open_shop, put
from tests.webhooks.dispatching import announce_many, subscribe
from tests.webhooks.faults import Received
from tests.webhooks.receiver import Receiver, receiving
from webhooks.tables import deliveries, endpoints

BACKLOG: Final = 100_000
ENDPOINTS: Final = 50
HANGING: Final = 10
BYTES: Final = 600
"""Of an event's own text; a body has some 1,000."""

EVENTS: Final = 100
APART_S: Final = 0.1
ROUNDS_S: Final = 10.0
PATIENCE_S: Final = 600.0

RATE_GOAL: Final = Goal("value", HIGHER, 1_500, "issue: 100,000 pending to 50 endpoints")
MEMORY_GOAL: Final = Goal("value", LOWER, 250)
SOON_GOAL: Final = Goal("value", LOWER, 250)
ISOLATION_GOAL: Final = Goal("value", LOWER, 1.5)


def run(say: Say, backlog: int = BACKLOG) -> list[Figure]:
    """On SQLite, and on PostgreSQL where there is a server."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        figures += _on(say, "SQLite", lambda name: f"sqlite:///{Path(folder)}/{name}.db", backlog)
    try:
        with postgres.new_cluster() as cluster:
            figures += _on(
                say, "PostgreSQL", lambda _: postgres.text_of(postgres.create_database(cluster.url)), backlog
            )
    except postgres.NoServer as error:
        say(f"without PostgreSQL: {error}")
    return figures


@dataclass
class Arrivals:
    """What a receiver got, and when. Shapes: (path, event id) -> Unix seconds, for each time that it came."""

    at: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    last_at: float = 0.0
    first_at: float = 0.0
    well: int = 0
    """How many came to receivers that are well; counted, so that who waits for them takes no time of theirs."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    def see(self, request: Received) -> None:
        """Note one."""
        with self._lock:
            self.first_at = self.first_at or request.at
            self.last_at = request.at
            self.well += request.path.startswith("/ok")
            self.at.setdefault((request.path, request.event_id), []).append(request.at)

    def take(self) -> dict[tuple[str, str], list[float]]:
        """What came since the last time; nothing of it is known any more."""
        with self._lock:
            taken, self.at, self.well = self.at, {}, 0
            return taken


@contextlib.contextmanager
def listening(arrivals: Arrivals) -> Iterator[str]:
    """Receive in a thread; gives the URL."""
    ready, ended = threading.Event(), threading.Event()
    found: list[str] = []

    async def receive() -> None:
        async with receiving(Receiver(keep=False, see=arrivals.see)) as port:
            found.append(f"http://127.0.0.1:{port}")
            ready.set()
            await asyncio.to_thread(ended.wait)

    def run_loop() -> None:
        with contextlib.suppress(ImportError):
            import uvloop

            uvloop.run(receive())
            return
        asyncio.run(receive())

    thread = threading.Thread(target=run_loop)
    thread.start()
    ready.wait(PATIENCE_S)
    try:
        yield found[0]
    finally:
        ended.set()
        thread.join()


def _on(say: Say, kind: str, new_url: Callable[[str], str], backlog: int) -> list[Figure]:
    figures = _drain(say, kind, new_url("drain"), backlog)
    return figures + _soon(say, kind, new_url("soon")) + _beside_hanging(say, kind, new_url("hanging"))


@contextlib.contextmanager
def _database(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        migrate(engine)
        open_shop(engine)
        yield engine
    finally:
        engine.dispose()


def _drain(say: Say, kind: str, url: str, backlog: int) -> list[Figure]:
    arrivals = Arrivals()
    with _database(url) as engine, listening(arrivals) as base:
        for number in range(ENDPOINTS):
            subscribe(engine, f"{base}/ok/{number}", f"ep_{number:02}")
        announce_many(engine, backlog // ENDPOINTS, text="x" * BYTES)
        say(f"{kind}: making {backlog:,} deliveries")
        began = time.monotonic()
        Fanning(engine).look()
        made_s = time.monotonic() - began
        say("draining")
        with deliver(url) as running:
            _until(lambda: len(arrivals.at) >= backlog, running)
            _until(lambda: _unfinished(engine) == 0, running)
            cpu_s, peak_mb = running.cpu_s(), running.peak_mb()
        took_s = arrivals.last_at - arrivals.first_at
        doubled = sum(len(each) - 1 for each in arrivals.at.values())
        if doubled:
            raise RuntimeError(f"{doubled} deliveries came more than once")
    name = f"{kind}: {backlog:,} pending to {ENDPOINTS} endpoints"
    return [
        Figure(f"{name}, made of events", "deliveries/s", spread([backlog / made_s])),
        Figure(name, "deliveries/s", spread([backlog / took_s]), goal=RATE_GOAL, note="none lost, none twice"),
        Figure(f"{name}, CPU of the process", "us each", spread([1e6 * cpu_s / backlog])),
        Figure(f"{name}, memory", "MB", spread([peak_mb]), goal=MEMORY_GOAL),
    ]


def _soon(say: Say, kind: str, url: str) -> list[Figure]:
    arrivals = Arrivals()
    with _database(url) as engine, listening(arrivals) as base:
        subscribe(engine, f"{base}/ok")
        with deliver(url) as running:
            say(f"{kind}: one event after the other")
            put(engine, PutFlag(flag("first")))
            _until(lambda: bool(arrivals.at), running)
            late = []
            for number in range(EVENTS):
                before = len(arrivals.at)
                put(engine, PutFlag(flag(f"flag-{number}")))
                committed_at = time.time()
                _until(lambda before=before: len(arrivals.at) > before, running)  # type: ignore[misc]  # Bound at once.
                late.append(1_000 * max(0.0, arrivals.last_at - committed_at))
                time.sleep(APART_S)
    late.sort()
    return [
        Figure(f"{kind}: a commit to its arrival, idle, p99 of {EVENTS}", "ms", spread([_p99(late)]), goal=SOON_GOAL),
        Figure(f"{kind}: a commit to its arrival, idle", "ms", spread(late)),
    ]


def _beside_hanging(say: Say, kind: str, url: str) -> list[Figure]:
    arrivals = Arrivals()
    with _database(url) as engine, listening(arrivals) as base:
        for number in range(ENDPOINTS - HANGING):
            subscribe(engine, f"{base}/ok/{number}", f"ep_{number:02}")
        with deliver(url) as running:
            say(f"{kind}: with all receivers well")
            # What sends is loaded, and connections are opened, by the first events: they are no baseline.
            _under_load(engine, arrivals, running)
            alone = _under_load(engine, arrivals, running)
            for number in range(HANGING):
                subscribe(engine, f"{base}/silence/{number}", f"ep_hangs_{number:02}")
            say(f"{kind}: with {HANGING} that hang")
            beside = _under_load(engine, arrivals, running)
            with reading(engine) as connection:
                opened = connection.execute(
                    select(func.count()).select_from(endpoints).where(endpoints.c.breaker_state != "closed")
                ).scalar_one()
    name = f"{kind}: events to {ENDPOINTS - HANGING} receivers, p99"
    note = f"{opened} of {HANGING} breakers opened"
    return [
        Figure(name, "ms", spread([_p99(alone)])),
        Figure(f"{name} beside {HANGING} that hang", "ms", spread([_p99(beside)]), note=note),
        Figure(
            f"{name}, what those that hang cost", "times", spread([_p99(beside) / _p99(alone)]), goal=ISOLATION_GOAL
        ),
    ]


def _under_load(engine: Engine, arrivals: Arrivals, running: Running) -> list[float]:
    """How long each delivery to a healthy receiver took, from its event's commit, while events come all the time."""
    arrivals.take()
    committed: dict[str, float] = {}
    end_at = time.monotonic() + ROUNDS_S
    while time.monotonic() < end_at:
        ids = announce_many(engine, 1, text="x" * BYTES)
        committed |= dict.fromkeys(ids, time.time())
        time.sleep(APART_S)
    wanted = len(committed) * (ENDPOINTS - HANGING)
    _until(lambda: arrivals.well >= wanted, running)
    return sorted(
        1_000 * max(0.0, at[0] - committed[id_])
        for (path, id_), at in arrivals.take().items()
        if path.startswith("/ok")
    )


def _unfinished(engine: Engine) -> int:
    with reading(engine) as connection:
        query = select(func.count()).select_from(deliveries).where(deliveries.c.due_at_ms.is_not(None))
        return connection.execute(query).scalar_one()


def _until(done: Callable[[], bool], running: Running) -> None:
    end_at = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > end_at or running.process.poll() is not None:
            raise RuntimeError("deliveries did not arrive")
        time.sleep(0.005)


def _p99(values: Sequence[float]) -> float:
    return values[min(len(values) - 1, round(0.99 * len(values)))]
