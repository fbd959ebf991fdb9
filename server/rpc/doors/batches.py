"""See a batch of the core through, so that grpc.aio frees what it holds for it also when the call is over.

`context.write` and `context.read` hand a batch to the core, wait for a future, and free the batch after that. A client
that leaves cancels the waiting, and a batch that failed raises from it: either way some 400 bytes of a message that was
sent stayed behind, of every fifth stream whose client left under load, and 80 of one that was waited for.
Source: github.com/grpc/grpc/issues/43360, open in grpcio 1.85; once it is mended there, this does nothing more. What
the library does before and after a handler is out of reach: 80 bytes for each call that is reset before it has begun.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


@coroutine
def seen_through(work: Coroutine[Any, Any, _Result]) -> Generator[Any, None, _Result]:
    """Await a read or a write. Whatever comes between, it goes on to its end when the core is done with its batch.

    Errors: what the work raises; what its batch failed with; CancelledError, at once, when the task that awaits it is
    cancelled.
    """
    try:
        batch = work.send(None)
        # A library that waits for anything else is another than is known here, and is left to itself.
        while type(batch) is asyncio.Future:
            try:
                yield batch
            except (asyncio.CancelledError, Exception):
                _finish(work, batch)
                raise
            batch = work.send(None)
        yield batch
    except StopIteration as end:
        result: _Result = end.value
        return result
    # A coroutine that has begun goes on like this, too.
    rest: _Result = yield from work
    return rest


def _finish(work: Coroutine[Any, Any, _Result], batch: "asyncio.Future[None]") -> None:
    """Have the work do what follows its batch, once the core is done with that."""
    if batch.cancelled():
        # The core asks its future, and would say nothing to one that is cancelled.
        _begin_anew(batch)
    if not batch.done():
        batch.add_done_callback(lambda done: _finish(work, done))
        return
    if batch.exception() is not None:
        _begin_anew(batch)
        batch.set_result(None)
    # Nobody waits any more for what it says.
    with suppress(Exception):
        work.send(None)


def _begin_anew(batch: "asyncio.Future[None]") -> None:
    """Make a future pending again: the core and the work hold this one, and take no other."""
    asyncio.Future.__init__(batch, loop=batch.get_loop())
