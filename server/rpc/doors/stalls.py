"""End the streams whose client does not read, by one look at all of them now and then.

A timer for each message costs more than the message: thousands of streams write the same one within a moment.
"""

import asyncio
from math import inf
from typing import Final

WRITE_STALL_S: Final = 20.0
"""How long a client may leave one message of a server stream unread; HTTP/2 lets it hold up only its own stream."""

LOOKS: Final = 20
"""Looks in that time: a stream is ended up to a twentieth of it later."""


class Writing:
    """One stream's task, and since when it has been writing a message."""

    __slots__ = ("_cancelling", "is_stalled", "since", "task")

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self.task = task
        self.since = inf
        """In the loop's time; infinity while nothing is being written."""

        self.is_stalled = False
        """Whether the task was cancelled here, because its client does not read."""

        self._cancelling = 0

    def stall(self) -> None:
        """Cancel the task's write. The core has taken the message over when it waits for the client."""
        self.is_stalled = True
        self._cancelling = self.task.cancelling()
        self.task.cancel()

    def caught(self) -> bool:
        """Whether a cancellation that the task caught is of `stall` alone; the task goes on, then."""
        return self.is_stalled and self.task.uncancel() <= self._cancelling


class Stalls:
    """All streams that write, looked at while there are some."""

    def __init__(self, stall_s: float = WRITE_STALL_S) -> None:
        self.stall_s = stall_s
        self._all: set[Writing] = set()
        self._look: asyncio.TimerHandle | None = None

    def begin(self) -> Writing:
        """Look after the present task."""
        task = asyncio.current_task()
        assert task is not None
        writing = Writing(task)
        self._all.add(writing)
        if self._look is None:
            self._look_later(task.get_loop())
        return writing

    def end(self, writing: Writing) -> None:
        """Look after it no longer."""
        self._all.discard(writing)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = loop.call_later(self.stall_s / LOOKS, self._look_at_all, loop)

    def _look_at_all(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        latest = loop.time() - self.stall_s
        for writing in self._all:
            if writing.since <= latest and not writing.is_stalled:
                writing.stall()
        if self._all:
            self._look_later(loop)
