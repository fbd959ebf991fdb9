"""Compare single evaluations of OFREP with an empty handler of Starlette on uvicorn that moves as many bytes."""

import json
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.benchmarks.figures import HIGHER, Figure, Goal, Say, faster, more
from tests.benchmarks.load import Load, post
from tests.benchmarks.processes import HOST, Running, import_document, serve, serve_nothing_over_http
from tests.benchmarks.samples import batch_document, context
from tests.benchmarks.unary import FLAG

ROUNDS: Final = 11
ROUND_REQUESTS: Final = 2_000
CONNECTIONS: Final = 32
PATH: Final = f"/ofrep/v1/evaluate/flags/{FLAG}"
GOAL: Final = Goal("ratio", HIGHER, 0.7)


def run(say: Say) -> list[Figure]:
    """Requests a second at saturation and server CPU a request; both servers take their turn in every round."""
    body = json.dumps({"context": context(1)}).encode()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serve(import_document(batch_document(), folder)[0]))
        reply = _ask(server, body)
        empty = stack.enter_context(serve_nothing_over_http(reply))
        say(f"{len(body)} bytes asked, {len(reply)} answered, on {CONNECTIONS} connections: {ROUNDS} rounds")
        loads: tuple[list[Load], list[Load]] = ([], [])
        for number in range(ROUNDS + 1):
            for each, mine in zip((server, empty), loads, strict=True):
                load = post(
                    each, PATH, body, reply_bytes=len(reply), count=ROUND_REQUESTS, connections=CONNECTIONS
                )  # fmt: skip
                # The first round warms up.
                if number:
                    mine.append(load)
    ours, theirs = loads
    than = "empty Starlette handler"
    return [
        more(
            "single evaluation", [load.per_s for load in ours], than=than, theirs=[load.per_s for load in theirs],
            goal=GOAL,
        ),
        faster(
            "single evaluation, server CPU a request", [load.cpu_us for load in ours], than=than,
            theirs=[load.cpu_us for load in theirs], goal=GOAL,
        ),
    ]  # fmt: skip


def _ask(server: Running, body: bytes) -> bytes:
    url = f"http://{HOST}:{server.hello['http_port']}{PATH}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        reply: bytes = response.read()
    if "value" not in json.loads(reply):
        raise RuntimeError(f"the evaluation failed, its figures would say nothing: {reply!r}")
    return reply
