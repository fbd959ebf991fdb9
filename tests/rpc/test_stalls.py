"""The look at all streams that write: who waits too long is cancelled, and knows by whom."""

import asyncio

from server.rpc.doors.stalls import Stalls


async def write(stalls: Stalls, caught: list[bool], *, since: float = 0.0) -> None:
    """Write a message that nobody reads, since an instant of the loop's time."""
    writing = stalls.begin()
    writing.since = since
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        caught.append(writing.caught())
        if not caught[-1]:
            raise
        # The task goes on: there is a status to leave.
        await asyncio.sleep(0)
    finally:
        stalls.end(writing)


async def test_one_who_writes_too_long_is_cancelled() -> None:
    """It catches that, and its task goes on as one that nobody has cancelled."""
    caught = list[bool]()
    task = asyncio.create_task(write(Stalls(0.0), caught))
    await task

    assert ([True], 0, False) == (caught, task.cancelling(), task.cancelled())


async def test_one_who_waits_for_news_is_left_alone() -> None:
    """However long it has not written."""
    caught, stalls = list[bool](), Stalls(0.0)
    task = asyncio.create_task(write(stalls, caught, since=float("inf")))
    other = asyncio.create_task(write(stalls, []))
    await other
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])

    assert ([False], True) == (caught, task.cancelled())


async def test_a_client_that_leaves_at_the_same_time_counts() -> None:
    """A call that is cancelled is over; there is nobody to whom to leave a status."""
    caught, stalls = list[bool](), Stalls(3600.0)

    async def stall_and_cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        writing = stalls.begin()
        writing.stall()
        task.cancel()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            caught.append(writing.caught())
            raise
        finally:
            stalls.end(writing)

    task = asyncio.create_task(stall_and_cancel())
    await asyncio.wait([task])

    assert ([False], True) == (caught, task.cancelled())


async def test_a_write_that_ends_in_the_same_moment_is_cancelled_all_the_same() -> None:
    """The cancellation reaches the task at its write and nowhere else, so that the door can tell it."""
    stalls, reached = Stalls(3600.0), list[str]()

    async def serve(written: asyncio.Future[None]) -> None:
        writing = stalls.begin()
        asyncio.get_running_loop().call_soon(written.set_result, None)
        asyncio.get_running_loop().call_soon(writing.stall)
        try:
            await written
            reached.append("after the write")
        except asyncio.CancelledError:
            reached.append(f"at the write, {writing.caught()}")
        finally:
            stalls.end(writing)

    await asyncio.create_task(serve(asyncio.get_running_loop().create_future()))

    assert ["at the write, True"] == reached


async def test_it_looks_while_there_is_a_stream() -> None:
    """Each stream that comes later is looked at too."""
    caught, stalls = list[bool](), Stalls(0.0)
    for _ in range(2):
        await asyncio.create_task(write(stalls, caught))
        await asyncio.sleep(0.01)

    assert [True, True] == caught
