"""Streams that last: how they end, and what happens when there are too many."""

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import pytest

from server.live.watch import Hub
from server.rpc.call import Abort, Call
from server.rpc.status import Status
from server.rpc.streams import StreamAge, lasting
from server.rpc.table import Table, server_stream, unary_sync
from tests.fakes import FakeCall, answer, holder_of, snapshot_of, static_flag
from tests.rpc.conftest import Serve
from tests.rpc.test_flagd_events import V1, V2

PATH: Final = "/s/Stream"


def table(hub: Hub, finished: list[str], *, count: int = 0) -> Table:
    """A stream that gives some messages and waits for the hub's end."""

    async def stream(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        try:
            with hub.subscribe("a/b") as subscription:
                for number in range(count):
                    yield bytes([number])
                while not subscription.closed:
                    await subscription.take(timeout_s=60)
        finally:
            finished.append("finished")

    return {PATH: server_stream(stream)}


async def run(table: Table) -> tuple[list[bytes], Abort]:
    """All messages of the stream, and what ends it."""
    received: list[bytes] = []
    with pytest.raises(Abort) as ended:
        async for message in table[PATH].function(b"", FakeCall()):
            received.append(message)
    return received, ended.value


async def test_the_servers_end_is_not_ok() -> None:
    """A provider that sees OK does not come back."""
    hub, finished = Hub(), list[str]()
    hub.close()
    received, ended = await run(lasting(table(hub, finished, count=2)))

    assert ([b"\0", b"\1"], Status.UNAVAILABLE, ["finished"]) == (received, ended.code, finished)


async def test_an_age_ends_a_stream() -> None:
    """As flagd's own limit on streams does; the handler is told, so that nothing of it stays."""
    hub, finished = Hub(), list[str]()
    received, ended = await run(lasting(table(hub, finished, count=2), StreamAge(0.2)))

    assert ([b"\0", b"\1"], Status.DEADLINE_EXCEEDED, ["finished"]) == (received, ended.code, finished)
    assert 0 == hub.count


@pytest.mark.parametrize(("chance", "age_s"), [(0.0, 90.0), (0.5, 100.0), (1.0, 110.0)])
def test_ages_differ(chance: float, age_s: float) -> None:
    """By a tenth to either side, so that streams which began together do not end together."""
    assert pytest.approx(age_s) == StreamAge(100.0, lambda: chance).drawn_s()
    assert StreamAge(None, lambda: chance).drawn_s() is None


async def test_too_many_streams_are_told_when_to_come_back() -> None:
    """With the status and header that gRPC's clients know."""
    _, ended = await run(lasting(table(Hub(subscribers_max=0), [])))
    ((name, wait_ms),) = ended.trailing

    assert (Status.RESOURCE_EXHAUSTED, "grpc-retry-pushback-ms") == (ended.code, name)
    assert 2_000 <= int(wait_ms) <= 10_000


def test_other_methods_stay_as_they_are() -> None:
    """Only server streams last."""
    handlers: Table = {PATH: unary_sync(lambda raw, call: raw)}

    assert handlers == lasting(handlers)


@pytest.mark.parametrize("path", [V1, V2])
async def test_services_streams_have_the_age_and_the_bound(serve: Serve, path: str) -> None:
    """Through a real server: a stream ends by age, and the bound on streams is answered with a hint."""
    holder = holder_of(snapshot_of(static_flag(answer("f", True))))
    aging = await serve(holder=holder, stream_age=StreamAge(0.2))
    full = await serve(holder=holder, hub=Hub(subscribers_max=0))
    old: Any = aging.channel.unary_stream(path)(b"", timeout=20)
    while await read_or_end(old):
        pass
    refused: Any = full.channel.unary_stream(path)(b"", timeout=20)

    assert (grpc.StatusCode.DEADLINE_EXCEEDED, True) == (await old.code(), "open a new one" in await old.details())
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is await refused.code()
    assert ["grpc-retry-pushback-ms"] == [name for name, _ in await refused.trailing_metadata()]


async def read_or_end(stream: Any) -> bytes | None:
    """The next message; None at the end, whatever the status."""
    try:
        message = await stream.read()
    except grpc.aio.AioRpcError:
        return None
    return message if isinstance(message, bytes) else None
