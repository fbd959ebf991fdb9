"""Let a few subscribers work at a time, so that whatever else the loop has to do gets its turn between them.

Everything here runs on the event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

AT_ONCE: Final = 16
"""Subscribers that work at the same time. Each costs the loop some 50 us, and a call waits for those of several rounds
of the loop: with 64 the slowest of a hundred took 140 ms beside 5,000 streams, with 16 it took 17, and the streams
heard no later. With fewer the loop runs dry while the transport's thread reports what was written."""

SLOW_S: Final = 0.005
"""Who works for longer waits for its client, and the others do not wait for it: they go on in its place."""


class Worker(Protocol):
    """Somebody who has something to do."""

    def begin(self) -> bool:
        """Begin with it; False when there is nothing to begin now. The worker says by `Turns.done` when it is done."""
        ...


class Turns:
    """Workers in the order in which they asked for a turn, and those that have one."""

    def __init__(
        self, *, at_once: int = AT_ONCE, slow_s: float = SLOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once, self._slow_s, self._clock = at_once, slow_s, clock
        self._waiting: deque[Worker] = deque()
        self._working: dict[Worker, float] = {}
        """Since when, by the clock; the oldest first."""

        self._look: asyncio.TimerHandle | None = None

    def ask(self, worker: Worker) -> None:
        """Have a worker begin as soon as there is room. It asks once, and again only after `begin` was called."""
        self._waiting.append(worker)
        # Where others wait already there is no room: whoever is done, and the next look, lets them begin.
        if len(self._waiting) == 1:
            self._go_on()

    def done(self, worker: Worker) -> None:
        """Take a turn back; from one that has none, or had it for too long, there is nothing to take."""
        if self._working.pop(worker, None) is not None and self._waiting:
            self._go_on()

    def _go_on(self) -> None:
        now = self._clock()
        while self._waiting and self._has_room(now):
            worker = self._waiting.popleft()
            if worker.begin():
                self._working[worker] = now
        if self._waiting and self._look is None:
            self._look = asyncio.get_running_loop().call_later(self._slow_s, self._look_again)

    def _has_room(self, now: float) -> bool:
        if len(self._working) < self._at_once:
            return True
        oldest, since = next(iter(self._working.items()))
        if now - since < self._slow_s:
            return False
        del self._working[oldest]
        return True

    def _look_again(self) -> None:
        """When all who have a turn are slow, nobody is done."""
        self._look = None
        self._go_on()
