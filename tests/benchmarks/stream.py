"""Compare EvaluateStream with single calls: the same evaluation, as messages of a stream."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc

from protos.flagstaff.v1 import evaluation_pb2 as ours
from tests.benchmarks.figures import HIGHER, Figure, Goal, Say, faster, more
from tests.benchmarks.load import Load, Shape, ask_once, client_name, send
from tests.benchmarks.processes import HOST, Running, import_document, serve
from tests.benchmarks.samples import batch_document, context
from tests.benchmarks.unary import EVALUATE, FLAG, SATURATION, evaluate_request

ROUNDS: Final = 7
STREAM_MESSAGES: Final = 500
ROUND_STREAMS: Final = 48
ROUND_SINGLES: Final = 8_000
SHAPE: Final = Shape(connections=4, in_flight=4)
PATH: Final = "/flagstaff.v1.EvaluationService/EvaluateStream"
GOAL: Final = Goal("ratio", HIGHER, 2)


def run(say: Say) -> list[Figure]:
    """Messages a second of streams that are written without waiting for answers, beside calls a second."""
    messages, single = _messages(), evaluate_request()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serve(import_document(batch_document(), folder)[0]))
        single_bytes = len(ask_once(server, EVALUATE, single))
        stream_bytes = _reply_bytes(server, messages)
        say(f"{STREAM_MESSAGES} messages a stream, by {client_name()}: {ROUNDS} rounds")
        streams: list[Load] = []
        singles: list[Load] = []
        for number in range(ROUNDS + 1):
            stream = send(server, PATH, messages, reply_bytes=stream_bytes, count=ROUND_STREAMS, shape=SHAPE)
            unary = send(server, EVALUATE, [single], reply_bytes=single_bytes, count=ROUND_SINGLES, shape=SATURATION)
            if number:
                streams.append(stream)
                singles.append(unary)
    rates = [load.per_s * STREAM_MESSAGES for load in streams]
    costs = [load.cpu_us / STREAM_MESSAGES for load in streams]
    than = "Evaluate"
    return [
        more("messages a second", rates, than=than, theirs=[load.per_s for load in singles], goal=GOAL),
        faster("server CPU a message", costs, than=than, theirs=[load.cpu_us for load in singles]),
    ]


def _messages() -> list[bytes]:
    messages = []
    for number in range(1, STREAM_MESSAGES + 1):
        message = ours.EvaluateStreamRequest(id=number, flag_key=FLAG)
        message.context.update(context(1))
        messages.append(message.SerializeToString())
    return messages


def _reply_bytes(server: Running, messages: list[bytes]) -> int:
    """What one stream answers in all; every message of it is answered, and none with an error."""
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        replies: list[bytes] = list(channel.stream_stream(PATH, None, None)(iter(messages), timeout=60))
    answers = [ours.EvaluateStreamResponse.FromString(reply) for reply in replies]
    if [answer.id for answer in answers] != list(range(1, STREAM_MESSAGES + 1)):
        raise RuntimeError("the stream was not answered message by message; its figures would say nothing")
    return sum(map(len, replies))
