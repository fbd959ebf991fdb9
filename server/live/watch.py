"""Tell subscribers what changed: each has one bounded mailbox in which changes are merged, the latest one winning.

Everything here runs on the event loop; `Hub.publish` is called through `call_soon_threadsafe`. A subscriber that does
not read costs one entry a flag and no more, however many commits pass by it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from server.core.errors import TooLarge
from server.core.evaluation.difference import FlagChange, merged
from server.core.evaluation.snapshot import Snapshot

SUBSCRIBERS_MAX: Final = 20_000
RECENT_CHANGES_MAX: Final = 64
"""Changes of a flag set that are remembered, for clients that come back."""

RECENT_S: Final = 15 * 60.0
"""How long they are remembered: longer than a client recycles its stream and backs off."""

WAKE_COUNT: Final = 50
WAKE_PAUSE_S: Final = 0.002
"""A change is handed out in portions with a pause between them, in which evaluations get their turn."""

NOTHING: Final[Mapping[str, FlagChange]] = {}


class TooManySubscribers(TooLarge):
    """There is no room for a further subscription now; there may be in a moment."""


@dataclass(frozen=True, slots=True)
class SetChange:
    """One step of a flag set from a snapshot to the next."""

    flag_set: str
    before: Snapshot | None
    after: Snapshot | None
    """None when the flag set is gone."""

    flags: Mapping[str, FlagChange]


@dataclass(frozen=True, slots=True)
class News:
    """What a subscriber has missed since it last asked."""

    snapshot: Snapshot | None
    """The latest one; None when the flag set is gone."""

    flags: Mapping[str, FlagChange]
    """The very mapping of the SetChange when there was one: subscribers can tell that they got the same."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscriber's mailbox."""

    flag_set: str
    _pending: Mapping[str, FlagChange] | None = None
    _merging: dict[str, FlagChange] | None = None
    """What is pending, once there are several changes in it."""

    _latest: SetChange | None = None
    _waiter: asyncio.Future[None] | None = None
    closed: bool = False

    def put(self, change: SetChange) -> None:
        """Merge a change into what waits."""
        self._latest = change
        if self._pending is None:
            self._pending = change.flags
        else:
            if self._merging is None:
                self._pending = self._merging = dict(self._pending)
            for key, what in change.flags.items():
                self._merging[key] = merged(self._merging.get(key), what)
        _wake(self._waiter)

    def close(self) -> None:
        """Wake the subscriber for the last time."""
        self.closed = True
        _wake(self._waiter)

    async def take(self, *, timeout_s: float) -> News | None:
        """Wait for news and empty the mailbox; None when none came in time or the hub was closed."""
        if self._latest is None and not self.closed:
            # A future and a timer: asyncio's event with its timeout costs as much as encoding a message does.
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(timeout_s, _wake, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        latest, self._latest = self._latest, None
        if latest is None:
            return None
        flags, self._pending, self._merging = self._pending, None, None
        return News(latest.after, flags or NOTHING)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Hub:
    """Subscriptions by flag set, and what has changed lately."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, subscribers_max: int = SUBSCRIBERS_MAX) -> None:
        self._clock, self._subscribers_max = clock, subscribers_max
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._count = 0
        self._recent: dict[str, deque[tuple[float, SetChange]]] = {}
        self._waking: asyncio.Task[None] | None = None
        self._unsent: deque[SetChange] = deque()
        self._closed = False

    @property
    def count(self) -> int:
        """Subscribers now."""
        return self._count

    @contextmanager
    def subscribe(self, flag_set: str) -> Iterator[Subscription]:
        """A mailbox for as long as the block runs. Errors: TooManySubscribers."""
        if self._count >= self._subscribers_max:
            raise TooManySubscribers(
                f"this server has {self._subscribers_max} open subscriptions, the most that it takes; try another"
            )
        subscription = Subscription(flag_set)
        if self._closed:
            subscription.close()
        self._subscriptions.setdefault(flag_set, set()).add(subscription)
        self._count += 1
        try:
            yield subscription
        finally:
            self._count -= 1
            subscriptions = self._subscriptions[flag_set]
            subscriptions.discard(subscription)
            if not subscriptions:
                del self._subscriptions[flag_set]

    def recent(self, flag_set: str) -> Sequence[SetChange]:
        """The flag set's changes of the last RECENT_S seconds, oldest first, at most RECENT_CHANGES_MAX."""
        since = self._clock() - RECENT_S
        return [change for at, change in self._recent.get(flag_set, ()) if at >= since]

    def publish(self, changes: Sequence[SetChange]) -> None:
        """Hand changes to their subscribers, in order, in portions."""
        for change in changes:
            remembered = self._recent.setdefault(change.flag_set, deque(maxlen=RECENT_CHANGES_MAX))
            remembered.append((self._clock(), change))
            self._unsent.append(change)
        if self._waking is None and self._unsent:
            self._waking = asyncio.get_running_loop().create_task(self._hand_out())

    def close(self) -> None:
        """End all subscriptions: the server is about to stop."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    async def _hand_out(self) -> None:
        try:
            while self._unsent:
                change = self._unsent.popleft()
                for place, subscription in enumerate(list(self._subscriptions.get(change.flag_set, ())), start=1):
                    subscription.put(change)
                    if place % WAKE_COUNT == 0:
                        await asyncio.sleep(WAKE_PAUSE_S)
        finally:
            self._waking = None
