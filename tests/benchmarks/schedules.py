"""Measure what thousands of waiting schedules cost, and how late those are executed that are due."""

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, func, insert, select

from server.core.access import OPEN, Action
from server.core.changes import PutFlag
from server.core.edits import SetEnabled
from server.core.schedules.timing import Timing
from server.operations.freezes import permit_unless_frozen
from server.operations.schedules.executing import Executing
from server.operations.schedules.making import Making
from server.operations.schedules.plans import Plan
from server.operations.writes import Write, Writer
from server.scheduling.clockwork import Clockwork
from server.scheduling.schedules import DueSchedules
from server.store import schedule_tables as tables
from server.store.commit import Part
from server.store.engine import open_engine, reading, writing
from server.store.migrations import migrate
from server.store.schedules import first_wake_at
from tests import postgres
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, spread
from tests.store.definitions import flag, open_shop, put

PENDING: Final = 10_000
FLAGS: Final = 1_000
AT_ONCE: Final = 500
ONE_BY_ONE: Final = 60
APART_S: Final = 0.08
IDLE_S: Final = 10.0
FAR: Final = timedelta(days=300)
PATIENCE_S: Final = 60.0

TICK_GOAL: Final = Goal("value", LOWER, 100)
IDLE_GOAL: Final = Goal("value", LOWER, 1)
AT_ONCE_GOAL: Final = Goal("value", LOWER, 2)
LATE_GOAL: Final = Goal("value", LOWER, 250)


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
    put(engine, *(PutFlag(flag(f"f{number}", enabled=False)) for number in range(FLAGS)))
    say(f"{kind}: making {PENDING:,} schedules")
    writer = Writer(engine, (permit_unless_frozen,))
    fill(writer, PENDING, [datetime.now(UTC) + FAR])
    executing = Executing(writer)
    say("ticking")
    ticks = [_tick_ms(engine, executing) for _ in range(20)]
    with _clockwork(engine, executing):
        time.sleep(1)
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(IDLE_S)
        idle = 100 * (time.process_time() - cpu) / (time.monotonic() - began)
        say("one after the other")
        late = _one_by_one_ms(engine, writer)
        say(f"{AT_ONCE} at once")
        at_once = [_at_once_s(engine, writer) for _ in range(2)]
    engine.dispose()
    late.sort()
    p99 = late[min(len(late) - 1, round(0.99 * len(late)))]
    return [
        Figure(f"{kind}: a look at {PENDING:,} waiting schedules", "ms", spread(ticks), goal=TICK_GOAL),
        Figure(f"{kind}: idle with {PENDING:,} waiting", "% of a core", spread([idle]), goal=IDLE_GOAL),
        Figure(f"{kind}: from an instant to its commit, p99 of {ONE_BY_ONE}", "ms", spread([p99]), goal=LATE_GOAL),
        Figure(f"{kind}: from an instant to its commit", "ms", spread(late)),
        Figure(f"{kind}: {AT_ONCE} due at one instant, to the last commit", "s", spread(at_once), goal=AT_ONCE_GOAL),
    ]


def _tick_ms(engine: Engine, executing: Executing) -> float:
    began = time.perf_counter()
    with reading(engine) as connection:
        first_wake_at(connection)
    executing.carry_on(datetime.now(UTC))
    return 1_000 * (time.perf_counter() - began)


@contextmanager
def _clockwork(engine: Engine, executing: Executing) -> Iterator[None]:
    clockwork = Clockwork(engine, [DueSchedules(executing)], clock=lambda: datetime.now(UTC))
    clockwork.start()
    try:
        yield
    finally:
        clockwork.stop()


def _one_by_one_ms(engine: Engine, writer: Writer) -> list[float]:
    """How late each is, of some that are due one after the other."""
    begin = datetime.now(UTC) + timedelta(seconds=2)
    instants = [begin + timedelta(seconds=APART_S * number) for number in range(ONE_BY_ONE)]
    before = _done_count(engine)
    fill(writer, ONE_BY_ONE, instants)
    late: list[float] = []
    end_at = time.monotonic() + PATIENCE_S
    while len(late) < ONE_BY_ONE and time.monotonic() < end_at:
        done, now = _done_count(engine) - before, datetime.now(UTC)
        late += [(now - at) / timedelta(milliseconds=1) for at in instants[len(late) : done]]
        threading.Event().wait(0.002)
    assert len(late) == ONE_BY_ONE, "schedules were not executed"
    return late


def _at_once_s(engine: Engine, writer: Writer) -> float:
    at = datetime.now(UTC) + timedelta(seconds=3)
    before = _done_count(engine)
    fill(writer, AT_ONCE, [at])
    end_at = time.monotonic() + PATIENCE_S
    while _done_count(engine) - before < AT_ONCE:
        assert time.monotonic() < end_at, "schedules were not executed"
        threading.Event().wait(0.01)
    return (datetime.now(UTC) - at).total_seconds()


def _done_count(engine: Engine) -> int:
    with reading(engine) as connection:
        query = select(func.count()).select_from(tables.schedules).where(tables.schedules.c.state == "done")
        return int(connection.execute(query.where(tables.schedules.c.project == "shop")).scalar_one())


_numbers: Final = iter(range(10**9))


def fill(writer: Writer, count: int, instants: Sequence[datetime]) -> None:
    """Make one as everybody does, and copies of it for other flags and instants."""
    at = datetime.now(UTC) + 2 * FAR
    write = Write(OPEN, Action.EDIT, datetime.now(UTC))
    plan = Plan([Part("production", [SetEnabled("f0", True)])], timing=Timing(at=at), accept_conflicts=True)
    made = Making(writer).create(write, project="shop", plan=plan).schedule
    with writing(writer.engine, about="project/shop") as connection:
        columns = tables.schedules.c
        row = connection.execute(select(tables.schedules).where(columns.id == made.id)).mappings().one()
        copies = [_copy(row, f"sc_{next(_numbers):010d}", n, instants[n % len(instants)], at) for n in range(count)]
        connection.execute(insert(tables.schedules), copies)
        subjects = [
            {
                "project": "shop",
                "schedule": each["id"],
                "environment": "production",
                "kind": "flag",
                "key": f"f{number % FLAGS}",
                "field": "enabled",
            }
            for number, each in enumerate(copies)
        ]
        connection.execute(insert(tables.schedule_subjects), subjects)


def _copy(row: Any, id: str, number: int, instant: datetime, at: datetime) -> dict[str, Any]:
    def moved(text: str) -> str:
        return text.replace(at.isoformat(), instant.isoformat())

    changed = {
        "id": id,
        "content": row["content"].replace('"f0"', f'"f{number % FLAGS}"'),
        "timing": moved(row["timing"]),
        "progress": moved(row["progress"]),
        "due_at": instant,
        "wake_at": instant,
    }
    return {**row, **changed}
