"""Measure calls of a table, and log those that failed or were slow."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest

from server.core.errors import NotFound
from server.operations.figures import CallFigures
from server.operations.requests import RequestLog
from server.rpc.call import Abort, Call, OrderlyEnd
from server.rpc.metrics import measured
from server.rpc.status import Status
from server.rpc.table import Table, bidi, server_stream, unary_async, unary_sync
from tests.fakes import FakeCall
from tests.rpc.conftest import Serve

ECHO: Final = "/a.B/Echo"
STREAM: Final = "/a.B/Stream"
BIDI: Final = "/a.B/Bidi"
OURS: Final = "/flagstaff.v1.EvaluationService/Evaluate"


def fail_for(raw: bytes) -> bytes:
    """Fail as the message says, else repeat it."""
    match raw:
        case b"gone":
            raise NotFound("flag set 'x' does not exist")
        case b"broken":
            raise KeyError("alice@example.com")
        case b"drained":
            raise OrderlyEnd(Status.UNAVAILABLE, "the server is stopping")
        case b"stopping":
            raise Abort(Status.UNAVAILABLE, "the server is stopping")
    return raw


def table_of(path: str = ECHO) -> Table:
    """A method of each kind."""

    def echo(raw: bytes, call: Call) -> bytes:
        return fail_for(raw)

    async def echo_later(raw: bytes, call: Call) -> bytes:
        await asyncio.sleep(0 if raw != b"wait" else 60)
        return fail_for(raw)

    async def stream(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield raw
        fail_for(raw)

    async def answer(messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        async for raw in messages:
            yield fail_for(raw)

    return {
        path: unary_sync(echo),
        f"{path}Later": unary_async(echo_later),
        STREAM: server_stream(stream),
        BIDI: bidi(answer),
    }


def wrapped(figures: CallFigures, path: str = ECHO, **options: Any) -> Table:
    """The table, measured."""
    return measured(table_of(path), figures, log=RequestLog(**options))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged about requests."""
    caplog.set_level(logging.DEBUG, "flagstaff.requests")
    return caplog


@pytest.mark.parametrize("path", [ECHO, f"{ECHO}Later"])
@pytest.mark.parametrize(
    ("raw", "code"), [(b"gone", "NOT_FOUND"), (b"broken", "INTERNAL"), (b"stopping", "UNAVAILABLE")]
)
async def test_unary_calls_are_counted_by_status(serve: Serve, path: str, raw: bytes, code: str) -> None:
    """Each call once, with how it ended; each has its place in the histogram."""
    figures = CallFigures()
    running = await serve(table=wrapped(figures))
    assert b"hello" == await running.call(path, b"hello")
    status, _ = await running.refused(path, raw)

    assert (code, {"OK": 1, code: 1}) == (status.name, figures[path].ended)
    assert (2, True) == (sum(figures[path].took.counts), figures[path].took.sum_s > 0)


@pytest.mark.parametrize(("path", "kind"), [(STREAM, "unary_stream"), (BIDI, "stream_stream")])
async def test_streams_are_counted(serve: Serve, path: str, kind: str) -> None:
    """Open while they are open, messages as they are sent, and their end; without a duration."""
    figures = CallFigures()
    running = await serve(table=wrapped(figures))
    method = getattr(running.channel, kind)(path, request_serializer=None, response_deserializer=None)
    request = b"hello" if kind == "unary_stream" else iter([b"hello"])
    replies = [reply async for reply in method(request)]

    one = figures[path]
    assert (len(replies), 0, {"OK": 1}, 0) == (one.sent, one.open_streams, one.ended, sum(one.took.counts))


async def test_a_stream_is_open_until_its_client_leaves() -> None:
    """Whoever closes it early has cancelled it."""
    figures = CallFigures()
    stream: Any = wrapped(figures)[STREAM].function(b"hello", FakeCall())
    await anext(stream)
    while_open = figures[STREAM].open_streams
    await stream.aclose()

    assert (1, 0, {"CANCELLED": 1}) == (while_open, figures[STREAM].open_streams, figures[STREAM].ended)


async def test_a_call_that_is_cancelled() -> None:
    """It is counted and not logged: the client went away."""
    figures = CallFigures()
    task = asyncio.ensure_future(wrapped(figures)[f"{ECHO}Later"].function(b"wait", FakeCall()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert (True, {"CANCELLED": 1}) == (task.cancelled(), figures[f"{ECHO}Later"].ended)


@pytest.mark.parametrize("sent", [None, "my-id", "not well formed"])
async def test_a_failed_call_has_an_id(serve: Serve, log: pytest.LogCaptureFixture, sent: str | None) -> None:
    """The caller's, or a new one: in the trailing metadata, in an unexpected error's message and in the log."""
    running = await serve(table=wrapped(CallFigures()))
    method = running.channel.unary_unary(ECHO, request_serializer=None, response_deserializer=None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"broken", metadata=[] if sent is None else [("x-request-id", sent)])

    trailing: Any = caught.value.trailing_metadata()
    told = dict(trailing)["x-request-id"]
    assert (sent == "my-id") == (told == sent)
    assert told in (caught.value.details() or "")
    line = next(record for record in log.records if record.name == "flagstaff.requests")
    assert (told, ECHO, "INTERNAL", "WARNING") == (
        *(vars(line)[name] for name in ("request_id", "method", "status")),
        line.levelname,
    )


@pytest.mark.parametrize(("path", "raw"), [(STREAM, b"gone"), (BIDI, b"")])
async def test_a_failed_stream_is_logged(log: pytest.LogCaptureFixture, path: str, raw: bytes) -> None:
    """With its status, once."""
    figures = CallFigures()

    async def messages() -> AsyncIterator[bytes]:
        yield b"gone"

    stream: Any = wrapped(figures)[path].function(raw or messages(), FakeCall())
    with pytest.raises(Abort):
        [reply async for reply in stream]

    assert ({"NOT_FOUND": 1}, ["NOT_FOUND"]) == (figures[path].ended, [vars(line)["status"] for line in log.records])


async def test_an_orderly_end_is_counted_and_not_logged(log: pytest.LogCaptureFixture) -> None:
    """Every stream ends so when the server stops."""
    figures = CallFigures()
    stream: Any = wrapped(figures)[STREAM].function(b"drained", FakeCall())
    with pytest.raises(OrderlyEnd):
        [reply async for reply in stream]

    assert ({"UNAVAILABLE": 1}, []) == (figures[STREAM].ended, log.records)


def test_a_slow_call_is_logged_with_its_flag_set(log: pytest.LogCaptureFixture) -> None:
    """By name from the message of our own protocol; a fast one is not logged."""
    call = FakeCall()
    raw = b"\x1a\x0fshop/production"
    wrapped(CallFigures(), OURS)[OURS].function(raw, FakeCall())
    wrapped(CallFigures(), OURS, slow_s=0.0)[OURS].function(raw, call)

    told = [(line.getMessage(), vars(line)["flag_set"]) for line in log.records]
    assert ([("request was slow", "shop/production")], 1) == (told, len(call.trailing_metadata))


def test_the_selector_is_the_flag_set_of_other_calls(log: pytest.LogCaptureFixture) -> None:
    """It is what the caller named; a long one is cut."""
    wrapped(CallFigures(), slow_s=0.0)[ECHO].function(b"", FakeCall({"flagd-selector": "s" * 500}))

    assert ["s" * 160] == [vars(line)["flag_set"] for line in log.records]


async def test_nothing_of_a_caller_is_logged(serve: Serve, log: pytest.LogCaptureFixture) -> None:
    """Not even what an unexpected error says of it."""
    running = await serve(table=wrapped(CallFigures(), access_log=True))
    for path in (ECHO, f"{ECHO}Later"):
        await running.refused(path, b"broken")
        await running.call(path, b"alice@example.com")

    assert 6 == len(log.records)
    assert [] == [record for record in log.records if "alice" in f"{record.getMessage()}{vars(record)}"]
