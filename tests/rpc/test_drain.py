"""A server that is told to stop: who is told what, and in which order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from protos.flagd.evaluation.v2 import evaluation_pb2 as v2
from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.rpc.call import Call
from server.rpc.table import bidi, server_stream, unary_async
from tests.fakes import answer, static_flag
from tests.rpc.conftest import Serve, connect

WAIT = "/test.Service/Wait"
CHECK = "/grpc.health.v1.Health/Check"


async def test_call_in_flight_finishes(serve: Serve) -> None:
    """A call that was under way when the drain began is answered."""
    release = asyncio.Event()

    async def wait(raw: bytes, call: Call) -> bytes:
        await release.wait()
        return b"done"

    running = await serve(table={WAIT: unary_async(wait)})
    call = asyncio.create_task(running.call(WAIT))
    await asyncio.sleep(0.1)
    drain = asyncio.create_task(running.server.drain(delay_s=0.05, grace_s=60))
    await asyncio.sleep(0.3)
    release.set()

    assert b"done" == await call
    await asyncio.wait_for(drain, 50)


async def test_clients_are_told_first(serve: Serve) -> None:
    """During the delay health says NOT_SERVING while calls are still taken and streams are still open."""
    running = await serve(static_flag(answer("f", True)))
    events: Any = running.channel.unary_stream("/flagd.evaluation.v2.Service/EventStream")(b"", timeout=60)
    await events.read()
    # Longer than any machine needs for what follows; the rest of it is not waited for.
    drain = asyncio.create_task(running.server.drain(delay_s=600, grace_s=5))
    await asyncio.sleep(0)
    health = health_pb2.HealthCheckResponse.FromString(await running.call(CHECK))
    reply = await running.call(
        "/flagstaff.v1.EvaluationService/Evaluate", ours.EvaluateRequest(flag_key="f").SerializeToString()
    )

    assert health_pb2.HealthCheckResponse.NOT_SERVING == health.status
    assert ours.EvaluateResponse.FromString(reply).resolution.bool_value
    assert not events.done()
    assert not drain.done()
    drain.cancel()


async def test_streams_are_ended_by_us(serve: Serve) -> None:
    """Each kind of stream hears of the end and ends with a status of ours, long before the grace is over."""
    running = await serve(static_flag(answer("f", True)))
    events: Any = running.channel.unary_stream("/flagd.evaluation.v2.Service/EventStream")(b"", timeout=60)
    watch: Any = running.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
    evaluate: Any = running.channel.stream_stream("/flagstaff.v1.EvaluationService/EvaluateStream")(timeout=60)
    reflect: Any = running.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(
        timeout=60
    )
    await asyncio.gather(events.read(), watch.read())
    await evaluate.write(ours.EvaluateStreamRequest(id=1, flag_key="f").SerializeToString())
    await evaluate.read()
    await reflect.write(b"\x3a\x00")
    await reflect.read()
    started = asyncio.get_running_loop().time()
    await running.server.drain(delay_s=0.1, grace_s=60)
    took_s = asyncio.get_running_loop().time() - started

    assert health_pb2.HealthCheckResponse(status=2).SerializeToString() == await watch.read()
    assert "configuration_change" == v2.EventStreamResponse.FromString(await events.read()).type
    assert "provider_shutdown" == v2.EventStreamResponse.FromString(await events.read()).type
    assert [grpc.StatusCode.OK] * 2 == [await each.code() for each in (watch, reflect)]
    # Not OK, after which flagd's Node provider would never come back.
    assert [grpc.StatusCode.UNAVAILABLE] * 2 == [await each.code() for each in (events, evaluate)]
    assert ["new stream" in await each.details() for each in (events, evaluate)] == [True, True]
    assert took_s < 30


async def test_messages_already_read_are_answered(serve: Serve) -> None:
    """What the server has read of a stream when the drain begins is answered before the stream ends."""
    running = await serve(static_flag(answer("f", True)))
    stream: Any = running.channel.stream_stream("/flagstaff.v1.EvaluationService/EvaluateStream")(timeout=60)
    for identifier in range(1, 11):
        await stream.write(ours.EvaluateStreamRequest(id=identifier, flag_key="f").SerializeToString())
    await running.server.drain(delay_s=2, grace_s=5)
    replies = []
    with pytest.raises(grpc.aio.AioRpcError):
        async for raw in stream:
            replies.append(ours.EvaluateStreamResponse.FromString(raw).id)

    assert list(range(1, 11)) == replies


async def test_drain_is_bounded(serve: Serve) -> None:
    """Calls and streams that never end are cut off when the grace is over."""

    async def never(raw: Any, call: Call) -> bytes:
        await asyncio.sleep(3_600)
        return b""

    async def endless(raw: Any, call: Call) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(3_600)

    table = {WAIT: unary_async(never), "/s/Stream": server_stream(endless), "/s/Bidi": bidi(endless)}
    running = await serve(table=table)
    call = asyncio.create_task(running.call(WAIT))
    stream: Any = running.channel.unary_stream("/s/Stream")(b"")
    both: Any = running.channel.stream_stream("/s/Bidi")()
    await asyncio.gather(stream.read(), both.read())
    started = asyncio.get_running_loop().time()
    await running.server.drain(delay_s=0.0, grace_s=0.5)

    assert asyncio.get_running_loop().time() - started < 2
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    assert grpc.StatusCode.OK not in (await stream.code(), await both.code())


async def test_new_connection_is_refused_after_the_drain(serve: Serve) -> None:
    """After the drain a client is sent elsewhere at once."""
    running = await serve()
    await running.server.drain(delay_s=0.0, grace_s=1)
    async with connect(running.port) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(CHECK)(b"", timeout=5)

    assert grpc.StatusCode.UNAVAILABLE is refused.value.code()
