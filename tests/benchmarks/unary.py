"""Compare single evaluations over gRPC with an empty grpc.aio handler that moves as many bytes."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from protos.flagd.evaluation.v2 import evaluation_pb2 as flagd
from protos.flagstaff.v1 import evaluation_pb2 as ours
from tests.benchmarks.figures import HIGHER, Figure, Goal, Say, faster, more
from tests.benchmarks.load import Load, Shape, ask_once, client_name, latencies_ms, percentile, send
from tests.benchmarks.processes import Running, import_document, serve, serve_nothing
from tests.benchmarks.samples import batch_document, context

ROUNDS: Final = 15
ROUND_CALLS: Final = 4_000
SATURATION: Final = Shape(connections=8, in_flight=16)
OPEN_PER_S: Final = 1_000
OPEN_S: Final = 4
OPEN_ROUNDS: Final = 3
FLAG: Final = "rule-tier"
GOAL: Final = Goal("ratio", HIGHER, 0.85)
EVALUATE: Final = "/flagstaff.v1.EvaluationService/Evaluate"
RESOLVE: Final = "/flagd.evaluation.v2.Service/ResolveBoolean"


def evaluate_request() -> bytes:
    """One flag with a rule, one context of six attributes."""
    request = ours.EvaluateRequest(flag_key=FLAG)
    request.context.update(context(1))
    return request.SerializeToString()


def resolve_request() -> bytes:
    """The same question in flagd's words."""
    request = flagd.ResolveBooleanRequest(flag_key=FLAG)
    request.context.update(context(1))
    return request.SerializeToString()


def run(say: Say) -> list[Figure]:
    """Requests a second at saturation, and latencies at a fixed rate; load comes from a process of its own."""
    requests = {EVALUATE: evaluate_request(), RESOLVE: resolve_request()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serve(import_document(batch_document(), folder)[0]))
        replies = {path: ask_once(server, path, request) for path, request in requests.items()}
        empty = stack.enter_context(serve_nothing(replies))
        figures: list[Figure] = []
        for path, request in requests.items():
            say(f"{path} by {client_name()}: {ROUNDS} rounds")
            figures += _compare(path, request, len(replies[path]), servers=(server, empty))
        if shutil.which("h2load"):
            say(f"{OPEN_PER_S} requests a second: {OPEN_ROUNDS} rounds of {OPEN_S} s")
            figures += _open_load(requests, servers=(server, empty))
        return figures


def _compare(path: str, request: bytes, reply_bytes: int, *, servers: tuple[Running, Running]) -> list[Figure]:
    loads: tuple[list[Load], list[Load]] = ([], [])
    for number in range(ROUNDS + 1):
        for server, mine in zip(servers, loads, strict=True):
            load = send(server, path, [request], reply_bytes=reply_bytes, count=ROUND_CALLS, shape=SATURATION)
            # The first round warms up.
            if number:
                mine.append(load)
    name, (ours_, empty) = path.rpartition("/")[2], loads
    than = "empty handler"
    return [
        more(name, [each.per_s for each in ours_], than=than, theirs=[each.per_s for each in empty], goal=GOAL),
        faster(
            f"{name}, server CPU a call", [each.cpu_us for each in ours_], than=than,
            theirs=[each.cpu_us for each in empty],
        ),
    ]  # fmt: skip


def _open_load(requests: dict[str, bytes], *, servers: tuple[Running, Running]) -> list[Figure]:
    figures: list[Figure] = []
    for path, request in requests.items():
        rounds = [
            [latencies_ms(server, path, request, per_s=OPEN_PER_S, duration_s=OPEN_S) for server in servers]
            for _ in range(OPEN_ROUNDS)
        ]
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            mine, theirs = ([percentile(one[place], share) for one in rounds] for place in (0, 1))
            name = f"{path.rpartition('/')[2]}, {label} at {OPEN_PER_S:,}/s"
            figures.append(faster(name, mine, than="empty handler", theirs=theirs, unit="ms"))
    return figures
