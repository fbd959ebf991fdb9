"""Measure what is managed: 10,000 flags in three environments with fifty revisions each."""

import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
from sqlalchemy import Engine

from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import history_pb2 as history
from server.core.changes import PutFlag
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.store.commit import commit
from server.store.engine import open_engine
from tests.benchmarks.aged import ENVIRONMENTS, REVISIONS_EACH, make, small_flag
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, Spread, faster, spread
from tests.benchmarks.processes import HOST, Running, serve

FLAGS: Final = 10_000
FEW: Final = 100
COMMITS: Final = 40
COMMIT_ROUNDS: Final = 5
START_GOAL: Final = Goal("value", LOWER, 8)
ASKED: Final = 20
ASKED_GOAL: Final = Goal("value", LOWER, 50)
LIST_FLAGS: Final = "/flagstaff.v1.FlagService/ListFlags"
LIST_REVISIONS: Final = "/flagstaff.v1.HistoryService/ListRevisions"
EVALUATE_AS_OF: Final = "/flagstaff.v1.HistoryService/EvaluateAsOf"
AS_OF_GOAL: Final = Goal("value", LOWER, 2_000)
HISTORY: Final = history.ListRevisionsRequest(
    project="default", environment="production", kind=history.THING_KIND_FLAG, key="flag-00042"
)
LISTS: Final = {
    "page of 100": flags.ListFlagsRequest(project="default", with_configs=True),
    "by tag, state and text": flags.ListFlagsRequest(
        project="default",
        filter=flags.FlagFilter(
            tags=["area-3"], text="number", states=[flags.StateFilter(environment="production", enabled=True)]
        ),
    ),
    "by owner, in order of versions": flags.ListFlagsRequest(
        project="default", filter=flags.FlagFilter(owner="team-7"), order_by="version desc"
    ),
}
COST_GOAL: Final = Goal("value", LOWER, 1.5)


def run(say: Say) -> list[Figure]:
    """A small database of the same kind stands beside the large one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        small_folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        say(f"making {FLAGS:,} flags x {len(ENVIRONMENTS)} environments x {REVISIONS_EACH} revisions: some minutes")
        url = make(folder, flags=FLAGS)
        small_url = make(small_folder, flags=FEW)
        figures = _start(url, small_url, say)
        say(f"{COMMIT_ROUNDS} rounds of {COMMITS} commits to each")
        return [*figures, *_commits(url, small_url)]


def _start(url: str, small_url: str, say: Say) -> list[Figure]:
    say("start")
    with serve(small_url) as server:
        small = server.start_s
    with serve(url, "--last-known-good", "off") as server:
        start = Figure(
            "start to ready", "s", spread([server.start_s]), f"{FEW} flags", spread([small]), goal=START_GOAL,
            note=f"{server.resident_mb():.0f} MB resident",
        )  # fmt: skip
        say("lists and history")
        return [start, *_asked(server)]


def _asked(server: Running) -> list[Figure]:
    """How long a client waits, with the server to itself."""
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        lists = [
            Figure(f"FlagService.ListFlags, {name}", "ms", _waits(channel, LIST_FLAGS, request), goal=ASKED_GOAL)
            for name, request in LISTS.items()
        ]
        past = Figure("history of a flag", "ms", _waits(channel, LIST_REVISIONS, HISTORY), goal=ASKED_GOAL)
        return [*lists, past, *_as_of(channel, server)]


def _as_of(channel: grpc.Channel, server: Running) -> list[Figure]:
    """A moment that nobody asked about before, then the same again."""
    revision = server.hello["flag_sets"]["default/production"]["revision"] // 2
    request = history.EvaluateAsOfRequest(
        project="default", environment="production", flag_key="flag-00042", as_of=history.AsOf(revision=revision)
    )
    request.context.update({"targetingKey": "ann"})
    ask, raw = channel.unary_unary(EVALUATE_AS_OF, None, None), request.SerializeToString()
    begin = time.perf_counter()
    ask(raw, timeout=60)
    first = (time.perf_counter() - begin) * 1_000
    again = _waits(channel, EVALUATE_AS_OF, request)
    return [Figure("evaluation as of a revision, first call", "ms", spread([first]), "again", again, goal=AS_OF_GOAL)]


def _waits(channel: grpc.Channel, path: str, request: Any) -> Spread:
    ask, raw = channel.unary_unary(path, None, None), request.SerializeToString()
    waits: list[float] = []
    for _ in range(ASKED + 1):
        begin = time.perf_counter()
        ask(raw, timeout=60)
        waits.append((time.perf_counter() - begin) * 1_000)
    # The first one opens a connection to the database, and the channel.
    return spread(waits[1:])


def _commits(url: str, small_url: str) -> list[Figure]:
    engines = [open_engine(url), open_engine(small_url)]
    rounds: list[list[float]] = [[], []]
    for number in range(COMMIT_ROUNDS):
        for each, engine in enumerate(engines):
            rounds[each].append(_commit_ms(engine, number))
    for engine in engines:
        engine.dispose()
    ratios = [large / small for large, small in zip(*rounds, strict=True)]
    return [
        faster(f"a commit among {FLAGS:,} flags", rounds[0], than=f"among {FEW}", theirs=rounds[1], unit="ms"),
        Figure("the cost of a commit among many, beside few", "x", spread(ratios), goal=COST_GOAL),
    ]


def _commit_ms(engine: Engine, number: int) -> float:
    begin = time.perf_counter()
    for place in range(COMMITS):
        document: dict[str, Any] = {**small_flag(place), "description": f"round {number}"}
        definition = read_flag(f"flag-{place:05}", document, problems=Problems(), path="")
        assert definition is not None
        commit(
            engine, project="default", environment="production", changes=[PutFlag(definition)], actor="benchmark",
            now=datetime.now(UTC),
        )  # fmt: skip
    return (time.perf_counter() - begin) * 1_000 / COMMITS
