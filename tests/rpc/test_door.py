"""The grpc.aio door: what it makes of a table, a call, and a client that misbehaves."""

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from struct import iter_unpack
from typing import Any

import grpc
import grpc.aio
import pytest

from server.core.errors import Conflict, InvalidRequest, NotFound, StoreCorrupt, StoreUnavailable, TooLarge
from server.rpc.call import Abort, Call
from server.rpc.doors.grpcio import (
    CONCURRENT_STREAMS_MAX,
    MESSAGE_BYTES_MAX,
    AddressUnavailable,
    GrpcServer,
    server_options,
)
from server.rpc.drain import Drain
from server.rpc.status import STATUS_BY_CODE, STATUS_BY_ERROR_CODE, Status
from server.rpc.table import Handler, bidi, merge, server_stream, services, unary_async, unary_sync
from tests.fakes import answer, static_flag, struct
from tests.ports import low_ports
from tests.rpc.conftest import Serve, connect

PATH = "/test.Service/Method"


def echo(raw: bytes, call: Call) -> bytes:
    """Give back what came."""
    return raw


def test_paths_are_served_once() -> None:
    """Two tables with the same path cannot be joined."""
    table = {PATH: unary_sync(echo)}

    assert {PATH, "/a.B/C"} == set(merge(table, {"/a.B/C": unary_sync(echo)}))
    assert ("a.B", "test.Service") == services({PATH: unary_sync(echo), "/a.B/C": unary_sync(echo)})
    with pytest.raises(ValueError, match=PATH):
        merge(table, table)


def raising(error: Exception) -> dict[str, Handler]:
    """A table whose every kind of handler raises."""

    def at_once(raw: bytes, call: Call) -> bytes:
        raise error

    async def later(raw: bytes, call: Call) -> bytes:
        raise error

    async def streaming(raw: Any, call: Call) -> AsyncIterator[bytes]:
        raise error
        yield b""

    return {
        "/k/unary_sync": unary_sync(at_once),
        "/k/unary_async": unary_async(later),
        "/k/server_stream": server_stream(streaming),
        "/k/bidi": bidi(streaming),
    }


KINDS = ["unary_sync", "unary_async", "server_stream", "bidi"]


async def end_of(serve: Serve, error: Exception, kind: str) -> Any:
    """Call a handler that raises; the call, which has ended."""
    running = await serve(table=raising(error))
    if kind == "bidi":
        call: Any = running.channel.stream_stream(f"/k/{kind}", None, None)(timeout=5)
        await call.done_writing()
    else:
        call = running.channel.unary_stream(f"/k/{kind}", None, None)(b"", timeout=5)
    await call.code()
    return call


@pytest.mark.parametrize("kind", KINDS)
async def test_abort_has_status_details_and_trailers(serve: Serve, kind: str) -> None:
    """Abort's status, UTF-8 message, details and trailers reach the client."""
    abort = Abort(Status.FAILED_PRECONDITION, "größer", b"\x08\x09", [("x-why", "because")])
    call = await end_of(serve, abort, kind)
    trailers = dict(await call.trailing_metadata())

    assert (grpc.StatusCode.FAILED_PRECONDITION, "größer") == (await call.code(), await call.details())
    assert (b"\x08\x09", "because") == (trailers["grpc-status-details-bin"], trailers["x-why"])


@pytest.mark.parametrize("kind", KINDS)
async def test_uncaught_error_is_internal(serve: Serve, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of ours is INTERNAL with an id that stands once in the log; its text stays here."""
    call = await end_of(serve, RuntimeError("secret"), kind)
    message = await call.details()
    (logged,) = [record for record in caplog.records if record.levelno >= logging.WARNING]

    assert (grpc.StatusCode.INTERNAL, False) == (await call.code(), "secret" in message)
    assert logged.getMessage().rpartition(" ")[2] in message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFound("x"), grpc.StatusCode.NOT_FOUND),
        (Conflict("x"), grpc.StatusCode.ALREADY_EXISTS),
        (TooLarge("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (StoreUnavailable("x"), grpc.StatusCode.UNAVAILABLE),
        (StoreCorrupt("x"), grpc.StatusCode.DATA_LOSS),
        (Abort(Status.OK, "x"), grpc.StatusCode.INTERNAL),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_errors_of_the_core_have_their_status(serve: Serve, error: Exception, status: grpc.StatusCode) -> None:
    """What Flagstaff refuses is said with the status of its code."""
    call = await end_of(serve, error, "unary_sync")

    assert (status, "x") == (await call.code(), await call.details())


def test_no_error_is_unknown() -> None:
    """UNKNOWN is retried by flagd's providers, so nothing maps to it."""
    assert Status.UNKNOWN not in {*STATUS_BY_CODE.values(), *STATUS_BY_ERROR_CODE.values()}
    assert [code.value[0] for code in grpc.StatusCode] == list(Status)


async def test_call_is_known_to_its_handler(serve: Serve) -> None:
    """A handler sees metadata, deadline and peer, and sends metadata first and last."""
    seen: list[Any] = []

    def look(raw: bytes, call: Call) -> bytes:
        seen.extend([call.metadata("x-text"), call.metadata("x-bin"), call.metadata("absent"), call.peer[:4]])
        seen.append(call.deadline_s())
        call.initial_metadata.append(("x-first", "1"))
        call.trailing_metadata.append(("x-last", "2"))
        return raw

    running = await serve(table={PATH: unary_sync(look)})
    call: Any = running.channel.unary_unary(PATH)(b"", metadata=(("x-text", "hello"), ("x-bin", b"\x00")), timeout=5)
    await call
    first, last = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    await running.call(PATH)

    assert ["hello", None, None, "ipv4"] == seen[:4]
    # Not 5: the library reckons it with the wall clock, which may be set meanwhile.
    assert 0 < seen[4] < 60
    assert seen[9] is None
    assert ("1", "2") == (first["x-first"], last["x-last"])


async def test_stream_metadata(serve: Serve) -> None:
    """A stream sends its metadata before the first message and with the status."""

    async def stream(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        call.initial_metadata.append(("x-first", "1"))
        yield b"a"
        call.trailing_metadata.append(("x-last", "2"))

    running = await serve(table={PATH: server_stream(stream)})
    call: Any = running.channel.unary_stream(PATH)(b"", timeout=5)

    assert "1" == dict(await call.initial_metadata())["x-first"]
    assert [b"a"] == [each async for each in call]
    assert "2" == dict(await call.trailing_metadata())["x-last"]


async def test_unknown_method(serve: Serve) -> None:
    """A method that is not in the table is UNIMPLEMENTED."""
    running = await serve()

    assert grpc.StatusCode.UNIMPLEMENTED is (await running.refused("/flagd.evaluation.v2.Service/ResolveAll"))[0]


async def test_deadline(serve: Serve) -> None:
    """A handler that waits longer than its caller is cancelled."""
    cancelled = asyncio.Event()

    async def wait(raw: bytes, call: Call) -> bytes:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return raw

    running = await serve(table={PATH: unary_async(wait)})

    assert grpc.StatusCode.DEADLINE_EXCEEDED is (await running.refused(PATH, timeout=0.1))[0]
    await asyncio.wait_for(cancelled.wait(), 5)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_message_size_bound(serve: Serve, compression: grpc.Compression) -> None:
    """A message of exactly the bound is taken, one byte more is RESOURCE_EXHAUSTED, also when it was compressed."""
    running = await serve(table={PATH: unary_sync(lambda raw, call: b"%d" % len(raw))})

    assert b"%d" % MESSAGE_BYTES_MAX == await running.call(PATH, bytes(MESSAGE_BYTES_MAX), compression=compression)
    status, _ = await running.refused(PATH, bytes(MESSAGE_BYTES_MAX + 1), compression=compression)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is status


async def test_many_calls_on_one_connection(serve: Serve) -> None:
    """10,000 calls on one connection are all answered."""
    from protos.flagstaff.v1 import evaluation_pb2 as ours

    running = await serve(static_flag(answer("f", True)))
    request = ours.EvaluateRequest(flag_key="f", context=struct({"a": 1})).SerializeToString()
    method = running.channel.unary_unary("/flagstaff.v1.EvaluationService/Evaluate")

    async def ask_in_turn() -> set[bytes]:
        return {await method(request) for _ in range(250)}

    replies = await asyncio.gather(*(ask_in_turn() for _ in range(40)))

    assert 1 == len(set[bytes]().union(*replies))


async def test_taken_port_fails_loudly() -> None:
    """A second server on a port fails at start, names the address, and leaves the first alone."""
    first, second = (GrpcServer({PATH: unary_sync(echo)}, Drain()) for _ in range(2))
    (port,) = await first.start(["127.0.0.1:0"])
    with pytest.raises(AddressUnavailable, match=f"127.0.0.1:{port}"):
        await second.start(["127.0.0.1:0", f"127.0.0.1:{port}"])
    async with connect(port) as channel:
        assert b"x" == await channel.unary_unary(PATH)(b"x")
    await first.stop()


async def test_several_addresses_one_server() -> None:
    """Every address serves the same; an address that is given twice is listened on once."""
    server = GrpcServer({PATH: unary_sync(echo)}, Drain())
    (fixed,) = low_ports(1)
    ports = await server.start(["127.0.0.1:0", f"127.0.0.1:{fixed}", f"127.0.0.1:{fixed}", "127.0.0.1:0"])
    for port in ports:
        async with connect(port) as channel:
            assert b"x" == await channel.unary_unary(PATH)(b"x")
    await server.stop()

    assert fixed == ports[1] == ports[2]
    assert 3 == len(set(ports))


async def test_keep_alive_pings_are_tolerated(serve: Serve) -> None:
    """A client that pings every second, without any call, keeps its connection."""
    running = await serve(table={PATH: unary_sync(echo)})
    options = [
        ("grpc.keepalive_time_ms", 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with connect(running.port, *options) as channel:
        await channel.unary_unary(PATH)(b"x")
        ready = channel.get_state()
        left = asyncio.create_task(channel.wait_for_state_change(ready))
        done, _ = await asyncio.wait([left], timeout=4.5)
        left.cancel()

    assert (grpc.ChannelConnectivity.READY, set()) == (ready, done)


async def test_reconnect_storm_loses_nobody(serve: Serve) -> None:
    """More streams at once than the core would accept by default are all served."""
    running = await serve()
    channels = [connect(running.port) for _ in range(20)]
    path = "/flagd.evaluation.v2.Service/EventStream"
    calls: list[Any] = [each.unary_stream(path)(b"", timeout=30) for each in channels for _ in range(100)]
    first = await asyncio.gather(*(call.read() for call in calls))
    for call in calls:
        call.cancel()
    for channel in channels:
        await channel.close(None)

    assert {b"\x0a\x0eprovider_ready"} == set(first)


async def test_client_that_does_not_read_is_sent_away(serve: Serve) -> None:
    """After the longest that a message waits; its handler ends, others are served, and it learns why when it reads."""
    ended = asyncio.Event()

    async def endless(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            ended.set()

    running = await serve(table={"/s/Stream": server_stream(endless), PATH: unary_sync(echo)}, write_stall_s=0.5)
    stream: Any = running.channel.unary_stream("/s/Stream")(b"", timeout=30)
    await stream.read()
    await asyncio.wait_for(ended.wait(), 20)

    assert b"x" == await running.call(PATH, b"x")
    with pytest.raises(grpc.aio.AioRpcError, match=r"the client has not read for 0\.5 s") as told:
        while True:
            await stream.read()
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is told.value.code()
    await asyncio.wait_for(running.server.drain(delay_s=0, grace_s=20), 10)


async def test_old_connection_is_replaced_without_a_failed_call(serve: Serve) -> None:
    """A client is asked to connect anew, perhaps to another server; its calls go on."""
    running = await serve(table={PATH: unary_sync(lambda raw, call: call.peer.encode())}, connection_age_s=0.3)
    first = await running.call(PATH)
    async with asyncio.timeout(20):
        while await running.call(PATH, timeout=5) == first:
            await asyncio.sleep(0.02)


async def test_streams_of_a_connection_are_limited(serve: Serve) -> None:
    """The server announces its limit of streams when a client connects: the defence against floods of resets."""
    running = await serve(table={PATH: unary_sync(echo)})
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
    header = await asyncio.wait_for(reader.readexactly(9), 5)
    payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
    writer.close()
    settings = dict(iter_unpack(">HI", payload))

    # Frame type 4 is SETTINGS; setting 3 is MAX_CONCURRENT_STREAMS.
    assert (4, CONCURRENT_STREAMS_MAX) == (header[3], settings[3])


def test_options_are_those_of_the_installed_core() -> None:
    """The core ignores names that it does not know, so each name is looked up in its binary."""
    binary = Path(str(importlib.import_module("grpc._cython.cygrpc").__file__)).read_bytes()
    names = [name for name, _ in server_options(connection_age_s=1) if name.encode() not in binary]

    assert [] == names
