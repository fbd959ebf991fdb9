"""End streams whose caller's credentials have ended. Everything here runs on the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from server.core.errors import Unauthenticated
from server.live.callers import Caller

LOOK_S: Final = 1.0
"""How often it is looked whether somebody's credentials have expired."""

_Result = TypeVar("_Result")


class Session:
    """One stream of a caller."""

    __slots__ = ("_caller", "_ended", "_timeout")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._ended = ""
        self._timeout: asyncio.Timeout | None = None

    def end(self, why: str) -> None:
        """Let the stream end now, or when it next waits."""
        self._ended = why
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def require(self) -> None:
        """Refuse to go on when the credentials have ended. Errors: Unauthenticated."""
        if self._ended:
            raise Unauthenticated(f"{self._ended}; the stream ends")

    async def wait(self, result: Awaitable[_Result]) -> _Result:
        """Wait for something, but not longer than the credentials last. Errors: Unauthenticated."""
        try:
            async with asyncio.timeout(None) as self._timeout:
                return await result
        except TimeoutError:
            self.require()
            raise
        finally:
            self._timeout = None


class Sessions:
    """All streams whose callers' credentials may end."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Units: clock gives seconds since 1970, UTC."""
        self._clock = clock
        self._open: dict[Caller, set[Session]] = {}

    @property
    def count(self) -> int:
        """Streams now."""
        return sum(len(sessions) for sessions in self._open.values())

    @contextmanager
    def hold(self, caller: Caller) -> Iterator[Session]:
        """A session for as long as the block runs."""
        session = Session(caller)
        self._open.setdefault(caller, set()).add(session)
        try:
            yield session
        finally:
            sessions = self._open[caller]
            sessions.discard(session)
            if not sessions:
                del self._open[caller]

    def check(self) -> None:
        """End the streams of those whose credentials are not good any more."""
        now = self._clock()
        for caller, sessions in list(self._open.items()):
            why = caller.problem(now)
            if why:
                for session in list(sessions):
                    session.end(why)

    async def watch(self) -> None:
        """Check now and then, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.check()
