"""Tell everyone who holds a stream open that the server is about to stop."""

import asyncio
from collections.abc import Callable


class Drain:
    """Two moments, each reached once: `leaving` (take no more traffic), then `ending` (streams end now)."""

    def __init__(self) -> None:
        self._leaving = asyncio.Event()
        self._ending = asyncio.Event()
        self._when_leaving: list[Callable[[], None]] = []
        self._when_ending: list[Callable[[], None]] = []

    @property
    def leaving(self) -> bool:
        """Whether health answers NOT_SERVING, so that balancers and clients go elsewhere."""
        return self._leaving.is_set()

    @property
    def ending(self) -> bool:
        """Whether open streams are being ended."""
        return self._ending.is_set()

    def when_leaving(self, callback: Callable[[], None]) -> None:
        """Have a function called at `leave`."""
        self._when_leaving.append(callback)

    def when_ending(self, callback: Callable[[], None]) -> None:
        """Have a function called at `end_streams`."""
        self._when_ending.append(callback)

    def leave(self) -> None:
        """Reach the first moment."""
        if not self._leaving.is_set():
            self._leaving.set()
            for callback in self._when_leaving:
                callback()

    def end_streams(self) -> None:
        """Reach the second moment."""
        self.leave()
        if not self._ending.is_set():
            self._ending.set()
            for callback in self._when_ending:
                callback()

    async def ended(self) -> None:
        """Wait until streams must end."""
        await self._ending.wait()

    async def wait_ending(self, timeout_s: float) -> bool:
        """Wait until streams must end, but not longer than a time; whether they must."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ending.wait()
        except TimeoutError:
            return False
        return True
