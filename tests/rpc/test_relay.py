"""Calls of what is managed are passed on to another process as if it had been asked itself."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from server.core.access import OPEN, Grant, Principal, Role
from server.core.errors import Limited, NotFound, StoreUnavailable
from server.rpc.call import Call
from server.rpc.doors.grpcio import GrpcServer
from server.rpc.doors.relay import Relay
from server.rpc.drain import Drain
from server.rpc.relay import decode_principal, encode_principal, received
from server.rpc.table import Table, bidi, server_stream, unary_async, unary_sync
from tests.rpc.conftest import Running, Serve, relaying

PATH = "/test.Service/Method"


@pytest.mark.parametrize(
    "principal",
    [
        OPEN,
        Principal("oidc:zoë", (Grant(Role.EDIT, "shop"), Grant(Role.READ, "shop", "staging"))),
        Principal("token:x"),
    ],
)
def test_a_principal_is_passed_on(principal: Principal) -> None:
    """Whole: what it may is decided where the change is made, too; in ASCII, as metadata is."""
    text = encode_principal(principal)

    assert text.isascii()
    assert principal == decode_principal(text)


async def test_the_caller_is_the_one_that_was_admitted(serve: Serve) -> None:
    """And nobody whom a client names in the headers that the processes use between them."""
    somebody = Principal("token:somebody", (Grant(Role.READ),))

    async def told(raw: bytes, call: Call) -> bytes:
        return raw + call.principal.actor.encode()

    async with relaying({PATH: unary_async(told)}) as passed_on:
        running = await serve(table=_as(somebody, passed_on))
        forged = (("flagstaff-principal", encode_principal(OPEN)),)

        assert b"I am token:somebody" == await running.call(PATH, b"I am ", metadata=forged)


async def test_a_caller_may_have_more_roles_than_headers_usually_hold(serve: Serve) -> None:
    """Thousands of them are no reason to refuse a call."""
    grants = tuple(Grant(Role.EDIT, f"project-{number}", "production") for number in range(3_000))

    async def count(_raw: bytes, call: Call) -> bytes:
        return str(len(call.principal.grants)).encode()

    async with relaying({PATH: unary_async(count)}) as passed_on:
        running = await serve(table=_as(Principal("oidc:everywhere", grants), passed_on))

        assert b"3000" == await running.call(PATH)


async def test_a_refusal_is_passed_on_whole(serve: Serve) -> None:
    """Its status, its message and its details."""

    async def refuse(_raw: bytes, _call: Call) -> bytes:
        raise StoreUnavailable("the database is away")

    async with relaying({PATH: unary_async(refuse)}) as passed_on:
        running = await serve(table=passed_on)
        error = await _refused(running)

    assert (grpc.StatusCode.UNAVAILABLE, "the database is away") == (error.code(), error.details())
    assert 1 == _retry(error).retry_delay.seconds
    assert ["grpc-status-details-bin"] == list(_trailing(error))


async def test_a_fault_has_one_id_in_both_processes(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The one that its caller has sent, too; and it is logged where it was raised."""

    async def fail(_raw: bytes, _call: Call) -> bytes:
        raise KeyError("secret")

    async with relaying({PATH: unary_async(fail)}) as passed_on:
        running = await serve(table=passed_on)
        with caplog.at_level(logging.ERROR):
            error = await _refused(running, metadata=(("x-request-id", "mine"),))

    assert grpc.StatusCode.INTERNAL == error.code()
    assert "request mine;" in (error.details() or "")
    assert [f"{PATH} failed, request mine"] == [each.getMessage() for each in caplog.records if each.levelno >= 40]


async def test_a_deadline_is_passed_on(serve: Serve) -> None:
    """What is managed need not go on when nobody waits any more."""
    deadlines: list[float] = []

    async def wait(_raw: bytes, call: Call) -> bytes:
        deadlines.append(call.deadline_s() or 0.0)
        await asyncio.sleep(60)
        return b""

    async with relaying({PATH: unary_async(wait)}) as passed_on:
        running = await serve(table=passed_on)
        error = await _refused(running, timeout=0.3)

    assert grpc.StatusCode.DEADLINE_EXCEEDED == error.code()
    # The library rounds it up by a fraction of a millisecond.
    assert 0 < deadlines[0] < 1


async def test_a_stream_ends_there_when_its_client_leaves(serve: Serve) -> None:
    """Else each client that has left would be told things for ever."""
    ended = asyncio.Event()

    async def tell(_raw: bytes, _call: Call) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"alive"
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with relaying({PATH: server_stream(tell)}) as passed_on:
        running = await serve(table=passed_on)
        replies = running.channel.unary_stream(PATH, None, None)(b"")
        assert b"alive" == await replies.read()
        replies.cancel()
        async with asyncio.timeout(10):
            await ended.wait()


async def test_messages_of_a_client_are_passed_on(serve: Serve) -> None:
    """In their order, and their end."""
    async with relaying({PATH: bidi(_joined)}) as passed_on:
        running = await serve(table=passed_on)

        assert b"abc" == await running.channel.stream_unary(PATH, None, None)(iter([b"a", b"b", b"c"]))


async def test_a_message_that_is_refused_here_ends_the_call(serve: Serve) -> None:
    """With the reason: it is a limit of the process that was asked."""
    async with relaying({PATH: bidi(_joined)}) as passed_on:
        function: Any = passed_on[PATH].function

        async def limiting(messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
            async def counted() -> AsyncIterator[bytes]:
                async for message in messages:
                    yield message
                    raise Limited("too many messages", retry_after_s=3)

            async for reply in function(counted(), call):
                yield reply

        running = await serve(table={PATH: bidi(limiting)})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.channel.stream_unary(PATH, None, None)(iter([b"a", b"b"]))

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many messages") == (caught.value.code(), caught.value.details())


async def test_a_refused_stream_of_messages_says_why(serve: Serve) -> None:
    """Also when its sender has not ended."""

    async def refuse(messages: AsyncIterator[bytes], _call: Call) -> AsyncIterator[bytes]:
        async for _ in messages:
            raise NotFound("there is no such segment")
        yield b""

    async with relaying({PATH: bidi(refuse)}) as passed_on:
        running = await serve(table=passed_on)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.channel.stream_unary(PATH, None, None)(iter([b"a"] * 100))

    assert (grpc.StatusCode.NOT_FOUND, "there is no such segment") == (caught.value.code(), caught.value.details())


async def test_a_process_that_is_not_there_is_waited_for(serve: Serve) -> None:
    """A moment; it may be about to start."""
    async with _socket() as socket:
        relay = Relay(socket)
        running = await serve(table=relay.table({PATH: unary_async(_echo)}))
        asked = asyncio.create_task(running.call(PATH, b"a"))
        await asyncio.sleep(0.05)
        server = await _manager(socket)

        assert b"a" == await asked
        await relay.close()
        await server.stop()


async def test_a_process_that_does_not_come_is_unavailable(serve: Serve) -> None:
    """Nothing was done, and when to ask again is told."""
    async with _socket() as socket:
        relay = Relay(socket, wait_s=0.05)
        running = await serve(table=relay.table({PATH: unary_async(_echo)}))
        error = await _refused(running)
        await relay.close()

    assert grpc.StatusCode.UNAVAILABLE == error.code()
    assert "nothing was done" in (error.details() or "")
    assert 1 == _retry(error).retry_delay.seconds


async def test_a_process_that_dies_leaves_it_open(serve: Serve) -> None:
    """Whether the change was made is not known, which is said; and the next process is found."""
    begun = asyncio.Event()

    async def die(_raw: bytes, _call: Call) -> bytes:
        begun.set()
        await asyncio.sleep(60)
        return b""

    async with _socket() as socket:
        relay = Relay(socket)
        running = await serve(table=relay.table({PATH: unary_async(die)}))
        server = await _manager(socket, {PATH: unary_async(die)})
        asked = asyncio.create_task(_refused(running))
        await begun.wait()
        await server.stop()
        error = await asked
        socket.unlink(missing_ok=True)
        server = await _manager(socket)

        assert b"again" == await running.call(PATH, b"again")
        await relay.close()
        await server.stop()
    assert grpc.StatusCode.UNAVAILABLE == error.code()
    assert "is not known" in (error.details() or "")
    assert 1 == _retry(error).retry_delay.seconds


def test_what_answers_at_once_is_not_passed_on() -> None:
    """It belongs to the process that was asked."""
    with pytest.raises(ValueError, match="need not be passed on"):
        received({PATH: unary_sync(lambda raw, _call: raw)})


async def _echo(raw: bytes, _call: Call) -> bytes:
    return raw


async def _joined(messages: AsyncIterator[bytes], _call: Call) -> AsyncIterator[bytes]:
    yield b"".join([message async for message in messages])


def _as(principal: Principal, table: Table) -> Table:
    function: Any = table[PATH].function

    async def admitted(raw: bytes, call: Call) -> bytes:
        call.principal = principal
        reply: bytes = await function(raw, call)
        return reply

    return {PATH: unary_async(admitted)}


@asynccontextmanager
async def _socket() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "manager")


async def _manager(socket: Path, table: Table | None = None) -> GrpcServer:
    server = GrpcServer(received(table or {PATH: unary_async(_echo)}), Drain(), inner=True)
    await server.start([f"unix:{socket}"])
    return server


async def _refused(running: Running, **options: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.call(PATH, b"", **options)
    return caught.value


def _retry(error: grpc.aio.AioRpcError) -> Any:
    status = status_pb2.Status.FromString(_trailing(error)["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    return retry


def _trailing(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    trailing: Any = error.trailing_metadata()
    return dict(trailing)
