"""Server-sent events: who is told what, and when a stream ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp

from server.core.evaluation.difference import FlagChange
from server.core.evaluation.snapshot import Clock, CompiledFlag, Snapshot
from server.core.flags import ValueType
from server.live.holder import Holder, Serving
from server.live.watch import Hub, SetChange
from server.web.app import WebOptions
from server.web.events import Events
from server.web.tags import set_tag
from tests.fakes import DEFAULT_SET, NOW, answer, fake_clock, holder_of, snapshot_of, static_flag
from tests.web.asking import EVENTS, app_of, client_of

TIMEOUT_S: Final = 20.0
RETRY_MS: Final = range(1_000, 5_000)
SCOPE: Final[dict[str, Any]] = {
    "type": "http", "method": "GET", "path": EVENTS, "query_string": b"", "root_path": "", "headers": [],
}  # fmt: skip


@dataclass
class Stream:
    """One open event stream, driven as a server drives it."""

    sent: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> Any:
        """The end of the connection, when it comes."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take note of a message."""
        await self.sent.put(message)

    async def next(self) -> Any:
        """The next message."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.sent.get()

    async def text(self) -> str:
        """The text of the next part."""
        text: str = (await self.next())["body"].decode()
        return text

    async def greeting(self) -> str:
        """The first part, after a sound start."""
        assert 200 == (await self.next())["status"]
        return await self.text()


@asynccontextmanager
async def stream(
    app: ASGIApp, *, query: str = "", last_seen: str = ""
) -> AsyncIterator[tuple[Stream, asyncio.Future[None]]]:
    """Open a stream; it ends with the block."""
    opened = Stream()
    headers = [(b"last-event-id", last_seen.encode())] if last_seen else []
    scope = {**SCOPE, "query_string": query.encode(), "headers": headers}
    task = asyncio.ensure_future(app(scope, opened.receive, opened.send))
    try:
        yield opened, task
    finally:
        opened.gone.set()
        async with asyncio.timeout(TIMEOUT_S):
            await task


def snapshot(revision: int, flag_set: str = DEFAULT_SET) -> Snapshot:
    """A revision of a flag set."""
    return snapshot_of(static_flag(answer("flag", True)), revision=revision, flag_set=flag_set)


def publish(holder: Holder, hub: Hub, after: Snapshot | None, *, flag_set: str = DEFAULT_SET) -> None:
    """Serve another revision, and say so."""
    kept = {name: each for name, each in holder.serving.snapshots.items() if name != flag_set}
    holder.serving = Serving(kept if after is None else {**kept, flag_set: after})
    hub.publish([SetChange(flag_set, None, after, {"flag": FlagChange.UPDATE})])


async def test_a_change_is_told() -> None:
    """Each change is an event that asks to evaluate again, named by the state that it leads to."""
    holder, hub = holder_of(snapshot(1)), Hub()
    async with stream(app_of(holder, hub=hub)) as (opened, _):
        await opened.greeting()
        after = snapshot(2)
        publish(holder, hub, after)
        lines = (await opened.text()).splitlines()

    assert ["event: message", f"id: {set_tag(after)}"] == lines[:2]
    expected = {"type": "refetchEvaluation", "etag": set_tag(after), "lastModified": int(NOW)}
    assert expected == json.loads(lines[2].removeprefix("data: "))
    assert "" == lines[3]


async def test_greeting_names_the_state() -> None:
    """A stream begins with when to come back and with the present state, which is no event."""
    holder = holder_of(snapshot(1))
    async with stream(app_of(holder)) as (opened, _):
        retry, identifier, end = (await opened.greeting()).splitlines()

    assert int(retry.removeprefix("retry: ")) in RETRY_MS
    assert (f"id: {set_tag(snapshot(1))}", "") == (identifier, end)


async def test_who_comes_back_is_told_what_was_missed() -> None:
    """The state that a browser saw last is another one now, so there is an event at once."""
    holder = holder_of(snapshot(2))
    async with stream(app_of(holder), last_seen=set_tag(snapshot(1))) as (opened, _):
        assert "refetchEvaluation" in await opened.greeting()


async def test_who_comes_back_to_the_same_state_is_told_nothing() -> None:
    """Also when something changed lately."""
    holder, hub = holder_of(snapshot(1)), Hub()
    publish(holder, hub, snapshot(2))
    async with stream(app_of(holder, hub=hub), last_seen=set_tag(snapshot(2))) as (opened, _):
        assert "refetchEvaluation" not in await opened.greeting()


async def test_a_late_change_is_told_to_who_is_new() -> None:
    """It may have been between a page's evaluation and its stream."""
    holder, hub = holder_of(snapshot(1)), Hub()
    publish(holder, hub, snapshot(2))
    async with stream(app_of(holder, hub=hub)) as (opened, _):
        assert "refetchEvaluation" in await opened.greeting()


async def test_changes_of_another_set_are_not_told() -> None:
    """A stream is about the flag set of its address."""
    holder, hub = holder_of(snapshot(1), snapshot(1, "shop/staging")), Hub()
    async with stream(app_of(holder, hub=hub), query="flagSetId=shop%2Fstaging") as (opened, _):
        await opened.greeting()
        publish(holder, hub, snapshot(2))
        publish(holder, hub, snapshot(3, "shop/staging"), flag_set="shop/staging")
        text = await opened.text()

    assert f"id: {set_tag(snapshot(3, 'shop/staging'))}" in text


async def test_keep_alive() -> None:
    """When nothing happens, a comment keeps the connection alive."""
    app = app_of(holder_of(snapshot(1)), options=WebOptions(keep_alive_s=0.01))
    async with stream(app) as (opened, _):
        await opened.greeting()

        assert ": keep-alive\n\n" == await opened.text()


async def test_an_instant_of_a_rule_is_told() -> None:
    """A flag that changes by itself is told of when its instant has passed, and not before."""
    timed = CompiledFlag(
        "timed", ValueType.BOOLEAN, static_flag(answer("timed", True)).evaluate, frozenset(), clock=Clock((100,))
    )
    holder, now = holder_of(snapshot_of(timed)), [99.0]
    app = Events(holder, Hub(), clock=lambda: now[0], chance=lambda: 0.0, keep_alive_s=0.01)
    async with stream(app) as (opened, _):
        await opened.greeting()
        before = await opened.text()
        now[0] = 100.0
        # What was on its way is still a comment.
        parts = [await opened.text() for _ in range(3)]

    assert (": keep-alive\n\n", True) == (before, any("refetchEvaluation" in part for part in parts))


async def test_draining_ends_streams() -> None:
    """The server ends its streams before it stops, as replies end that are complete."""
    hub = Hub()
    async with stream(app_of(holder_of(snapshot(1)), hub=hub)) as (opened, task):
        await opened.greeting()
        hub.close()
        last = await opened.next()
        async with asyncio.timeout(TIMEOUT_S):
            await task

    assert not last.get("more_body", False)


async def test_a_set_that_goes_ends_its_streams() -> None:
    """A client that comes back is told that there is no such set."""
    holder, hub = holder_of(snapshot(1)), Hub()
    async with stream(app_of(holder, hub=hub)) as (opened, task):
        await opened.greeting()
        publish(holder, hub, None)
        async with asyncio.timeout(TIMEOUT_S):
            await task


async def test_a_client_that_goes_leaves_nothing() -> None:
    """Its subscription ends with its connection."""
    hub = Hub()
    async with stream(app_of(holder_of(snapshot(1)), hub=hub)) as (opened, _):
        await opened.greeting()
        assert 1 == hub.count

    assert 0 == hub.count


async def test_a_client_that_does_not_read_loses_its_stream() -> None:
    """It is not waited for without end, and its subscription ends."""
    hub = Hub()
    app = Events(holder_of(snapshot(1)), hub, clock=fake_clock, chance=lambda: 0.0, send_timeout_s=0.01)

    async def never(message: Any) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(TIMEOUT_S):
        await app(SCOPE, Stream().receive, never)

    assert 0 == hub.count == app.count


async def test_too_many_streams() -> None:
    """One more than the bound is asked to come later, in seconds; one that ends makes room."""
    app = app_of(holder_of(snapshot(1)), options=WebOptions(event_streams_max=1))
    async with stream(app) as (opened, _):
        await opened.greeting()
        async with client_of(app) as client:
            refused = await client.get(EVENTS)
    async with stream(app) as (again, _):
        await again.greeting()

    assert (503, "10") == (refused.status_code, refused.headers["retry-after"])


async def test_the_hubs_own_bound() -> None:
    """The same holds where streams of other protocols have taken all the room."""
    app = app_of(holder_of(snapshot(1)), hub=Hub(subscribers_max=0))
    async with client_of(app) as client:
        assert 503 == (await client.get(EVENTS)).status_code


async def test_unknown_set() -> None:
    """A stream about nothing is refused, and says what there is."""
    async with client_of(app_of()) as client:
        response = await client.get(EVENTS, params={"flagSetId": "no/such"})

    assert (404, True) == (response.status_code, DEFAULT_SET in response.json()["errorDetails"])


async def test_nothing_loaded_yet() -> None:
    """A stream is refused for a moment while nothing is loaded."""
    async with client_of(app_of(Holder(DEFAULT_SET))) as client:
        response = await client.get(EVENTS)

    assert (503, "1") == (response.status_code, response.headers["retry-after"])


async def test_head_opens_no_stream() -> None:
    """HEAD tells the headers and ends."""
    async with client_of(app_of()) as client:
        response = await client.head(EVENTS)

    assert (200, "text/event-stream") == (response.status_code, response.headers["content-type"])


async def test_an_event_is_encoded_once() -> None:
    """All streams are sent the same bytes."""
    holder, hub = holder_of(snapshot(1)), Hub()
    app = app_of(holder, hub=hub)
    async with stream(app) as (one, _), stream(app) as (other, _):
        await one.greeting()
        await other.greeting()
        publish(holder, hub, snapshot(2))

        assert (await one.next())["body"] is (await other.next())["body"]
