"""Measure what a thousand running releases cost, and how long those take that are due together."""

import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from server.core.access import Action
from server.core.changes import PutFlag
from server.core.releases.plan import Gates, Patch, Plan, Step
from server.core.releases.progress import Act
from server.operations.freezes import permit_unless_frozen
from server.operations.releases.moving import Releases
from server.operations.writes import Write, Writer
from server.store.engine import reading
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, spread
from tests.operations.protected import EDITOR
from tests.store.definitions import NOW, flag, new_shop, put

RUNNING: Final = 1_000
AT_ONCE: Final = 500
LATER: Final = timedelta(minutes=30)
"""How much after the others the rest is due."""

TICK_GOAL: Final = Goal("value", LOWER, 100)
AT_ONCE_GOAL: Final = Goal("value", LOWER, 2)


def run(say: Say) -> list[Figure]:
    """On SQLite: releases of one flag each, in one environment."""
    with tempfile.TemporaryDirectory() as folder:
        engine = new_shop(Path(folder))
        figures = _figures(say, engine)
        engine.dispose()
    return figures


def _figures(say: Say, engine: Engine) -> list[Figure]:
    rules = [{"id": "beta", "serve": "on", "share": {"percent": 0}}]
    put(engine, *(PutFlag(flag(f"f{number}", rules=rules)) for number in range(RUNNING)))
    releases = Releases(Writer(engine, (permit_unless_frozen,)))
    say(f"starting {RUNNING:,} releases")
    began = time.perf_counter()
    for number in range(RUNNING):
        _start(releases, number)
    each_ms = 1_000 * (time.perf_counter() - began) / RUNNING
    say("looking")
    ticks = [_look_ms(engine, releases, timedelta(minutes=5)) for _ in range(20)]
    say(f"{AT_ONCE} at once")
    due_s = _look_ms(engine, releases, timedelta(hours=1)) / 1_000
    return [
        Figure("drawing up and starting one", "ms", spread([each_ms])),
        Figure(f"a look at {RUNNING:,} running releases", "ms", spread(ticks), goal=TICK_GOAL),
        Figure(f"{AT_ONCE} steps due at one instant, to the last commit", "s", spread([due_s]), goal=AT_ONCE_GOAL),
    ]


def _start(releases: Releases, number: int) -> None:
    parts: Sequence[int] = (1_000, 10_000, 100_000)
    gates = Gates(minimum_s=3_600.0)
    steps = tuple(
        Step((Patch("production", f"f{number}", "beta", share_parts=each),), gates, f"{each / 1000:g} %")
        for each in parts
    )
    at = NOW if number < AT_ONCE else NOW + LATER
    write = Write(EDITOR, Action.EDIT, at)
    id = releases.create(write, project="shop", plan=Plan(f"Release {number}", steps)).stored.id
    releases.command(write, project="shop", id=id, act=Act.START)


def _look_ms(engine: Engine, releases: Releases, after: timedelta) -> float:
    began = time.perf_counter()
    with reading(engine) as connection:
        releases.next_at(connection)
    releases.carry_on(NOW + after)
    return 1_000 * (time.perf_counter() - began)
