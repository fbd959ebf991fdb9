"""Hold flagd.sync.v1 to its word: whole sets at once and after each change, one encoding for all, every status."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from protos.flagd.sync.v1 import sync_pb2 as messages
from server.core.context import Enrichment
from server.core.errors import InvalidRequest
from server.core.evaluation.compiler import quarantine
from server.core.evaluation.snapshot import CompiledFlag, Snapshot
from server.core.limits import SYNC_BYTES_MAX
from server.live.holder import Holder, Serving
from server.live.watch import Hub, SetChange
from server.rpc.call import Abort
from server.rpc.flagd_sync import SERVICE, flagd_sync_table
from server.rpc.status import Status
from tests.fakes import DEFAULT_SET, FakeCall, answer, holder_of, snapshot_of, static_flag
from tests.rpc.conftest import Running, Serve

SYNC = f"/{SERVICE}/SyncFlags"
FETCH = f"/{SERVICE}/FetchAllFlags"
METADATA = f"/{SERVICE}/GetMetadata"
STAGING = "default/staging"
WAIT_S = 20


def exported(key: str, variant: str = "on") -> CompiledFlag:
    """A flag that is sent as this variant's name."""
    text = json.dumps({"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": variant})
    return replace(static_flag(answer(key, True)), exported=text.encode())


def default_of(raw: bytes, key: str = "f") -> str:
    """The default variant of a flag in a message."""
    text = messages.SyncFlagsResponse.FromString(raw).flag_configuration
    return str(json.loads(text)["flags"][key]["defaultVariant"])


def serve_next(holder: Holder, hub: Hub, *snapshots: Snapshot) -> None:
    """What the loader does after a commit, within the event loop."""
    serving = holder.serving
    holder.serving = replace(serving, snapshots={**serving.snapshots, **{each.flag_set: each for each in snapshots}})
    hub.publish([SetChange(each.flag_set, serving.snapshots.get(each.flag_set), each, {}) for each in snapshots])


def request(selector: str = "") -> bytes:
    """The same bytes for SyncFlags and FetchAllFlags."""
    return messages.SyncFlagsRequest(provider_id="test", selector=selector).SerializeToString()


class Wired:
    """The handlers without a wire."""

    def __init__(self, *snapshots: Snapshot, static_context: Mapping[str, str] | None = None, **options: Any) -> None:
        self.holder, self.hub = holder_of(*snapshots), Hub()
        self.table = flagd_sync_table(self.holder, self.hub, static_context=static_context or {}, **options)

    def stream(self, headers: Mapping[str, str] | None = None, *, selector: str = "") -> AsyncIterator[bytes]:
        """Subscribe."""
        stream: AsyncIterator[bytes] = self.table[SYNC].function(request(selector), FakeCall(headers or {}))
        return stream

    def next(self, *snapshots: Snapshot) -> None:
        """Serve other snapshots from now on."""
        serve_next(self.holder, self.hub, *snapshots)


async def take(stream: AsyncIterator[bytes]) -> bytes:
    """The next message; a failure when there is none in time."""
    return await asyncio.wait_for(anext(stream), WAIT_S)


async def refused(stream: AsyncIterator[bytes]) -> tuple[Status, str]:
    """How a stream ends that is refused by the handler itself."""
    with pytest.raises(Abort) as caught:
        await take(stream)
    return caught.value.code, caught.value.message


async def test_the_whole_set_comes_at_once() -> None:
    """In flagd's format, quarantined flags left out, and with a context that is present although it is empty."""
    wired = Wired(snapshot_of(exported("b"), quarantine("broken", "why"), exported("a")))
    message = messages.SyncFlagsResponse.FromString(await take(wired.stream()))

    assert ["a", "b"] == list(json.loads(message.flag_configuration)["flags"])
    assert (True, 0) == (message.HasField("sync_context"), len(message.sync_context.fields))


async def test_the_servers_fixed_context_comes_along() -> None:
    """Also to those that ask for it as metadata."""
    wired = Wired(snapshot_of(exported("a")), static_context={"region": "eu"})
    message = messages.SyncFlagsResponse.FromString(await take(wired.stream()))
    metadata = messages.GetMetadataResponse.FromString(wired.table[METADATA].function(b"", FakeCall()))

    assert "eu" == message.sync_context["region"] == metadata.metadata["region"]


async def test_every_change_sends_the_whole_set_again() -> None:
    """Not only the flag that changed."""
    wired = Wired(snapshot_of(exported("f"), exported("g")))
    stream = wired.stream()
    before = await take(stream)
    wired.next(snapshot_of(exported("f", "off"), exported("g"), revision=8))
    after = await take(stream)

    assert [("on", "on"), ("off", "on")] == [(default_of(raw), default_of(raw, "g")) for raw in (before, after)]


async def test_changes_that_were_not_read_are_one() -> None:
    """Who reads slowly gets the latest set and none of those between."""
    wired = Wired(snapshot_of(exported("f", "0")))
    stream = wired.stream()
    await take(stream)
    for number in range(1, 6):
        wired.next(snapshot_of(exported("f", str(number)), revision=7 + number))
    read = [default_of(await take(stream))]
    wired.next(snapshot_of(exported("f", "6"), revision=20))

    assert ["5", "6"] == [*read, default_of(await take(stream))]


async def test_the_same_text_is_not_sent_again() -> None:
    """A commit that changes what clients are not sent, such as a description, is no news to them."""
    wired = Wired(snapshot_of(exported("f")))
    stream = wired.stream()
    await take(stream)
    waiting = asyncio.ensure_future(take(stream))
    wired.next(snapshot_of(exported("f"), revision=8))
    await asyncio.sleep(0.1)
    was_silent = not waiting.done()
    wired.next(snapshot_of(exported("f", "off"), revision=9))

    assert (True, "off") == (was_silent, default_of(await waiting))


async def test_another_sets_change_is_no_news() -> None:
    """Each stream has its own selection."""
    wired = Wired(snapshot_of(exported("f")), snapshot_of(exported("f"), flag_set=STAGING))
    default, staging = wired.stream(), wired.stream({"flagd-selector": f"flagSetId={STAGING}"})
    await take(default), await take(staging)
    waiting = asyncio.ensure_future(take(default))
    wired.next(snapshot_of(exported("f", "off"), flag_set=STAGING, revision=8))

    assert "off" == default_of(await take(staging))
    assert not waiting.done()
    waiting.cancel()


async def test_a_stream_looks_by_itself() -> None:
    """A change that it was not told of is seen all the same."""
    wired = Wired(snapshot_of(exported("f")), look_s=0.01)
    stream = wired.stream()
    await take(stream)
    wired.holder.serving = Serving({DEFAULT_SET: snapshot_of(exported("f", "off"))})

    assert "off" == default_of(await take(stream))


async def test_who_reads_nothing_costs_bounded_memory() -> None:
    """Where so much is being written, the next stream waits for room, and then gets what is the latest by then."""
    wired = Wired(snapshot_of(exported("f")), sending_bytes_max=100)
    slow, next_one = wired.stream(), wired.stream()
    await take(slow)
    waiting = asyncio.ensure_future(take(next_one))
    await asyncio.sleep(0.1)
    had_to_wait = not waiting.done()
    wired.next(snapshot_of(exported("f", "off"), revision=8))
    await slow.aclose()  # type: ignore[attr-defined]  # A door does the same when it ends a stream.

    assert (True, "off") == (had_to_wait, default_of(await waiting))


async def test_two_hundred_streams_get_one_encoding() -> None:
    """One bytes object a revision, for FetchAllFlags too."""
    wired = Wired(snapshot_of(exported("f")))
    streams = [wired.stream() for _ in range(200)]
    first = {id(await take(stream)) for stream in streams}
    wired.next(snapshot_of(exported("f", "off"), revision=8))
    second = [await take(stream) for stream in streams]
    fetched = wired.table[FETCH].function(request(), FakeCall())

    assert (1, 1) == (len(first), len({id(message) for message in second}))
    assert second[0].startswith(fetched)


@pytest.mark.parametrize(
    ("headers", "selector", "expected"),
    [
        ({}, "", "default"),
        ({}, f"flagSetId={STAGING}", "staging"),
        ({"flagd-selector": f"flagSetId={STAGING}"}, "", "staging"),
        ({"flagd-selector": f"flagSetId={STAGING}"}, f"flagSetId={DEFAULT_SET}", "staging"),
        ({"flagd-selector": ""}, f"flagSetId={STAGING}", "staging"),
        ({"flagd-selector": "flagSetId="}, f"flagSetId={STAGING}", "default"),
        ({}, "its/file.json", "staging"),
    ],
)
async def test_the_selector(headers: Mapping[str, str], selector: str, expected: str) -> None:
    """The header wins over the request's deprecated field; by neither, the default set."""
    wired = Wired(
        snapshot_of(exported("f", "default")),
        snapshot_of(exported("f", "staging"), flag_set=STAGING),
    )
    wired.holder.serving = replace(wired.holder.serving, aliases={("source", "its/file.json"): STAGING})
    fetched = wired.table[FETCH].function(request(selector), FakeCall(headers))

    assert expected == default_of(await take(wired.stream(headers, selector=selector))) == default_of(fetched)


async def test_a_set_that_is_not_sent_says_so() -> None:
    """With sync off, or past the bound although no commit let it: the switch is named."""
    off = replace(snapshot_of(exported("f")), environment=replace(snapshot_of().environment, sync=False))
    huge = snapshot_of(replace(exported("f"), exported=b'"' + b"x" * SYNC_BYTES_MAX + b'"'))
    answers = [await refused(Wired(snapshot).stream()) for snapshot in (off, huge)]

    assert [Status.FAILED_PRECONDITION] * 2 == [code for code, _ in answers]
    assert answers[0][1].startswith(f"sync is off for flag set '{DEFAULT_SET}'")
    assert answers[1][1].startswith(f"flag set '{DEFAULT_SET}' takes 41")
    assert all("flagstaff import --" in message for _, message in answers)


async def test_a_stream_ends_when_sync_is_switched_off() -> None:
    """Its client is told why, and not left with what it has as if nothing were."""
    wired = Wired(snapshot_of(exported("f")))
    stream = wired.stream()
    await take(stream)
    wired.next(replace(snapshot_of(exported("f")), environment=replace(snapshot_of().environment, sync=False)))

    assert Status.FAILED_PRECONDITION is (await refused(stream))[0]


def test_a_fixed_context_has_a_bound() -> None:
    """There is room for so much beside the flags."""
    with pytest.raises(InvalidRequest, match="at most 64512"):
        flagd_sync_table(holder_of(), Hub(), static_context={"a": "x" * 65_000})


def open_stream(running: Running, raw: bytes = b"", **options: Any) -> Any:
    """The real thing."""
    return running.channel.unary_stream(SYNC, request_serializer=None, response_deserializer=None)(
        raw, timeout=WAIT_S, **options
    )


async def ended(stream: Any) -> tuple[grpc.StatusCode, str]:
    """How a stream ends that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize(
    ("raw", "headers", "expected"),
    [
        (request("a=b"), {}, (grpc.StatusCode.INVALID_ARGUMENT, "'a=b'")),
        (b"", {"flagd-selector": "flagSetId=a,source=b"}, (grpc.StatusCode.INVALID_ARGUMENT, "'flagSetId=a,source=b'")),
        (b"\xff", {}, (grpc.StatusCode.INVALID_ARGUMENT, "FlagsRequest")),
        (request("flagSetId=no/such"), {}, (grpc.StatusCode.NOT_FOUND, "no/such")),
        (b"", {"flagd-selector": "no.json"}, (grpc.StatusCode.NOT_FOUND, "source=no.json")),
    ],
)
async def test_refusals(serve: Serve, raw: bytes, headers: Mapping[str, str], expected: tuple[Any, str]) -> None:
    """A bad selector is INVALID_ARGUMENT and an unknown set NOT_FOUND, for the stream and for one answer."""
    running = await serve(exported("f"))
    metadata = tuple(headers.items())
    answers = [
        await ended(open_stream(running, raw, metadata=metadata)),
        await running.refused(FETCH, raw, metadata=metadata),
    ]

    assert [(expected[0], True)] * 2 == [(code, expected[1] in message) for code, message in answers]


async def test_before_flags_were_loaded(serve: Serve) -> None:
    """UNAVAILABLE, which every client tries again."""
    running = await serve(holder=Holder(DEFAULT_SET))

    assert grpc.StatusCode.UNAVAILABLE is (await ended(open_stream(running)))[0]
    assert grpc.StatusCode.UNAVAILABLE is (await running.refused(FETCH))[0]


async def test_fetching_is_the_same_text_without_a_context(serve: Serve) -> None:
    """Byte by byte what the message's own encoder writes."""
    running = await serve(exported("f"), enrichment=Enrichment({"region": "eu"}))
    text = messages.SyncFlagsResponse.FromString(await open_stream(running).read()).flag_configuration

    assert messages.FetchAllFlagsResponse(flag_configuration=text).SerializeToString() == await running.call(FETCH)


async def test_metadata_is_present_also_when_empty(serve: Serve) -> None:
    """The Python provider takes an absent one as a mistake, and is never ready."""
    running = await serve(exported("f"))
    empty = messages.GetMetadataResponse.FromString(await running.call(METADATA))

    assert (True, 0) == (empty.HasField("metadata"), len(empty.metadata.fields))
    assert grpc.StatusCode.INVALID_ARGUMENT is (await running.refused(METADATA, b"\xff"))[0]


async def test_metadata_can_be_switched_off(serve: Serve) -> None:
    """UNIMPLEMENTED, which every client accepts."""
    running = await serve(exported("f"), sync_metadata=False)
    code, message = await running.refused(METADATA)

    assert (grpc.StatusCode.UNIMPLEMENTED, True) == (code, "--disable-sync-metadata" in message)


async def test_many_subscribers_are_told(serve: Serve) -> None:
    """All of 200 get the set and then its change, each exactly once."""
    holder, hub = holder_of(snapshot_of(exported("f"))), Hub()
    running = await serve(holder=holder, hub=hub)
    streams = [open_stream(running) for _ in range(200)]
    first = {default_of(await stream.read()) for stream in streams}
    serve_next(holder, hub, snapshot_of(exported("f", "off"), revision=8))
    second = {default_of(await stream.read()) for stream in streams}

    assert ({"on"}, {"off"}, 200) == (first, second, hub.count)
    running.services.drain.end_streams()
    assert {grpc.StatusCode.UNAVAILABLE} == {(await ended(stream))[0] for stream in streams}


async def test_a_drain_ends_streams(serve: Serve) -> None:
    """Not with OK, after which Node's provider never comes back; the mailbox is gone."""
    hub = Hub()
    running = await serve(exported("f"), hub=hub)
    stream = open_stream(running)
    await stream.read()
    running.services.drain.end_streams()

    assert (grpc.StatusCode.UNAVAILABLE, 0) == ((await ended(stream))[0], hub.count)


async def test_a_set_that_goes_away_ends_its_streams(serve: Serve) -> None:
    """NOT_FOUND, as for whoever comes later."""
    holder, hub = holder_of(snapshot_of(exported("f"))), Hub()
    stream = open_stream(await serve(holder=holder, hub=hub))
    await stream.read()
    before = holder.serving.snapshots[DEFAULT_SET]
    holder.serving = Serving({})
    hub.publish([SetChange(DEFAULT_SET, before, None, {})])

    assert grpc.StatusCode.NOT_FOUND is (await ended(stream))[0]


async def test_too_many_subscribers_are_refused(serve: Serve) -> None:
    """RESOURCE_EXHAUSTED, with the bound."""
    running = await serve(exported("f"), hub=Hub(subscribers_max=1))
    first = open_stream(running)
    await first.read()
    code, message = await ended(open_stream(running))

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (code, "1 open subscriptions" in message)
