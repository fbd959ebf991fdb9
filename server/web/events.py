"""Tell web clients by server-sent events that flags changed, so that they evaluate again.

An event also tells when the answers of a flag may have changed by themselves, because its rule has an instant in it.
A client that comes back names the state that it knew (`Last-Event-ID`) and is told at once when there is another. A new
one is told when something changed lately, because that may have been between its evaluation and this stream.

Source: OFREP 0.3.0, service/event-streams.yaml, ADR-0008.
"""

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from server.core.errors import FlagstaffError, StoreUnavailable, TooLarge
from server.core.evaluation.snapshot import Snapshot
from server.live.holder import Holder
from server.live.watch import Hub, Subscription
from server.operations.evaluate import find
from server.web.replies import HeaderLines, Reply, compact, failed, try_later
from server.web.requests import Headers, headers_of
from server.web.tags import set_tag

STREAMS_MAX: Final = 5_000
"""Event streams of one process, well below what the hub takes: web pages must not shut services out."""

KEEP_ALIVE_S: Final = 20.0
"""A comment is sent when nothing else was for so long; proxies that end idle streams wait longer."""

SEND_TIMEOUT_S: Final = 30.0
"""A client that does not read for so long loses its stream, and comes back by itself when it still wants it."""

RETRY_MS_MIN: Final = 1_000
RETRY_MS_SPREAD: Final = 4_000
"""When a stream ends, clients wait from RETRY_MS_MIN to this much more, so that not all come at once."""

TIMED_SPREAD_S: Final = 1.0
"""Clients are told of an instant within this time of it, not all at once."""

BUSY_RETRY_S: Final = 10
NO_SUCH_SET: Final = 404

_HEADERS: Final[HeaderLines] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # Nginx would collect events before it passes them on.
    (b"x-accel-buffering", b"no"),
)
_KEEP_ALIVE: Final = b": keep-alive\n\n"


class Events:
    """GET /ofrep/v1/events?flagSetId=<project>/<environment>.

    Units: clock gives seconds since 1970, UTC. Shapes: chance gives a float, >= 0 and < 1.
    """

    def __init__(
        self,
        holder: Holder,
        hub: Hub,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        streams_max: int = STREAMS_MAX,
        keep_alive_s: float = KEEP_ALIVE_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._holder, self._hub = holder, hub
        self._clock, self._chance = clock, chance
        self._streams_max, self._keep_alive_s, self._send_timeout_s = streams_max, keep_alive_s, send_timeout_s
        self._count = 0

    @property
    def count(self) -> int:
        """Open streams."""
        return self._count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold one stream open until the client goes or the server drains."""
        self._count += 1
        try:
            with contextlib.ExitStack() as stack:
                try:
                    subscription, snapshot = self._begin(scope, stack)
                except FlagstaffError as error:
                    await _refusal(error).send(send)
                    return
                if scope["method"] == "HEAD":
                    await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
                    await send({"type": "http.response.body"})
                    return
                greeting = self._greeting(snapshot, headers_of(scope))
                await _until_gone(receive, self._tell(subscription, snapshot, greeting=greeting, send=send))
        finally:
            self._count -= 1

    def _begin(self, scope: Scope, stack: contextlib.ExitStack) -> tuple[Subscription, Snapshot]:
        if self._count > self._streams_max:
            raise TooLarge(f"this server has {self._streams_max} open event streams, the most that it takes")
        named = parse_qs(scope["query_string"].decode("latin-1")).get("flagSetId", [""])
        flag_set = find(self._holder, named[0]).flag_set
        subscription = stack.enter_context(self._hub.subscribe(flag_set))
        # Looked at after subscribing, so that no change falls between.
        return subscription, find(self._holder, flag_set)

    def _greeting(self, snapshot: Snapshot, headers: Headers) -> bytes:
        retry = f"retry: {RETRY_MS_MIN + int(RETRY_MS_SPREAD * self._chance())}\n".encode()
        last_seen = headers.get(b"last-event-id", b"").decode("latin-1")
        is_behind = last_seen != set_tag(snapshot) if last_seen else bool(self._hub.recent(snapshot.flag_set))
        # An id without data is no event: the browser only remembers it, and sends it when it comes back.
        return retry + (self._event(snapshot) if is_behind else f"id: {set_tag(snapshot)}\n\n".encode())

    async def _tell(self, subscription: Subscription, snapshot: Snapshot, *, greeting: bytes, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            await self._send(send, {"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await self._send(send, {"type": "http.response.body", "body": greeting, "more_body": True})
            due = self._due(snapshot)
            while True:
                news = await subscription.take(timeout_s=min(self._keep_alive_s, max(0.0, due - self._clock())))
                if subscription.closed or (news is not None and news.snapshot is None):
                    # The server drains, or the flag set is gone.
                    break
                part = _KEEP_ALIVE
                if news is not None and news.snapshot is not None:
                    snapshot = news.snapshot
                if news is not None or self._clock() >= due:
                    part, due = self._event(snapshot), self._due(snapshot)
                await self._send(send, {"type": "http.response.body", "body": part, "more_body": True})
            await self._send(send, {"type": "http.response.body"})

    async def _send(self, send: Send, message: dict[str, object]) -> None:
        async with asyncio.timeout(self._send_timeout_s):
            await send(message)

    def _due(self, snapshot: Snapshot) -> float:
        """When to tell of the next instant at which an answer may change by itself; infinity when there is none."""
        instants = _instants(snapshot)
        place = bisect_right(instants, self._clock())
        return inf if place == len(instants) else instants[place] + TIMED_SPREAD_S * self._chance()

    def _event(self, snapshot: Snapshot) -> bytes:
        """The event that tells of a snapshot, encoded once for all streams."""
        known: bytes | None = snapshot.wire.get("web.event")
        if known is None:
            tag = set_tag(snapshot)
            data = compact({"type": "refetchEvaluation", "etag": tag, "lastModified": int(self._clock())})
            known = snapshot.wire["web.event"] = b"event: message\nid: " + tag.encode() + b"\ndata: " + data + b"\n\n"
        return known


def _instants(snapshot: Snapshot) -> tuple[int, ...]:
    """Ascending, once per snapshot. Flags that compute with the time are left out: they change every second."""
    known: tuple[int, ...] | None = snapshot.wire.get("web.instants")
    if known is None:
        clocks = (flag.clock for flag in snapshot.flags.values() if flag.clock is not None)
        # An answer may be another one from an instant on, or only after it.
        found = {instant + after for clock in clocks for instant in clock.instants for after in (0, 1)}
        known = snapshot.wire["web.instants"] = tuple(sorted(found))
    return known


def _refusal(error: FlagstaffError) -> Reply:
    if isinstance(error, TooLarge):
        return try_later(str(error), after_s=BUSY_RETRY_S)
    return try_later(str(error)) if isinstance(error, StoreUnavailable) else failed(NO_SUCH_SET, str(error))


async def _until_gone(receive: Receive, telling: Coroutine[Any, Any, None]) -> None:
    """Run a stream until it ends or its client is gone."""
    tasks = [asyncio.ensure_future(telling), asyncio.ensure_future(_gone(receive))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
