"""Measure a server with 10,000 flags of five rules each: import, start, memory, and how soon a commit is seen."""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
from sqlalchemy import Engine

from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.changes import PutFlag
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.flags import FlagDefinition
from server.store.commit import commit
from server.store.engine import open_engine
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, spread
from tests.benchmarks.processes import HOST, Running, import_document, serve
from tests.benchmarks.samples import CONDITIONS, RULES_EACH, SCALE_FLAGS, batch_document, scale_document, scale_flag
from tests.benchmarks.unary import EVALUATE

START_ROUNDS: Final = 3
COMMITS: Final = 20
COMMIT_EVERY_S: Final = 0.6
"""So that the last-known-good file is written while commits come, more than once."""

CHANGED: Final = 4_321
START_GOAL: Final = Goal("value", LOWER, 5)
MEMORY_GOAL: Final = Goal("value", LOWER, 200)
SEEN_GOAL: Final = Goal("value", LOWER, 50)
_OPTIONS: Final = ("--no-sync",)
"""So many flags do not fit into one message of flagd.sync.v1 and are evaluated here only."""

_SETTLE_S: Final = 7.0
"""Until the last-known-good file has been written, which could take memory."""


def run(say: Say) -> list[Figure]:
    """Starts count from the process's start until it says that it serves; an empty server is started beside it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        small_folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        say(f"importing {SCALE_FLAGS:,} flags with {RULES_EACH} rules each, of {len(CONDITIONS)} kinds")
        url, import_s = import_document(scale_document(), folder, *_OPTIONS)
        small_url, _ = import_document(batch_document(), small_folder)
        figures = [Figure("import by `flagstaff import`", "s", spread([import_s])), *_starts(url, small_url, say)]
        say(f"{COMMITS} commits by another process than the server")
        server = stack.enter_context(serve(url))
        figures.append(_seen(server, url))
        time.sleep(_SETTLE_S)
        figures.append(Figure("resident memory after the commits", "MB", spread([server.resident_mb()])))
        return figures


def _starts(url: str, small_url: str, say: Say) -> list[Figure]:
    start_s: list[float] = []
    cpu_s: list[float] = []
    resident: list[float] = []
    peak: list[float] = []
    small: list[tuple[float, float, float]] = []
    for number in range(START_ROUNDS):
        say(f"start {number + 1} of {START_ROUNDS}")
        with serve(small_url) as server:
            small.append((server.start_s, server.cpu_s(), server.resident_mb()))
        with serve(url) as server:
            start_s.append(server.start_s)
            cpu_s.append(server.cpu_s())
            resident.append(server.resident_mb())
            peak.append(server.peak_mb())
    base = [spread([one[place] for one in small]) for place in range(3)]
    beside = "ten flags"
    return [
        Figure("start to ready", "s", spread(start_s), beside, base[0], goal=START_GOAL),
        Figure("start to ready, CPU", "s", spread(cpu_s), beside, base[1]),
        Figure("resident memory", "MB", spread(resident), beside, base[2], goal=MEMORY_GOAL),
        Figure("resident memory, highest", "MB", spread(peak)),
    ]


def _seen(server: Running, url: str) -> Figure:
    """From the commit's return in this process to the first answer with its revision from the other one."""
    engine = open_engine(url)
    request = ours.EvaluateRequest(flag_key=f"flag-{CHANGED:05}").SerializeToString()
    waits_ms: list[float] = []
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        ask = channel.unary_unary(EVALUATE, None, None)
        ask(request, wait_for_ready=True, timeout=10)
        for number in range(COMMITS):
            revision = _commit(engine, number)
            start = time.perf_counter()
            while ours.EvaluateResponse.FromString(ask(request, timeout=10)).revision < revision:
                # A pause, or the questions would take the time that the server needs to load.
                time.sleep(0.001)
                if time.perf_counter() - start > 10:
                    raise RuntimeError(f"revision {revision} was not seen within 10 s")
            waits_ms.append((time.perf_counter() - start) * 1_000)
            time.sleep(COMMIT_EVERY_S)
    engine.dispose()
    return Figure(
        f"a one-flag commit seen, max of {COMMITS}",
        "ms",
        replace(spread(waits_ms), median=max(waits_ms)),
        goal=SEEN_GOAL,
        note=f"half of the commits were seen within {spread(waits_ms).median:.0f} ms",
    )


def _commit(engine: Engine, number: int) -> int:
    document: dict[str, Any] = {**scale_flag(CHANGED), "description": f"changed {number} times"}
    problems = Problems()
    definition = read_flag(f"flag-{CHANGED:05}", document, problems=problems, path="")
    assert isinstance(definition, FlagDefinition), problems.errors
    done = commit(
        engine, project="default", environment="production", changes=[PutFlag(definition)], actor="benchmark",
        now=datetime.now(UTC),
    )  # fmt: skip
    return done.revision
