"""Compare two workers with one: calls a second, CPU a call, and how soon each serves another process's commit."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.benchmarks.crowd import Changing, Crowd
from tests.benchmarks.figures import HIGHER, LOWER, Figure, Goal, Say, faster, more, spread
from tests.benchmarks.load import Load, Shape, ask_once, client_name, percentile, send
from tests.benchmarks.processes import import_document, serve
from tests.benchmarks.samples import batch_document
from tests.benchmarks.unary import EVALUATE, evaluate_request

WORKERS: Final = 2
ROUNDS: Final = 11
ROUND_CALLS: Final = 6_000
SHAPE: Final = Shape(connections=32, in_flight=4)
"""Connections are spread by chance: with many, each worker gets about as many."""

COMMITS: Final = 100
WITNESSES: Final = 40
"""Streams, each on a connection of its own, so that every worker has some."""

CHANGED: Final = "static-boolean"
GOAL: Final = Goal("ratio", HIGHER, 1.6)
SEEN_GOAL: Final = Goal("value", LOWER, 150)


def run(say: Say) -> list[Figure]:
    """Both servers take their turn in every round. The client needs a core too: of two cores, the rate tells little."""
    document, request = batch_document(), evaluate_request()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = import_document(document, folder)[0]
        one = stack.enter_context(serve(url))
        many = stack.enter_context(serve(url, "--workers", str(WORKERS)))
        reply_bytes = len(ask_once(one, EVALUATE, request))
        say(f"{EVALUATE} by {client_name()}: {ROUNDS} rounds")
        loads: tuple[list[Load], list[Load]] = ([], [])
        for number in range(ROUNDS + 1):
            for server, mine in zip((many, one), loads, strict=True):
                load = send(server, EVALUATE, [request], reply_bytes=reply_bytes, count=ROUND_CALLS, shape=SHAPE)
                # The first round warms up.
                if number:
                    mine.append(load)
        say(f"{COMMITS} commits, heard of on {WITNESSES} connections of {WORKERS} workers")
        changing = stack.enter_context(Changing(url, CHANGED, document["flags"][CHANGED]))
        crowd = stack.enter_context(Crowd(many, connections=WITNESSES))
        crowd.open(WITNESSES)
        waits = sorted(crowd.deliver(changing.commit).last_ms for _ in range(COMMITS))
    mine, theirs = loads
    than, name = "one worker", f"Evaluate, {WORKERS} workers"
    return [
        replace(
            more(name, [load.per_s for load in mine], than=than, theirs=[load.per_s for load in theirs], goal=GOAL),
            note=_left_to_the_workers(mine),
        ),
        Figure(
            f"{name}, cores that the client kept busy", "", spread([load.client_cores for load in mine]), than,
            spread([load.client_cores for load in theirs]),
        ),
        faster(
            f"{name}, server CPU a call", [load.cpu_us for load in mine], than=than,
            theirs=[load.cpu_us for load in theirs],
        ),
        Figure(f"commit to every worker, p99 of {COMMITS}", "ms", spread([percentile(waits, 0.99)]), goal=SEEN_GOAL),
        Figure("commit to every worker", "ms", spread(waits)),
    ]  # fmt: skip


def _left_to_the_workers(loads: Sequence[Load]) -> str:
    cores, client = os.cpu_count() or 1, spread([load.client_cores for load in loads]).median
    left = f"of {cores} cores the client took {client:.2f}, {client / cores:.0%}, and left {cores - client:.2f}"
    return f"{left}; the goal is for machines that leave {WORKERS} to {WORKERS} workers"
