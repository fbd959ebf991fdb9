"""EventStream of both versions: what a provider hears, and when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import pytest
from google.protobuf import json_format

from protos.flagd.evaluation.v1 import evaluation_pb2 as v1
from server.core.evaluation.difference import FlagChange
from server.core.evaluation.snapshot import Snapshot
from server.live.holder import Serving
from server.live.watch import Hub, SetChange
from server.rpc.call import Call
from server.rpc.flagd_events import MESSAGE_FLAGS_MAX, RESTARTED_S, change_messages, flagd_events_table
from tests.fakes import FakeCall, answer, holder_of, snapshot_of, static_flag
from tests.rpc.conftest import Serve

WRITE, UPDATE, DELETE = FlagChange.WRITE, FlagChange.UPDATE, FlagChange.DELETE
STAGING: Final = "default/staging"
V1: Final = "/flagd.evaluation.v1.Service/EventStream"
V2: Final = "/flagd.evaluation.v2.Service/EventStream"
TIMEOUT_S: Final = 20


def sample(revision: int = 1, flag_set: str = "default/production") -> Snapshot:
    """A snapshot with one flag."""
    return snapshot_of(static_flag(answer("f", True)), flag_set=flag_set, revision=revision)


def step(flag_set: str = "default/production", **flags: FlagChange) -> SetChange:
    """A change of these flags."""
    return SetChange(flag_set, None, sample(2, flag_set), flags)


class Streams:
    """The handler over a hub, without a wire, long after the server's start."""

    def __init__(self, *, since_start_s: float = RESTARTED_S + 1, keep_alive_s: float = TIMEOUT_S) -> None:
        self.hub = Hub()
        self.holder = holder_of(sample(), sample(flag_set=STAGING))
        started = iter([0.0])
        self._table = flagd_events_table(
            self.holder, self.hub, keep_alive_s=keep_alive_s, monotonic=lambda: next(started, since_start_s)
        )

    def open(self, path: str = V2, selector: str = "") -> AsyncIterator[bytes]:
        """A new stream."""
        call: Call = FakeCall({"flagd-selector": selector} if selector else {})
        stream: AsyncIterator[bytes] = self._table[path].function(b"", call)
        return stream


async def hear(stream: AsyncIterator[bytes]) -> tuple[str, dict[str, Any]]:
    """The next event: type and data."""
    return plain(v1.EventStreamResponse.FromString(await asyncio.wait_for(anext(stream), TIMEOUT_S)))


def plain(message: v1.EventStreamResponse) -> tuple[str, dict[str, Any]]:
    """An event's type and data."""
    return message.type, json_format.MessageToDict(message.data)


def changed(**flags: str) -> tuple[str, dict[str, Any]]:
    """The event that names these flags."""
    return "configuration_change", {"flags": {key: {"type": change} for key, change in flags.items()}}


@pytest.mark.parametrize("path", [V1, V2])
async def test_ready_then_changes_by_flag(path: str) -> None:
    """Each change of the set names its flags and what became of them."""
    streams = Streams()
    stream = streams.open(path)

    assert ("provider_ready", {}) == await hear(stream)
    waiting = asyncio.create_task(hear(stream))
    await asyncio.sleep(0)
    streams.hub.publish([step(a=WRITE, b=UPDATE, c=DELETE)])
    assert changed(a="write", b="update", c="delete") == await waiting


async def test_a_change_without_a_difference_says_nothing() -> None:
    """A revision that clients cannot tell from the last is not announced."""
    streams = Streams()
    stream = streams.open()
    await hear(stream)
    streams.hub.publish([step(), step(a=UPDATE)])

    assert changed(a="update") == await hear(stream)


async def test_each_stream_hears_of_its_own_set() -> None:
    """The selector of its header chooses it."""
    streams = Streams()
    production, staging = streams.open(), streams.open(selector=f"flagSetId={STAGING}")
    assert ["provider_ready"] * 2 == [(await hear(each))[0] for each in (production, staging)]
    streams.hub.publish([step(STAGING, s=UPDATE), step(p=UPDATE)])

    assert changed(p="update") == await hear(production)
    assert changed(s="update") == await hear(staging)


async def test_recent_changes_are_announced_to_who_comes_back() -> None:
    """Once, merged by flag, right after ready: their cache may be older."""
    streams = Streams()
    streams.hub.publish([step(a=WRITE), step(a=UPDATE, b=UPDATE), step(b=DELETE), step(STAGING, c=WRITE)])
    await asyncio.sleep(0)
    stream = streams.open()

    assert ("provider_ready", {}) == await hear(stream)
    assert changed(a="write", b="delete") == await hear(stream)


async def test_all_flags_are_announced_after_a_start() -> None:
    """Nobody knows what changed while the server was down."""
    stream = Streams(since_start_s=RESTARTED_S - 1).open()

    assert [("provider_ready", {}), changed(f="update")] == [await hear(stream), await hear(stream)]


async def test_a_message_is_encoded_once_for_all() -> None:
    """Every stream sends the very same bytes."""
    streams = Streams()
    opened = [streams.open() for _ in range(3)]
    for stream in opened:
        await anext(stream)
    streams.hub.publish([step(a=UPDATE)])
    first, *others = [await asyncio.wait_for(anext(stream), TIMEOUT_S) for stream in opened]
    again = [streams.open() for _ in range(2)]
    lately = [[await anext(stream) for _ in range(2)][1] for stream in again]

    assert [True, True] == [each is first for each in others]
    assert lately[0] is lately[1]


async def test_a_sign_of_life_comes_after_silence() -> None:
    """And again; a change without a difference does not count as something said."""
    streams = Streams(keep_alive_s=0.2)
    stream = streams.open()
    await hear(stream)
    waiting = asyncio.create_task(hear(stream))
    for _ in range(6):
        await asyncio.sleep(0.05)
        streams.hub.publish([step()])

    assert ("keep_alive", {}) == await waiting
    assert ("keep_alive", {}) == await hear(stream)


async def test_a_set_may_go_and_come_back() -> None:
    """Its flags are deleted, the stream stays, its flags are written."""
    streams = Streams()
    stream = streams.open()
    await hear(stream)
    present = streams.holder.serving
    streams.holder.serving = Serving()
    streams.hub.publish([SetChange("default/production", sample(), None, {"f": DELETE})])
    gone = await hear(stream)
    streams.holder.serving = present
    streams.hub.publish([SetChange("default/production", None, sample(), {"f": WRITE})])

    assert [changed(f="delete"), changed(f="write")] == [gone, await hear(stream)]


async def test_what_waits_is_said_before_the_end() -> None:
    """A drain lets a stream tell its last news, then says that the server stops."""
    streams = Streams()
    stream = streams.open()
    await hear(stream)
    streams.hub.publish([step(a=UPDATE)])
    await asyncio.sleep(0.01)
    streams.hub.close()

    assert [changed(a="update"), ("provider_shutdown", {})] == [await hear(stream), await hear(stream)]


def test_many_flags_take_several_messages() -> None:
    """Clients refuse messages of more than 4 MiB: keys of the longest kind stay far below."""
    flags = {f"{n:04}" + "ü" * 252: UPDATE for n in range(2 * MESSAGE_FLAGS_MAX + 1)}
    messages = change_messages(flags)
    named = [key for raw in messages for key in plain(v1.EventStreamResponse.FromString(raw))[1]["flags"]]

    assert (3, sorted(flags)) == (len(messages), sorted(named))
    assert max(map(len, messages)) < 2 * 1024 * 1024


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize(
    ("selector", "code"),
    [("flagSetId=no/such", grpc.StatusCode.NOT_FOUND), ("a=b", grpc.StatusCode.INVALID_ARGUMENT)],
)
async def test_a_wrong_selector_is_refused_at_once(
    serve: Serve, path: str, selector: str, code: grpc.StatusCode
) -> None:
    """Not at the first evaluation."""
    running = await serve(static_flag(answer("f", True)))
    stream = running.channel.unary_stream(path)(b"", metadata=(("flagd-selector", selector),), timeout=TIMEOUT_S)

    assert code is await stream.code()


async def test_change_reaches_hundreds_of_streams(serve: Serve) -> None:
    """Each of 200 streams hears of it; then nothing is left behind."""
    hub = Hub()
    running = await serve(holder=holder_of(sample()), hub=hub)
    streams = [running.channel.unary_stream(V2)(b"", timeout=TIMEOUT_S) for _ in range(200)]
    for stream in streams:
        assert "provider_ready" == v1.EventStreamResponse.FromString(await stream.read()).type
        await stream.read()
    hub.publish([step(a=UPDATE)])
    heard = await asyncio.gather(*(stream.read() for stream in streams))

    assert [changed(a="update")] * 200 == [plain(v1.EventStreamResponse.FromString(raw)) for raw in heard]
    for stream in streams:
        stream.cancel()
    await until(lambda: hub.count == 0)


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.01)
