"""EvaluateStream: replies by id and in order, and a bad message that harms no other."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
import pytest

from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.flags import ValueType
from server.core.limits import CONTEXT_BYTES_MAX
from server.core.resolution import Resolution
from server.rpc.convert import field, varint
from server.rpc.doors.grpcio import MESSAGE_BYTES_MAX
from tests.fakes import answer, chooses, rule_flag, static_flag
from tests.rpc.conftest import Running, Serve

PATH = "/flagstaff.v1.EvaluationService/EvaluateStream"


def message(identifier: int, key: str = "f", **fields: Any) -> bytes:
    """One request of a stream."""
    return ours.EvaluateStreamRequest(id=identifier, flag_key=key, **fields).SerializeToString()


def open_stream(running: Running) -> Any:
    """The streaming method, with bytes in and out; the stubs know only one of its two styles."""
    return running.channel.stream_stream(PATH, None, None)


async def talk(running: Running, *messages: bytes) -> list[ours.EvaluateStreamResponse]:
    """Send messages, then read all replies."""
    stream: Any = open_stream(running)(timeout=20)
    for raw in messages:
        await stream.write(raw)
    await stream.done_writing()
    return [ours.EvaluateStreamResponse.FromString(raw) async for raw in stream]


async def test_replies_carry_their_ids_in_order(serve: Serve) -> None:
    """Each reply has the id of its request, and they come in the order of the requests."""
    running = await serve(chooses("f", "n", lambda n: n > 50))
    replies = await talk(running, *(message(n, context={"n": n % 100}) for n in range(300)))

    assert [(n, n % 100 > 50) for n in range(300)] == [(each.id, each.resolution.bool_value) for each in replies]
    assert {(7, "default/production")} == {(each.revision, each.flag_set) for each in replies}


async def test_ids_have_all_64_bits(serve: Serve) -> None:
    """An id is whatever the caller chose."""
    running = await serve(static_flag(answer("f", True)))

    assert [0, 2**64 - 1] == [each.id for each in await talk(running, message(0), message(2**64 - 1))]


@pytest.mark.parametrize(
    ("raw", "identifier", "code"),
    [
        (b"\x08\x05\x12\x02\xff\xfe", 5, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x08" + varint(2**64 - 1) + b"\x1a\x7f", 2**64 - 1, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\xff\xff\xff", 0, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x08" + b"\xff" * 12, 0, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x08\x06" + field(3, b"\x0a\x05"), 6, grpc.StatusCode.INVALID_ARGUMENT),
        (message(7, context={"a": "x" * CONTEXT_BYTES_MAX}), 7, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (message(8, flag_set="no/no"), 8, grpc.StatusCode.NOT_FOUND),
        (message(9) + b"\x28\x63", 9, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["key not UTF-8", "cut", "garbage", "endless id", "bad context", "large", "unknown set", "unknown type"],
)
async def test_bad_message_harms_no_other(serve: Serve, raw: bytes, identifier: int, code: grpc.StatusCode) -> None:
    """A bad message is answered under its id as far as that can be read, and the stream goes on."""
    running = await serve(static_flag(answer("f", True)))
    before, bad, after = await talk(running, message(1), raw, message(2))

    assert (identifier, code.value[0]) == (bad.id, bad.error.code)
    assert bad.error.message
    assert [(1, True), (2, True)] == [(each.id, each.resolution.bool_value) for each in (before, after)]


async def test_unknown_flag_is_an_answer(serve: Serve) -> None:
    """What goes wrong with a flag stands in its resolution, as in Evaluate."""
    (reply,) = await talk(await serve(), message(3, "gone"))

    assert ours.ERROR_CODE_FLAG_NOT_FOUND == reply.resolution.error_code


async def test_reply_comes_before_the_next_message(serve: Serve) -> None:
    """A caller may wait for each reply before it sends on."""
    running = await serve(static_flag(answer("f", True)))
    stream: Any = open_stream(running)(timeout=20)
    for identifier in range(1, 20):
        await stream.write(message(identifier))
        assert identifier == ours.EvaluateStreamResponse.FromString(await stream.read()).id
    await stream.done_writing()

    assert grpc.aio.EOF is await stream.read()  # type: ignore[attr-defined]
    assert grpc.StatusCode.OK is await stream.code()


async def test_cancelled_streams_leave_the_server_well(serve: Serve) -> None:
    """Streams that are cancelled while messages are under way, in both directions, harm nobody."""
    running = await serve(static_flag(answer("f", True)))
    for _ in range(30):
        stream: Any = open_stream(running)()
        for identifier in range(40):
            await stream.write(message(identifier))
        stream.cancel()
    await asyncio.sleep(0.1)

    assert [1] == [each.id for each in await talk(running, message(1))]


async def test_message_that_is_too_large_ends_only_its_stream(serve: Serve) -> None:
    """A message beyond the door's bound ends its stream with RESOURCE_EXHAUSTED; other streams go on."""
    running = await serve(static_flag(answer("f", True)))
    other: Any = open_stream(running)(timeout=20)
    await other.write(message(1))
    stream: Any = open_stream(running)(timeout=20)
    await stream.write(bytes(MESSAGE_BYTES_MAX + 1))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is await stream.code()
    assert 1 == ours.EvaluateStreamResponse.FromString(await other.read()).id
    other.cancel()


async def test_slow_reader_holds_a_bounded_part(serve: Serve) -> None:
    """A caller that sends without reading is stopped by flow control, and gets every reply once it reads."""
    result = answer("f", "x" * 50_000)
    evaluated = 0

    def evaluate(context: Mapping[str, Any], now: int) -> Resolution:
        nonlocal evaluated
        evaluated += 1
        return result

    running = await serve(rule_flag("f", evaluate, reads=[], type_=ValueType.STRING))
    stream: Any = open_stream(running)(timeout=30)

    async def send() -> None:
        for identifier in range(1, 401):
            await stream.write(message(identifier))
        await stream.done_writing()

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.5)
    assert evaluated < 300
    replies = [ours.EvaluateStreamResponse.FromString(raw).id async for raw in stream]
    await sending

    assert list(range(1, 401)) == replies
