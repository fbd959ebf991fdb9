"""Measure what 10,000 waiting schedules and 1,000 running releases cost together, as a server keeps them."""

import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from server.core.access import Action
from server.core.changes import PutFlag
from server.core.guards.guards import Guard
from server.core.metrics.metrics import Metric, MetricKind
from server.core.releases.plan import Check, Gates, Patch, Plan, Step
from server.core.releases.progress import Act
from server.operations.freezes import permit_unless_frozen
from server.operations.guards.judging import Judging
from server.operations.guards.managing import Guards
from server.operations.metrics import Metrics
from server.operations.releases.moving import Releases
from server.operations.writes import Write, Writer
from server.scheduling.clockwork import Clockwork, Timed
from server.scheduling.nouns import timed_nouns
from server.store.engine import open_engine, reading
from server.store.migrations import migrate
from tests import postgres
from tests.benchmarks import schedules
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, spread
from tests.operations.protected import EDITOR
from tests.store.definitions import flag, open_shop, put

RELEASES: Final = 1_000
GUARDED: Final = 100
"""So many of them wait for what a guard says, and are looked at each few seconds."""

IDLE_S: Final = 15.0
FAR_S: Final = 30 * 86_400.0
RULES: Final = [{"id": "beta", "serve": "on", "share": {"percent": 0}}]

TICK_GOAL: Final = Goal("value", LOWER, 100)
IDLE_GOAL: Final = Goal("value", LOWER, 1)


def run(say: Say) -> list[Figure]:
    """On SQLite, and on PostgreSQL where there is a server."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        figures += _on(say, "SQLite", f"sqlite:///{Path(folder)}/flagstaff.db")
    try:
        with postgres.new_cluster() as cluster:
            figures += _on(say, "PostgreSQL", postgres.text_of(postgres.create_database(cluster.url)))
    except postgres.NoServer as error:
        say(f"without PostgreSQL: {error}")
    return figures


def _on(say: Say, kind: str, url: str) -> list[Figure]:
    engine = open_engine(url)
    migrate(engine)
    open_shop(engine)
    put(engine, *(PutFlag(flag(f"f{number}", enabled=False)) for number in range(schedules.FLAGS)))
    put(engine, *(PutFlag(flag(f"r{number}", rules=RULES)) for number in range(RELEASES)))
    writer = Writer(engine, (permit_unless_frozen,))
    say(f"{kind}: making {schedules.PENDING:,} schedules, and starting {RELEASES:,} releases")
    schedules.fill(writer, schedules.PENDING, [datetime.now(UTC) + timedelta(seconds=FAR_S)])
    for number in range(RELEASES - GUARDED):
        _start(writer, number, Gates(minimum_s=FAR_S))
    nouns = timed_nouns(writer, Judging(engine, writer, lambda: datetime.now(UTC)))
    say("looking, and doing nothing")
    ticks = [_tick_ms(engine, nouns) for _ in range(20)]
    idle = _idle(engine, nouns)
    say(f"{GUARDED} more that wait for a guard")
    _watch(writer)
    for number in range(RELEASES - GUARDED, RELEASES):
        _start(writer, number, Gates(minimum_s=FAR_S, checks=(Check("errors"),)))
    guarded = _idle(engine, nouns)
    engine.dispose()
    beside = f"{schedules.PENDING:,} schedules and {RELEASES - GUARDED:,} releases"
    return [
        Figure(f"{kind}: a look at {beside}", "ms", spread(ticks), goal=TICK_GOAL),
        Figure(f"{kind}: idle with {beside}", "% of a core", spread([idle]), goal=IDLE_GOAL),
        Figure(f"{kind}: the same, and {GUARDED} that wait for a guard", "% of a core", spread([guarded])),
    ]


def _watch(writer: Writer) -> None:
    write = Write(EDITOR, Action.EDIT, datetime.now(UTC))
    Metrics(writer.engine).create("shop", Metric("errors", MetricKind.RATIO), write)
    guard = Guard("errors", "production", metric="errors", flag="r0", variant="on", high=0.5)
    Guards(writer).create_guard("shop", guard, write)


def _start(writer: Writer, number: int, gates: Gates) -> None:
    steps = tuple(
        Step((Patch("production", f"r{number}", "beta", share_parts=each),), gates) for each in (1_000, 100_000)
    )
    releases, write = Releases(writer), Write(EDITOR, Action.EDIT, datetime.now(UTC))
    id = releases.create(write, project="shop", plan=Plan(f"Release {number}", steps)).stored.id
    releases.command(write, project="shop", id=id, act=Act.START)


def _tick_ms(engine: Engine, nouns: Sequence[Timed]) -> float:
    """What it takes to ask all nouns when they are due, and to have them find that they are not."""
    began, now = time.perf_counter(), datetime.now(UTC)
    for each in nouns:
        with reading(engine) as connection:
            each.next_at(connection)
        each.carry_on(now)
    return 1_000 * (time.perf_counter() - began)


def _idle(engine: Engine, nouns: Sequence[Timed]) -> float:
    """Units: percent of a core."""
    clockwork = Clockwork(engine, nouns, clock=lambda: datetime.now(UTC))
    clockwork.start()
    try:
        time.sleep(2)
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(IDLE_S)
        return 100 * (time.process_time() - cpu) / (time.monotonic() - began)
    finally:
        clockwork.stop()
