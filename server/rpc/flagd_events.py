"""Serve flagd's EventStream: tell providers which flags changed, so that they forget the answers that they kept.

A stream says `provider_ready`, then names the flags that changed lately: a provider whose stream was gone for a while
may have kept answers from before, and would not hear of the change otherwise. For a minute after a server's start all
flags are named, as nobody knows what changed while it was down.

Both versions of the protocol encode events alike, and a message that is the same for many streams is encoded once.
Source: flagd, flag-evaluation/eventing.go; Python's provider keeps its answers when it reconnects soon.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError

from protos.flagd.evaluation.v1 import evaluation_pb2 as v1
from server.core.evaluation.difference import FlagChange, merged
from server.core.evaluation.snapshot import Snapshot
from server.live.holder import Holder
from server.live.watch import Hub, SetChange
from server.operations.evaluate import find, select
from server.rpc.call import Abort, Call
from server.rpc.convert import field
from server.rpc.status import Status
from server.rpc.table import Table, server_stream

SERVICES: Final = ("flagd.evaluation.v1.Service", "flagd.evaluation.v2.Service")
SELECTOR_HEADER: Final = "flagd-selector"
KEEP_ALIVE_S: Final = 20.0
"""Flagd's own interval; proxies that end idle streams wait longer."""

RESTARTED_S: Final = 60.0
"""After a start, the time in which clients of the server before it come back."""

MESSAGE_FLAGS_MAX: Final = 1_000
"""Flags that one message names: at most some 1.1 MB, where clients take 4."""

ENCODED_MAX: Final = 32
"""Sets of changes whose messages are kept for the streams that are still to send them."""

# Shutdown carries an empty object, as flagd's does.
READY: Final = v1.EventStreamResponse(type="provider_ready").SerializeToString()
KEEP_ALIVE: Final = v1.EventStreamResponse(type="keep_alive").SerializeToString()
SHUTDOWN: Final = v1.EventStreamResponse(type="provider_shutdown").SerializeToString() + field(2, b"")

_Told = TypeVar("_Told")


def flagd_events_table(
    holder: Holder,
    hub: Hub,
    *,
    keep_alive_s: float = KEEP_ALIVE_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> Table:
    """EventStream of both versions."""
    events = _Events(holder, hub, keep_alive_s, monotonic)
    return {f"/{service}/EventStream": server_stream(events.stream) for service in SERVICES}


class _Events:
    def __init__(self, holder: Holder, hub: Hub, keep_alive_s: float, monotonic: Callable[[], float]) -> None:
        self._holder = holder
        self._hub = hub
        self._keep_alive_s = keep_alive_s
        self._monotonic = monotonic
        self._all_until = monotonic() + RESTARTED_S
        self._encoded = _Encoded()

    async def stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """Ready, what changed lately, then every change of the flag set, until the server stops."""
        _check(raw)
        # A selector of a set that does not exist is refused here, not at the first evaluation.
        flag_set = self._select(call).flag_set
        # Subscribed before anything is said: a change in between is told twice rather than never.
        with self._hub.subscribe(flag_set) as subscription:
            lately = self._lately(flag_set)
            yield READY
            for message in lately:
                yield message
            clock = asyncio.get_running_loop().time
            silent_until = clock() + self._keep_alive_s
            while True:
                news = await subscription.take(timeout_s=max(0.0, silent_until - clock()))
                if news is not None and news.flags:
                    for message in self._encoded.of(id(news.flags), news.flags, dict):
                        yield message
                elif subscription.closed:
                    break
                elif clock() >= silent_until:
                    yield KEEP_ALIVE
                else:
                    # News without a difference that clients could tell: nothing was said.
                    continue
                silent_until = clock() + self._keep_alive_s
        yield SHUTDOWN

    def _lately(self, flag_set: str) -> Sequence[bytes]:
        if self._monotonic() < self._all_until:
            snapshot = self._holder.serving.snapshots.get(flag_set)
            return () if snapshot is None else _all_flags(snapshot)
        recent = self._hub.recent(flag_set)
        if not recent:
            return ()
        return self._encoded.of((id(recent[0]), id(recent[-1])), recent, _together)

    def _select(self, call: Call) -> Snapshot:
        selector = call.metadata(SELECTOR_HEADER)
        return select(self._holder, selector)[0] if selector else find(self._holder, "")


class _Encoded:
    """Messages by the identity of what they tell of; the latest ENCODED_MAX are kept."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Any, Sequence[bytes]]] = {}

    def of(self, key: Hashable, told: _Told, flags: Callable[[_Told], Mapping[str, FlagChange]]) -> Sequence[bytes]:
        """The messages of a key, encoded at its first use. What they tell of is kept, so that its id stays its own."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = told, change_messages(flags(told))
            if len(self._known) > ENCODED_MAX:
                del self._known[next(iter(self._known))]
        return known[1]


def change_messages(flags: Mapping[str, FlagChange]) -> Sequence[bytes]:
    """The `configuration_change` messages that name these flags; none for no flags."""
    entries = iter(flags.items())
    messages = []
    while portion := dict(islice(entries, MESSAGE_FLAGS_MAX)):
        message = v1.EventStreamResponse(type="configuration_change")
        message.data.update({"flags": {key: {"type": change.value} for key, change in portion.items()}})
        messages.append(message.SerializeToString(deterministic=True))
    return messages


def _together(changes: Sequence[SetChange]) -> Mapping[str, FlagChange]:
    flags: dict[str, FlagChange] = {}
    for change in changes:
        for key, what in change.flags.items():
            flags[key] = merged(flags.get(key), what)
    return flags


def _all_flags(snapshot: Snapshot) -> Sequence[bytes]:
    known: Sequence[bytes] | None = snapshot.wire.get("flagd.events")
    if known is None:
        known = change_messages(dict.fromkeys(snapshot.flags, FlagChange.UPDATE))
        snapshot.wire["flagd.events"] = known
    return known


def _check(raw: bytes) -> None:
    try:
        v1.EventStreamRequest.FromString(raw)
    except DecodeError:
        raise Abort(Status.INVALID_ARGUMENT, "the bytes are not an EventStreamRequest") from None
