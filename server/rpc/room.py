"""Bound the bytes of large messages that are being written at once, over all streams.

A message that its client does not read stays in memory, a copy for each stream. Streams that would pass the bound wait
their turn instead; a stalled client loses its place when the door ends its stream.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """Places in memory, handed out in the order in which they were asked for."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used_bytes(self) -> int:
        """What is being written now."""
        return self._used_bytes

    @asynccontextmanager
    async def hold(self, byte_count: int) -> AsyncIterator[None]:
        """Room for so many bytes while the block runs; waits for it. A message of any size fits when it is alone."""
        await self._take(byte_count)
        try:
            yield
        finally:
            self._give_back(byte_count)

    async def _take(self, byte_count: int) -> None:
        if not self._waiting and self._fits(byte_count):
            self._used_bytes += byte_count
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((byte_count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # Its turn may have come in the same moment.
            if turn.done() and not turn.cancelled():
                self._give_back(byte_count)
            raise

    def _give_back(self, byte_count: int) -> None:
        self._used_bytes -= byte_count
        while self._waiting:
            next_count, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif self._fits(next_count):
                self._waiting.popleft()
                self._used_bytes += next_count
                turn.set_result(None)
            else:
                break

    def _fits(self, byte_count: int) -> bool:
        return not self._used_bytes or self._used_bytes + byte_count <= self._bytes_max
