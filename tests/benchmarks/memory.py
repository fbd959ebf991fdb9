"""Watch memory over ten million evaluations in a process of their own, and over 100,000 calls of a server."""

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.benchmarks.figures import LOWER, Figure, Goal, Say, spread
from tests.benchmarks.load import Shape, ask_once, client_name, send
from tests.benchmarks.processes import ROOT, environment, import_document, serve
from tests.benchmarks.samples import batch_document
from tests.benchmarks.unary import EVALUATE, evaluate_request

CALLS: Final = 100_000
WARM_UP_CALLS: Final = 20_000
SHAPE: Final = Shape(connections=8, in_flight=16)
GOAL: Final = Goal("value", LOWER, 2)


def run(say: Say) -> list[Figure]:
    """Resident memory before and after, with the highest and lowest value between."""
    say("ten million evaluations")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.peers.drifting"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the evaluations ended with {done.returncode}: {done.stderr[-1_000:]}")
    return [
        _figure("drift over 10,000,000 evaluations", json.loads(done.stdout)),
        _figure(f"drift over {CALLS:,} unary calls", _calls(say)),
    ]


def _calls(say: Say) -> list[float]:
    request = evaluate_request()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serve(import_document(batch_document(), folder)[0]))
        reply_bytes = len(ask_once(server, EVALUATE, request))
        say(f"{CALLS:,} calls by {client_name()}")
        seen: list[float] = []
        for count in (WARM_UP_CALLS, *[CALLS // 5] * 5):
            send(server, EVALUATE, [request], reply_bytes=reply_bytes, count=count, shape=SHAPE)
            seen.append(server.resident_mb())
        return seen


def _figure(name: str, seen: list[float]) -> Figure:
    drift = [each - seen[0] for each in seen[1:]]
    note = f"{seen[0]:.1f} MB at first, {seen[-1]:.1f} MB at last"
    return Figure(name, "MB", spread(drift[-1:]), "highest on the way", spread([max(drift)]), goal=GOAL, note=note)
