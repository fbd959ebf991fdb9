"""Measure how soon thousands of EventStreams hear of a commit, what they cost, and what stalled ones do to others."""

import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

from server.core.evaluation.difference import FlagChange
from server.rpc.flagd_events import READY, change_messages
from tests.benchmarks.crowd import Changing, Crowd, Delivery
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, faster, spread
from tests.benchmarks.load import latencies_ms, percentile
from tests.benchmarks.processes import Running, import_document, serve, serve_streams
from tests.benchmarks.samples import batch_document
from tests.benchmarks.unary import EVALUATE, evaluate_request

SIZES: Final = (1_000, 5_000, 10_000)
CONNECTIONS: Final = 100
COMMITS: Final = 12
CHANGED: Final = "static-boolean"
P99_GOALS_MS: Final = {1_000: 100, 5_000: 250, 10_000: 600}
BARE: Final = "bare streams"
"""Of an empty server of grpc.aio, all woken at once: what the library itself takes to write as much."""

MEMORY_GOAL: Final = Goal("value", LOWER, 45)

STALLED: Final = 200
STALLED_AMONG: Final = 5_000
STALLED_ROUNDS: Final = 4
STALLED_COMMITS: Final = 5
"""So few that a round ends before the server closes its stalled streams, after 20 s."""

STALLED_GOAL: Final = Goal("value", LOWER, 1.2)

EVALUATIONS_PER_S: Final = 500
EVALUATIONS_S: Final = 6
EVALUATION_ROUNDS: Final = 3
COMMIT_EVERY_S: Final = 2.0
EVALUATION_GOAL: Final = Goal("value", LOWER, 50)


def run(say: Say, sizes: Sequence[int] = SIZES) -> list[Figure]:
    """A server for each number of streams. The client, the server and who commits are three processes."""
    return [figure for size in sizes for figure in _of_size(size, say)]


def _of_size(size: int, say: Say) -> list[Figure]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = import_document(batch_document(), folder)[0]
        server = stack.enter_context(serve(url))
        bare = stack.enter_context(serve_streams(READY, change_messages({CHANGED: FlagChange.UPDATE})[0]))
        commit = stack.enter_context(Changing(url, CHANGED, batch_document()["flags"][CHANGED])).commit
        alone = _evaluations(server, commit, say) if size == STALLED_AMONG else []
        before_mb = server.resident_mb(), bare.resident_mb()
        say(f"opening {size:,} streams on {CONNECTIONS} connections, and as many of a bare server")
        crowd = stack.enter_context(Crowd(server, connections=CONNECTIONS))
        opened_s = crowd.open(size)
        with Crowd(bare, connections=CONNECTIONS, wanted="") as bare_crowd:
            bare_opened_s = bare_crowd.open(size)
            figures = _deliveries(size, (server, crowd, commit), (bare, bare_crowd, _waking(bare)))
            each_kb = [
                (one.resident_mb() - before) * 1024 / size
                for one, before in zip((server, bare), before_mb, strict=True)
            ]
        figures += [
            Figure(f"{size:,} streams, resident memory each", "kB", spread(each_kb[:1]), BARE, spread(each_kb[1:]),
                   goal=MEMORY_GOAL),
            Figure(f"{size:,} streams, all open", "s", spread([opened_s]), BARE, spread([bare_opened_s])),
        ]  # fmt: skip
        if size == STALLED_AMONG:
            figures += _stalled(crowd, commit, say)
            figures += _evaluating(alone, _evaluations(server, lambda: crowd.deliver(commit), say))
        return figures


def _waking(bare: Running) -> Callable[[], None]:
    return lambda: bare.process.send_signal(signal.SIGUSR1)


Subject: TypeAlias = tuple[Running, Crowd, Callable[[], object]]


def _deliveries(size: int, ours: Subject, theirs: Subject) -> list[Figure]:
    """Commits and bare messages take turns; the first pair warms up."""
    found: tuple[list[Delivery], list[Delivery]] = ([], [])
    cpu_us: tuple[list[float], list[float]] = ([], [])
    for number in range(COMMITS + 1):
        for place, (server, crowd, commit) in enumerate((ours, theirs)):
            cpu_s = server.cpu_s()
            delivery = crowd.deliver(commit)
            if number:
                found[place].append(delivery)
                cpu_us[place].append((server.cpu_s() - cpu_s) / size * 1e6)
    limit_ms = P99_GOALS_MS.get(size)
    goals = {"p99": None if limit_ms is None else Goal("value", LOWER, limit_ms)}
    waits = {
        label: [[getattr(each, f"{label}_ms") for each in one] for one in found] for label in ("p50", "p99", "last")
    }
    return [
        *(
            faster(f"{size:,} streams, commit to stream, {label}", mine, than=BARE, theirs=bare, unit="ms",
                   goal=goals.get(label))
            for label, (mine, bare) in waits.items()
        ),
        Figure(f"{size:,} streams, server CPU a message", "us", spread(cpu_us[0]), BARE, spread(cpu_us[1])),
    ]  # fmt: skip


def _stalled(crowd: Crowd, commit: Callable[[], object], say: Say) -> list[Figure]:
    """Rounds with and without streams that are not read, two on each connection, take turns."""
    without: list[Delivery] = []
    among: list[Delivery] = []
    ended = 0
    say(f"{STALLED_ROUNDS} rounds with {STALLED} stalled streams, and as many without")
    for _ in range(STALLED_ROUNDS):
        without += [crowd.deliver(commit) for _ in range(STALLED_COMMITS)]
        crowd.open(0, stalled=STALLED)
        among += [crowd.deliver(commit) for _ in range(STALLED_COMMITS)]
        ended += crowd.release()
    calm, busy = ([each.p99_ms for each in round_] for round_ in (without, among))
    middle = spread(calm).median
    name = f"{STALLED_AMONG:,} streams, {STALLED} stalled among them"
    note = f"the server ended {ended} of {STALLED * STALLED_ROUNDS} stalled streams before their round was over"
    return [
        faster(f"{name}, the others' p99", busy, than="none stalled", theirs=calm, unit="ms"),
        Figure(
            "the others' p99, times that without stalled ones (medians)", "", spread([spread(busy).median / middle]),
            goal=STALLED_GOAL, note=note,
        ),
    ]  # fmt: skip


def _evaluations(server: Running, change: Callable[[], object], say: Say) -> list[tuple[float, float]]:
    """The p50 and p99 of rounds of single evaluations at a fixed rate, while commits follow each other."""
    if shutil.which("h2load") is None:
        say("h2load is not installed: evaluations beside the streams are left out")
        return []
    say(f"{EVALUATIONS_PER_S} evaluations a second beside the commits: {EVALUATION_ROUNDS} rounds")
    request = evaluate_request()
    over = threading.Event()
    found: list[tuple[float, float]] = []

    def evaluate() -> None:
        try:
            for _ in range(EVALUATION_ROUNDS):
                waits = latencies_ms(server, EVALUATE, request, per_s=EVALUATIONS_PER_S, duration_s=EVALUATIONS_S)
                found.append((percentile(waits, 0.5), percentile(waits, 0.99)))
        finally:
            over.set()

    thread = threading.Thread(target=evaluate)
    thread.start()
    try:
        while not over.wait(COMMIT_EVERY_S):
            change()
    finally:
        thread.join()
    if len(found) != EVALUATION_ROUNDS:
        raise RuntimeError("the evaluations beside the streams failed")
    return found


def _evaluating(alone: list[tuple[float, float]], among: list[tuple[float, float]]) -> list[Figure]:
    served = f"{STALLED_AMONG:,} streams hear of a commit every {COMMIT_EVERY_S:g} s"
    name = f"evaluation at {EVALUATIONS_PER_S}/s while {served}"
    return [
        faster(
            f"{name}, {label}", [each[place] for each in among], than="no streams",
            theirs=[each[place] for each in alone], unit="ms", goal=goal,
        )
        for place, (label, goal) in enumerate((("p50", None), ("p99", EVALUATION_GOAL)))
        if alone
    ]  # fmt: skip
