"""See a message's write through, so that grpc.aio frees what it holds for it also when the stream is cancelled.

`context.write` hands a batch to the core, waits for a future, and frees the batch after that. A client that leaves
cancels the waiting, and a batch that failed raises from it: either way some 400 bytes stayed behind, of every fifth
stream whose client left under load, and were never freed.
Source: github.com/grpc/grpc/issues/43360, open in grpcio 1.85; once it is mended there, this does nothing more.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import Any


@coroutine
def seen_through(write: Coroutine[Any, Any, None]) -> Generator[Any, None, None]:
    """Await a write. Whatever comes between, it goes on to its end when the core is done with its batch.

    Errors: what the write raises; CancelledError, at once, when the task that awaits it is cancelled.
    """
    try:
        batch = write.send(None)
        # A library that waits for anything else is another than is known here, and is left to itself.
        while type(batch) is asyncio.Future:
            try:
                yield batch
            except (asyncio.CancelledError, Exception):
                _finish(write, batch)
                raise
            batch = write.send(None)
        yield batch
    except StopIteration:
        return
    # A coroutine that has begun goes on like this, too.
    yield from write


def _finish(write: Coroutine[Any, Any, None], batch: "asyncio.Future[None]") -> None:
    """Have the write do what follows its batch, once the core is done with that."""
    if batch.cancelled():
        # The core asks its future, and would say nothing to one that is cancelled.
        _begin_anew(batch)
    if not batch.done():
        batch.add_done_callback(lambda done: _finish(write, done))
        return
    if batch.exception() is not None:
        _begin_anew(batch)
        batch.set_result(None)
    with suppress(StopIteration):
        write.send(None)


def _begin_anew(batch: "asyncio.Future[None]") -> None:
    """Make a future pending again: the core and the write hold this one, and take no other."""
    asyncio.Future.__init__(batch, loop=batch.get_loop())
