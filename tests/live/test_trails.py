"""Waiting for audit entries: one look for all, and nobody waits for ever."""

import asyncio
from collections.abc import Mapping

import pytest

from server.core.errors import StoreUnavailable, TooLarge
from server.live.trails import Trails


class Database:
    """Last sequence numbers, as a test sets them."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.asked: list[frozenset[str]] = []
        self.error: Exception | None = None

    async def look(self, projects: frozenset[str]) -> Mapping[str, int]:
        """What the database says."""
        self.asked.append(projects)
        if self.error is not None:
            raise self.error
        return self.last


async def test_who_waits_is_woken_when_the_trail_grows() -> None:
    """All by one look; who waits for another trail waits on."""
    database = Database()
    news = Trails(database.look, poll_s=0.001)
    waiting = [asyncio.create_task(news.wait("shop", 4, timeout_s=30)) for _ in range(3)]
    other = asyncio.create_task(news.wait("other", 0, timeout_s=30))
    await asyncio.sleep(0.01)
    database.last = {"shop": 5}
    woken = await asyncio.gather(*waiting)
    still = not other.done()
    database.last = {"other": 1}

    assert ([True] * 3, True, True) == (woken, still, await other)
    assert {frozenset({"shop", "other"}), frozenset({"other"})} >= set(database.asked)


async def test_nobody_looks_where_nobody_waits() -> None:
    """The looking ends with the last who waits."""
    database = Database()
    news = Trails(database.look, poll_s=0.001)

    assert not await news.wait("shop", 0, timeout_s=0.01)
    await asyncio.sleep(0.01)
    count = len(database.asked)
    await asyncio.sleep(0.02)
    assert len(database.asked) <= count + 1


async def test_a_failure_reaches_who_waits() -> None:
    """And the next one looks anew."""
    database = Database()
    news = Trails(database.look, poll_s=0.001)
    database.error = StoreUnavailable("gone")
    with pytest.raises(StoreUnavailable):
        await news.wait("shop", 0, timeout_s=30)
    database.error, database.last = None, {"shop": 1}

    assert await news.wait("shop", 0, timeout_s=30)


async def test_so_many_may_wait() -> None:
    """Not more."""
    news = Trails(Database().look, poll_s=0.001, watchers_max=1)
    waiting = asyncio.create_task(news.wait("shop", 0, timeout_s=30))
    await asyncio.sleep(0)
    with pytest.raises(TooLarge, match="1 streams wait"):
        await news.wait("shop", 0, timeout_s=30)
    waiting.cancel()
