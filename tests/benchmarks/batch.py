"""Measure EvaluateBatch end to end over loopback: 100 contexts of six attributes for ten flags of mixed kinds."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from protos.flagstaff.v1 import evaluation_pb2 as ours
from tests.benchmarks.figures import HIGHER, Figure, Goal, Say, more, spread
from tests.benchmarks.load import Load, Shape, ask_once, client_name, send
from tests.benchmarks.processes import import_document, serve, serve_nothing
from tests.benchmarks.samples import batch_document, contexts
from tests.benchmarks.unary import EVALUATE, SATURATION, evaluate_request

ROUNDS: Final = 7
CONTEXTS: Final = 100
ROUND_CALLS: Final = 1_500
ROUND_SINGLES: Final = 6_000
SHAPE: Final = Shape(connections=2, in_flight=4)
PATH: Final = "/flagstaff.v1.EvaluationService/EvaluateBatch"
GOAL: Final = Goal("value", HIGHER, 1_000_000)


def run(say: Say) -> list[Figure]:
    """Evaluations a second of server CPU and of wall time. The client only counts bytes: it decodes nothing."""
    flag_keys = list(batch_document()["flags"])
    request = ours.EvaluateBatchRequest(flag_keys=flag_keys)
    for each in contexts(CONTEXTS):
        request.contexts.add().update(each)
    raw, single = request.SerializeToString(), evaluate_request()
    evaluation_count = CONTEXTS * len(flag_keys)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serve(import_document(batch_document(), folder)[0]))
        reply, single_reply = ask_once(server, PATH, raw), ask_once(server, EVALUATE, single)
        _check(reply, evaluation_count)
        empty = stack.enter_context(serve_nothing({PATH: reply}))
        say(f"{len(raw):,} bytes asked, {len(reply):,} answered, by {client_name()}: {ROUNDS} rounds")
        batches: list[Load] = []
        constants: list[Load] = []
        singles: list[Load] = []
        for number in range(ROUNDS + 1):
            round_ = (
                send(server, PATH, [raw], reply_bytes=len(reply), count=ROUND_CALLS, shape=SHAPE),
                send(empty, PATH, [raw], reply_bytes=len(reply), count=ROUND_CALLS, shape=SHAPE),
                send(server, EVALUATE, [single], reply_bytes=len(single_reply), count=ROUND_SINGLES, shape=SATURATION),
            )
            if number:
                for load, kept in zip(round_, (batches, constants, singles), strict=True):
                    kept.append(load)
    per_core = [evaluation_count / load.cpu_us * 1e6 for load in batches]
    alone = [1e6 / load.cpu_us for load in singles]
    wall = [load.per_s * evaluation_count for load in batches]
    transport = [constant.cpu_us / load.cpu_us for constant, load in zip(constants, batches, strict=True)]
    unit = " evaluations/s"
    return [
        more(
            "evaluations a second and core", per_core, than="Evaluate, one by one", theirs=alone, unit=unit, goal=GOAL
        ),
        Figure("evaluations a second, wall", unit, spread(wall)),
        Figure("part of the server's time that an empty handler needs too", "", spread(transport)),
    ]


def _check(reply: bytes, evaluation_count: int) -> None:
    answer = ours.EvaluateBatchResponse.FromString(reply)
    if len(answer.indices) != evaluation_count or any(each.error_message for each in answer.resolutions):
        raise RuntimeError("the batch was not answered as it should be; its figures would say nothing")
