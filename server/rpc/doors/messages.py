"""Read the messages of grpc.aio's streams ahead, within bounds on memory."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc.aio

from server.rpc.doors.batches import seen_through

AHEAD_MESSAGES_MAX: Final = 16
AHEAD_BYTES_MAX: Final = 256 * 1024

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # The stubs have forgotten it.


class Requests:
    """Messages of a stream, read ahead so that reading and writing overlap; they end when `end` is called.

    A read is never cancelled: the core may still write into its memory. Ending only stops waiting for it.
    """

    __slots__ = ("_ahead", "_ahead_bytes", "_context", "_ended", "_message", "_pump", "_room", "gone")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._ahead: deque[bytes] = deque()
        self._ahead_bytes = 0
        self._ended = False
        self.gone = False
        """Whether the call is over, so that there is nobody to whom to leave a status."""

        self._message: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._pump = asyncio.create_task(self._read_ahead())

    def end(self) -> None:
        """Give out what was read, and nothing further."""
        self._ended = True
        _wake(self._message)
        _wake(self._room)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ahead:
            if self._ended:
                raise StopAsyncIteration
            self._message = asyncio.get_running_loop().create_future()
            await self._message
        message = self._ahead.popleft()
        self._ahead_bytes -= len(message)
        if self._room is not None:
            _wake(self._room)
        return message

    async def _read_ahead(self) -> None:
        read = self._context.read
        try:
            # Asked before each read: after the call has ended, a read would touch a call that is no more.
            while not self._ended:
                message = await seen_through(read())
                if message is _EOF:
                    break
                self._ahead.append(message)
                self._ahead_bytes += len(message)
                if self._message is not None:
                    _wake(self._message)
                while self._must_wait():
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        except grpc.aio.BaseError:
            # Cancelled, cut off or answered.
            self.gone = True
        finally:
            self.end()

    def _must_wait(self) -> bool:
        is_full = len(self._ahead) >= AHEAD_MESSAGES_MAX or self._ahead_bytes >= AHEAD_BYTES_MAX
        return is_full and not self._ended


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
