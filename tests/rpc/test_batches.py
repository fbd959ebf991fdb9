"""What follows a batch of the core is done for every batch, and whoever awaits it hears of it as before."""

import asyncio
from collections.abc import Generator
from contextlib import suppress
from types import coroutine
from typing import Any

import grpc
import grpc.aio
import pytest

from server.rpc.doors.batches import seen_through


class Core:
    """Does as grpc.aio does: a batch's memory is freed by the coroutine that waits for it."""

    def __init__(self) -> None:
        self.batch: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.freed = 0

    async def write(self) -> str:
        """Start a batch, wait for it, free it."""
        await self.batch
        self.freed += 1
        return "a message"

    def end(self, failure: Exception | None = None) -> None:
        """What the core's thread reports; nothing to a future that is cancelled."""
        if self.batch.cancelled():
            return
        if failure is None:
            self.batch.set_result(None)
        else:
            self.batch.set_exception(failure)


def begun(core: Core) -> "asyncio.Task[str]":
    """A task that reads or writes."""

    async def serve() -> str:
        return await seen_through(core.write())

    return asyncio.create_task(serve())


async def test_a_write_ends_with_its_batch() -> None:
    """Not before."""
    core = Core()
    task = begun(core)
    await asyncio.sleep(0)
    assert (False, 0) == (task.done(), core.freed)
    core.end()

    assert ("a message", 1) == (await task, core.freed)


@pytest.mark.parametrize("failure", [None, ValueError("the call is over")])
async def test_a_client_that_leaves_while_the_core_writes(failure: Exception | None) -> None:
    """The task is cancelled at once, and the batch is freed when the core is done with it, whether it failed."""
    core = Core()
    task = begun(core)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (True, 0) == (task.cancelled(), core.freed)
    core.end(failure)
    await asyncio.sleep(0)

    assert 1 == core.freed


@pytest.mark.parametrize("failure", [None, ValueError("the call is over")])
async def test_a_client_that_leaves_as_the_core_is_done(failure: Exception | None) -> None:
    """Between the end of a batch and the task's next step."""
    core = Core()
    task = begun(core)
    await asyncio.sleep(0)
    core.end(failure)
    task.cancel()
    await asyncio.wait([task])

    assert (True, 1) == (task.cancelled(), core.freed)


async def test_a_batch_that_fails() -> None:
    """It is freed, and the task hears of the failure."""
    core = Core()
    task = begun(core)
    await asyncio.sleep(0)
    core.end(ValueError("the call is over"))
    with pytest.raises(ValueError, match="the call is over"):
        await task

    assert 1 == core.freed


async def test_a_write_that_is_refused_at_once() -> None:
    """Its error is the task's."""

    async def refuse() -> None:
        raise ValueError("the call is over")

    with pytest.raises(ValueError, match="the call is over"):
        await seen_through(refuse())


async def test_a_write_that_waits_otherwise_is_left_to_itself() -> None:
    """As a later version of the library may."""
    done = list[str]()

    async def write() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        done.append("written")
        return "a message"

    assert ("a message", ["written"]) == (await seen_through(write()), done)


async def test_the_library_waits_for_a_future_of_its_own() -> None:
    """For exactly this kind: for any other nothing would be freed, and nothing said."""
    kinds = list[type]()

    @coroutine
    def look(write: Any) -> Generator[Any, None, None]:
        batch = write.send(None)
        kinds.append(type(batch))
        yield batch
        with suppress(StopIteration):
            write.send(None)

    async def serve(_request: bytes, context: Any) -> None:
        await look(context.write(b"hello"))

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_stream_rpc_method_handler(serve)

    server = grpc.aio.server(handlers=[Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        messages = [message async for message in channel.unary_stream("/any/Method", None, None)(b"", timeout=10)]
    await server.stop(None)

    assert ([asyncio.Future], [b"hello"]) == (kinds, messages)
