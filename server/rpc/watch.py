"""Serve flagstaff.v1's Watch: a context's values now, then those that change for it.

The first message is a SNAPSHOT, or CHANGES since a resume token that is understood, or a RESYNC where it is not. What
is too long for one message comes in several: CHANGES of the same revision follow, and only the last has a token.

A token names the state of the flag set and the second that its client was told of. It is understood for the same
request by every process that serves this state or had it lately, whichever gave it: another worker, or another life of
the server. One that has still to hear of the revision is given a moment for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

from google.protobuf.message import DecodeError

from protos.flagstaff.raw.v1.views_pb2 import StructView, WatchView
from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.errors import TooLarge
from server.core.evaluation.snapshot import Snapshot
from server.core.limits import WATCHED_KEYS_MAX
from server.core.resolution import Resolution
from server.live.holder import Holder
from server.live.watch import Hub, Subscription
from server.operations.counts import Seen, unseen
from server.operations.evaluate import find
from server.operations.states import state
from server.operations.watch import Differences, Step, Told, Wanted, all_answers, next_instant, step
from server.rpc.call import Abort, Call
from server.rpc.context import decode
from server.rpc.convert import field, ours_late_tail, ours_slice, varint
from server.rpc.status import Status
from server.rpc.table import Table, server_stream

PATH: Final = "/flagstaff.v1.EvaluationService/Watch"
KEEP_ALIVE_S: Final = 20.0
PART_BYTES_MAX: Final = 1024 * 1024
"""About where a message is divided: clients take 4 MiB, and the last part may be one long answer."""

_SNAPSHOT: Final = ours.WatchResponse.KIND_SNAPSHOT
_CHANGES: Final = ours.WatchResponse.KIND_CHANGES
_RESYNC: Final = ours.WatchResponse.KIND_RESYNC
_KEEP_ALIVE: Final = ours.WatchResponse.KIND_KEEP_ALIVE

_KIND_FIELD: Final = varint(1 << 3)
_RESOLUTION_TAG: Final = varint(2 << 3 | 2)
_REMOVED: Final = 3
_TOKEN: Final = 6

_TOKEN_LAYOUT: Final = Struct(">q8sq16s")
"""Revision, digest of the flag set's state, seconds, digest of the request."""

_NO_STATE: Final = 0, bytes(8)
"""Of a flag set that is gone."""

CATCH_UP_S: Final = 1.0
"""How long a token of a later revision waits for it: another worker may have heard of a commit first."""


def watch_table(
    holder: Holder,
    hub: Hub,
    *,
    clock: Callable[[], float],
    keep_alive_s: float = KEEP_ALIVE_S,
    catch_up_s: float = CATCH_UP_S,
    seen: Seen = unseen,
) -> Table:
    """The handler of Watch; `seen` is told of every value that is pushed.

    Units: clock gives seconds since 1970, UTC.
    """
    watch = _Watch(holder, hub, clock, keep_alive_s, catch_up_s, seen)
    return {PATH: server_stream(watch.stream)}


class _Watch:
    def __init__(
        self,
        holder: Holder,
        hub: Hub,
        clock: Callable[[], float],
        keep_alive_s: float,
        catch_up_s: float,
        seen: Seen,
    ) -> None:
        self._holder, self._hub, self._clock = holder, hub, clock
        self._keep_alive_s, self._catch_up_s = keep_alive_s, catch_up_s
        self._seen = seen
        self._differences = Differences()

    async def stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """All values or what was missed, then what changes, until the server stops."""
        view = _view(raw)
        snapshot = find(self._holder, view.flag_set)
        wanted = _wanted(view, snapshot)
        digest = _digest(view, snapshot)
        with self._hub.subscribe(snapshot.flag_set) as subscription:
            kind, before = _SNAPSHOT, None
            if view.resume_token:
                token = _token_of(view.resume_token, digest)
                if token is not None and token.revision > snapshot.revision:
                    snapshot = await self._caught_up(snapshot, token, subscription)
                before = self._resumed(wanted.flag_set, token)
                kind = _RESYNC if before is None else _CHANGES
            told, revision = Told(snapshot, int(self._clock())), snapshot.revision
            heard = await self._first(wanted, before, told)
            self._count(told, heard)
            for message in _messages(kind, heard, tail=ours_late_tail(snapshot), token=_token(told, digest)):
                yield message
            loop_time = asyncio.get_running_loop().time
            silent_until = loop_time() + self._keep_alive_s
            while not subscription.closed:
                await subscription.take(timeout_s=self._pause_s(wanted, told, silent_until - loop_time()))
                # Not the snapshot of the news: the holder may be further, and evaluations are answered from there.
                current = self._holder.serving.snapshots.get(wanted.flag_set)
                before, told = told, Told(current, int(self._clock()))
                revision = _not_less(revision, current)
                heard = await step(wanted, before, after=told, differences=self._differences, same=_same)
                if heard:
                    kind = _CHANGES
                elif loop_time() >= silent_until:
                    kind = _KEEP_ALIVE
                else:
                    continue
                self._count(told, heard)
                tail = _tail(wanted.flag_set, revision) if current is None else ours_late_tail(current)
                for message in _messages(kind, heard, tail=tail, token=_token(told, digest)):
                    yield message
                silent_until = loop_time() + self._keep_alive_s

    async def _first(self, wanted: Wanted, before: Told | None, told: Told) -> Step:
        if before is None:
            return Step(await all_answers(wanted, told))
        return await step(wanted, before, after=told, differences=self._differences, same=_same)

    async def _caught_up(self, snapshot: Snapshot, token: "_Token", subscription: Subscription) -> Snapshot:
        """What is served once it has a token's revision, or after a moment. Errors: NotFound."""
        time = asyncio.get_running_loop().time
        until = time() + self._catch_up_s
        while (
            snapshot.revision < token.revision
            and self._resumed(snapshot.flag_set, token) is None
            and not subscription.closed
            and (left_s := until - time()) > 0
        ):
            await subscription.take(timeout_s=left_s)
            snapshot = find(self._holder, snapshot.flag_set)
        return snapshot

    def _count(self, told: Told, heard: Step) -> None:
        if told.snapshot is not None:
            for answer in heard.answers:
                self._seen(told.snapshot, answer)

    def _pause_s(self, wanted: Wanted, told: Told, silence_s: float) -> float:
        instant = next_instant(wanted, told)
        return max(0.0, silence_s if instant is None else min(silence_s, instant - self._clock()))

    def _resumed(self, flag_set: str, token: "_Token | None") -> Told | None:
        """What the client of a token was told; None when that is not known any more."""
        if token is not None:
            for snapshot in self._known(flag_set):
                # The revision first: the state of a large set takes milliseconds.
                if snapshot.revision == token.revision and state(snapshot) == token.state:
                    return Told(snapshot, token.at)
        return None

    def _known(self, flag_set: str) -> Iterator[Snapshot]:
        current = self._holder.serving.snapshots.get(flag_set)
        if current is not None:
            yield current
        for change in reversed(self._hub.recent(flag_set)):
            for snapshot in (change.after, change.before):
                if snapshot is not None:
                    yield snapshot


@dataclass(frozen=True, slots=True)
class _Token:
    """What a client was told of."""

    revision: int
    state: bytes
    at: int


def _token(told: Told, digest: bytes) -> bytes:
    revision, at_state = _NO_STATE if told.snapshot is None else (told.snapshot.revision, state(told.snapshot))
    return _TOKEN_LAYOUT.pack(revision, at_state, told.at, digest)


def _token_of(token: bytes, digest: bytes) -> _Token | None:
    """None when it is none, or not for this request."""
    if len(token) != _TOKEN_LAYOUT.size:
        return None
    revision, at_state, at, asked = _TOKEN_LAYOUT.unpack(token)
    return _Token(revision, at_state, at) if asked == digest else None


def _view(raw: bytes) -> WatchView:
    try:
        return WatchView.FromString(raw)
    except DecodeError:
        raise Abort(Status.INVALID_ARGUMENT, "the bytes are not a flagstaff.v1.WatchRequest") from None


def _wanted(view: WatchView, snapshot: Snapshot) -> Wanted:
    if len(view.flag_keys) > WATCHED_KEYS_MAX:
        raise TooLarge(
            f"{len(view.flag_keys)} flags are asked for by key, at most {WATCHED_KEYS_MAX} are allowed; name none, to"
            " get every flag of the set"
        )
    # Decoded whole: a rule that comes later may read what none reads now.
    return Wanted(snapshot.flag_set, tuple(dict.fromkeys(view.flag_keys)), decode(view.context, None))


def _digest(view: WatchView, snapshot: Snapshot) -> bytes:
    """What a token is good for: the flag set, the flags and the context, in whatever order a client writes them."""
    digest = blake2b(digest_size=16)
    attributes = sorted(StructView.FromString(view.context).fields.items())
    for part in (snapshot.flag_set, *sorted(set(view.flag_keys)), "", *(name for name, _ in attributes)):
        digest.update(field(1, part.encode()))
    for _, value in attributes:
        digest.update(field(2, value))
    return digest.digest()


def _same(one: Resolution, other: Resolution) -> bool:
    return one is other or ours_slice(one) == ours_slice(other)


def _not_less(revision: int, current: Snapshot | None) -> int:
    if current is None:
        return revision
    if current.revision < revision:
        raise Abort(
            Status.ABORTED,
            f"flag set {current.flag_set!r} went back from revision {revision} to {current.revision}, as a database"
            " does that is restored; subscribe again",
        )
    return current.revision


def _messages(kind: int, heard: Step, *, tail: bytes, token: bytes) -> Iterator[bytes]:
    """One step as one or several messages."""
    parts: list[bytes] = []
    size = 0
    for part in _parts(heard):
        if size and size + len(part) > PART_BYTES_MAX:
            yield _message(kind, parts, tail)
            kind, parts, size = _CHANGES, [], 0
        parts.append(part)
        size += len(part)
    yield _message(kind, parts, tail + field(_TOKEN, token))


def _parts(heard: Step) -> Iterator[bytes]:
    for key in heard.removed:
        yield field(_REMOVED, key.encode())
    for answer in heard.answers:
        # The same slice as in EvaluateResponse, under the tag of this message's field 2.
        yield _RESOLUTION_TAG + ours_slice(answer)[1:]


def _message(kind: int, parts: Sequence[bytes], tail: bytes) -> bytes:
    return b"".join((_KIND_FIELD, varint(kind), *parts, tail))


def _tail(flag_set: str, revision: int) -> bytes:
    return ours.WatchResponse(revision=revision, flag_set=flag_set).SerializeToString()
