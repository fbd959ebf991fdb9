"""End the streams that last: never as if all had been said, after an age when one is set, and with a hint when full."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from server.live.watch import TooManySubscribers
from server.rpc.call import Abort, Call, OrderlyEnd
from server.rpc.drain import Drain
from server.rpc.status import Status
from server.rpc.table import Kind, Table

AGE_JITTER: Final = 0.1
"""Ages differ by up to this part, so that streams which began together do not end together."""

PUSHBACK_MS_MIN: Final = 2_000
PUSHBACK_MS_MAX: Final = 10_000
_STOPPING: Final = "the server is stopping; open a new stream"
PUSHBACK_HEADER: Final = "grpc-retry-pushback-ms"


@dataclass(frozen=True, slots=True)
class StreamAge:
    """How long a stream may last."""

    age_s: float | None = None
    """None: as long as the client wants."""

    chance: Callable[[], float] = random.random
    """Gives numbers from 0 to 1."""

    def drawn_s(self) -> float | None:
        """The age of one stream, with jitter."""
        return None if self.age_s is None else self.age_s * (1 + AGE_JITTER * (2 * self.chance() - 1))


NO_AGE: Final = StreamAge()


def lasting(table: Table, age: StreamAge = NO_AGE) -> Table:
    """The same table, whose server streams end only with a status that brings clients back.

    A handler's own end means that the server stops, and becomes UNAVAILABLE: flagd's Node provider opens a new stream
    after any error but never after OK. An end by age is DEADLINE_EXCEEDED, as flagd's `--stream-deadline` has it, which
    every provider takes as the moment to come again.
    """
    return {
        path: replace(handler, function=_lasting(handler.function, age))
        if handler.kind is Kind.SERVER_STREAM
        else handler
        for path, handler in table.items()
    }


def _lasting(function: Callable[..., Any], age: StreamAge) -> Callable[..., Any]:
    async def serve(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        age_s = age.drawn_s()
        ends_at = None if age_s is None else asyncio.get_running_loop().time() + age_s
        async with aclosing(function(raw, call)) as messages:
            while True:
                try:
                    message = await (anext(messages) if ends_at is None else _before(ends_at, anext(messages)))
                except StopAsyncIteration:
                    raise OrderlyEnd(Status.UNAVAILABLE, _STOPPING) from None
                except TimeoutError:
                    told = f"the stream has lasted for {age_s or 0:.0f} s, the most here; open a new one"
                    raise OrderlyEnd(Status.DEADLINE_EXCEEDED, told) from None
                except TooManySubscribers as error:
                    raise _come_later(error, age.chance()) from None
                yield message

    return serve


def ending(table: Table, drain: Drain) -> Table:
    """The same table, whose server streams end when the server stops, whatever they wait for."""
    return {
        path: replace(handler, function=_ending(handler.function, drain))
        if handler.kind is Kind.SERVER_STREAM
        else handler
        for path, handler in table.items()
    }


def _ending(function: Callable[..., Any], drain: Drain) -> Callable[..., Any]:
    async def serve(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        async with aclosing(function(raw, call)) as messages, _Task(drain.ended()) as stopping:
            while True:
                async with _Task(anext(messages, None)) as next_message:
                    await asyncio.wait((next_message, stopping), return_when=asyncio.FIRST_COMPLETED)
                    if not next_message.done():
                        raise OrderlyEnd(Status.UNAVAILABLE, _STOPPING)
                    message = next_message.result()
                if message is None:
                    return
                yield message

    return serve


class _Task:
    """A task that does not outlive its block."""

    def __init__(self, what: Awaitable[Any]) -> None:
        self._task = asyncio.ensure_future(what)

    async def __aenter__(self) -> "asyncio.Future[Any]":
        return self._task

    async def __aexit__(self, *_raised: object) -> None:
        if not self._task.done():
            self._task.cancel()
            # An iterator may not be closed while it is asked for its next value.
            await asyncio.wait((self._task,))


async def _before(ends_at: float, message: Awaitable[bytes]) -> bytes:
    async with asyncio.timeout_at(ends_at):
        return await message


def _come_later(error: TooManySubscribers, chance: float) -> Abort:
    pushback_ms = int(PUSHBACK_MS_MIN + (PUSHBACK_MS_MAX - PUSHBACK_MS_MIN) * chance)
    return Abort(Status.RESOURCE_EXHAUSTED, str(error), trailing=[(PUSHBACK_HEADER, str(pushback_ms))])
