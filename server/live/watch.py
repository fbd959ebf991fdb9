"""Tell subscribers what changed: each has one bounded mailbox in which changes are merged, the latest one winning.

Everything here runs on the event loop; `Hub.publish` is called through `call_soon_threadsafe`. A subscriber that does
not read costs one entry a flag and no more, however many commits pass by it. A change lies in all mailboxes at once,
and subscribers are woken by turns: evaluations get theirs between them, and who is woken late finds the latest.
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
from server.live.turns import Turns

SUBSCRIBERS_MAX: Final = 20_000
RECENT_CHANGES_MAX: Final = 64
"""Changes of a flag set that are remembered, for clients that come back."""

RECENT_S: Final = 15 * 60.0
"""How long they are remembered: longer than a client recycles its stream and backs off."""

PUT_COUNT: Final = 500
"""A change is put into so many mailboxes, in a fifth of a millisecond, before others get their turn."""

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
    """One mapping for all subscribers that missed the same: they can tell that they got the same."""


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscriber's mailbox."""

    flag_set: str
    _turns: Turns
    closed: bool = False
    _pending: Mapping[str, FlagChange] | None = None
    _latest: SetChange | None = None
    _asked: bool = False
    """Whether it waits for its turn."""

    _waiter: asyncio.Future[None] | None = None
    _due: float = 0.0
    """When the subscriber stops waiting, in the loop's time."""

    _timer: asyncio.TimerHandle | None = None

    def put(self, change: SetChange, merged_with: "Merging") -> None:
        """Merge a change into what waits."""
        self._latest = change
        self._pending = change.flags if self._pending is None else merged_with(self._pending)
        self._ask()

    def close(self) -> None:
        """Wake the subscriber for the last time."""
        self.closed = True
        self._ask()

    def end(self) -> None:
        """Let go of what the subscriber holds: it takes no more."""
        self._turns.done(self)
        if self._timer is not None:
            self._timer.cancel()

    def begin(self) -> bool:
        """Wake the subscriber; False when it does not wait, and finds its news when it comes."""
        self._asked = False
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        waiter.set_result(None)
        return True

    async def take(self, *, timeout_s: float) -> News | None:
        """Wait for news and empty the mailbox; None when none came in time or the hub was closed."""
        self._turns.done(self)
        # Whoever has news and no turn yet waits for it, too.
        if not self.closed and (self._latest is None or self._asked):
            # A future and a timer: asyncio's event with its timeout costs as much as encoding a message does.
            loop = asyncio.get_running_loop()
            self._set_timer(loop, loop.time() + timeout_s)
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        latest, self._latest = self._latest, None
        if latest is None:
            return None
        flags, self._pending = self._pending, None
        return News(latest.after, flags or NOTHING)

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._turns.ask(self)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """One timer serves many waits: it is set again only when it rings too early, or would ring too late."""
        self._due = due
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if loop.time() >= self._due:
            self._ask()
        else:
            self._set_timer(loop, self._due)


class Merging:
    """Merge one change into what subscribers have missed before, once for all that missed the same."""

    def __init__(self, change: SetChange) -> None:
        self._flags = change.flags
        self._known: dict[int, tuple[Mapping[str, FlagChange], Mapping[str, FlagChange]]] = {}

    def __call__(self, pending: Mapping[str, FlagChange]) -> Mapping[str, FlagChange]:
        """What was missed, with the change."""
        known = self._known.get(id(pending))
        if known is None:
            both = {**pending, **{key: merged(pending.get(key), what) for key, what in self._flags.items()}}
            # What was missed before is kept, so that its id stays its own.
            known = self._known[id(pending)] = pending, both
        return known[1]


class Hub:
    """Subscriptions by flag set, and what has changed lately."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        subscribers_max: int = SUBSCRIBERS_MAX,
        turns: Turns | None = None,
    ) -> None:
        self._clock, self._subscribers_max = clock, subscribers_max
        self._subscriptions: dict[str, dict[Subscription, None]] = {}
        """The oldest first."""

        self._turns = turns or Turns()
        self._count = 0
        self._recent: dict[str, deque[tuple[float, SetChange]]] = {}
        self._putting: asyncio.Task[None] | None = None
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
        subscription = Subscription(flag_set, self._turns, closed=self._closed)
        self._subscriptions.setdefault(flag_set, {})[subscription] = None
        self._count += 1
        try:
            yield subscription
        finally:
            self._count -= 1
            subscription.end()
            subscriptions = self._subscriptions[flag_set]
            del subscriptions[subscription]
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
        if self._putting is None and self._unsent:
            self._putting = asyncio.get_running_loop().create_task(self._put())

    def close(self) -> None:
        """End all subscriptions: the server is about to stop."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    async def _put(self) -> None:
        try:
            while self._unsent:
                change = self._unsent.popleft()
                merging = Merging(change)
                for place, subscription in enumerate(list(self._subscriptions.get(change.flag_set, ())), start=1):
                    subscription.put(change, merging)
                    if place % PUT_COUNT == 0:
                        await asyncio.sleep(0)
        finally:
            self._putting = None
