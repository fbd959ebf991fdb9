"""Hold the bound of what is being written at once."""

import asyncio
from contextlib import AsyncExitStack

from server.rpc.room import Room


class Writer:
    """One that holds its room until it is told to let go."""

    def __init__(self, room: Room, byte_count: int) -> None:
        self.done = asyncio.Event()
        self.has_room = False
        self.task = asyncio.create_task(self._hold(room, byte_count))

    async def _hold(self, room: Room, byte_count: int) -> None:
        async with room.hold(byte_count):
            self.has_room = True
            await self.done.wait()
        self.has_room = False


async def settle() -> None:
    """Let every task come to its next wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_does_not_fit_waits_its_turn() -> None:
    """In the order of asking: a small one does not overtake a large one for ever."""
    room = Room(100)
    first, large, small = [Writer(room, count) for count in (60, 50, 10)]
    await settle()
    before = [each.has_room for each in (first, large, small)]
    first.done.set()
    await settle()

    assert ([True, False, False], [False, True, True], 60) == (
        before,
        [each.has_room for each in (first, large, small)],
        room.used_bytes,
    )
    for each in (large, small):
        each.done.set()
        await each.task
    assert 0 == room.used_bytes


async def test_a_message_larger_than_the_room_goes_alone() -> None:
    """Nobody is kept for ever by a bound that is too small."""
    room = Room(10)
    first, huge = Writer(room, 5), Writer(room, 1_000)
    await settle()
    before = huge.has_room
    first.done.set()
    await settle()

    assert (False, True) == (before, huge.has_room)
    huge.done.set()
    await huge.task


async def test_who_goes_away_leaves_its_place() -> None:
    """While waiting, while holding, and in the moment when its turn comes."""
    room = Room(10)
    holding, waiting, lucky, last = [Writer(room, 10) for _ in range(4)]
    await settle()
    waiting.task.cancel()
    holding.done.set()
    await asyncio.sleep(0)
    lucky.task.cancel()
    await settle()

    assert (True, 10) == (last.has_room, room.used_bytes)
    last.task.cancel()
    await settle()
    assert 0 == room.used_bytes


async def test_the_turn_that_comes_with_the_end_is_passed_on() -> None:
    """A task that is cancelled after it was given room, and before it ran, gives it back."""
    room = Room(10)
    async with AsyncExitStack() as held:
        await held.enter_async_context(room.hold(10))
        unlucky, next_one = Writer(room, 10), Writer(room, 10)
        await settle()
    unlucky.task.cancel()
    await settle()

    assert (False, True) == (unlucky.has_room, next_one.has_room)
    next_one.done.set()
    await next_one.task
