"""Watch a loop that is really late or stands still."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import pytest

from server.live.holder import Holder
from server.live.watchdog import Limits, Pulse, Watchdog, beat, stack_of
from tests.fakes import holder_of

LIMITS: Final = Limits(lag_s=2.0, stalled_after_s=5.0, well_after_s=2.0)
QUICK: Final = Limits(lag_s=0.1, stalled_after_s=0.2, well_after_s=0.05)
TIMEOUT_S: Final = 20.0


def stalled(*beats: tuple[float, float]) -> list[bool]:
    """Whether the loop is stalled after each (now, lag_s)."""
    pulse, found = Pulse(), []
    for now, lag_s in beats:
        pulse = beat(pulse, now, lag_s=lag_s, limits=LIMITS)
        found.append(pulse.stalled)
    return found


def test_late_for_long_is_stalled() -> None:
    """Late now and then is not, nor late for a moment."""
    assert [False, False, True] == stalled((3.0, 2.5), (5.0, 2.5), (7.0, 2.5))
    assert [False, False, False] == stalled((3.0, 2.5), (4.0, 0.0), (8.0, 2.5))


def test_one_long_block_is_enough() -> None:
    """It was late from when it was due, not only from when it came round to look."""
    assert [True] == stalled((10.0, 6.0))


def test_well_again_only_after_a_while() -> None:
    """A look in time is not enough, half in time begins anew, and late again stays stalled."""
    assert [True, True, True, True, True, False] == stalled(
        (10.0, 6.0), (10.5, 0.0), (11.5, 1.5), (12.0, 0.9), (13.9, 0.0), (14.0, 0.0)
    )


async def until(reached: Callable[[], bool]) -> None:
    """Wait for something, but not for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        while not reached():
            await asyncio.sleep(0.01)


def block_here(seconds: float) -> None:
    """Keep the loop's thread to ourselves."""
    time.sleep(seconds)


async def test_a_blocked_loop_is_noticed_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    """Not ready while it is late, ready again later, watchers told both times, each logged once, with its stack."""
    caplog.set_level(logging.INFO, "flagstaff.watchdog")
    holder: Holder = holder_of()
    told: list[bool] = []
    watchdog = Watchdog(holder, changed=lambda: told.append(holder.ready), limits=QUICK, tick_s=0.02)
    watchdog.start()
    await asyncio.sleep(0.1)
    block_here(1.0)
    await until(lambda: len(told) == 2)
    watchdog.stop()

    assert [False, True] == told
    messages = [record.getMessage() for record in caplog.records]
    assert 1 == messages.count("the event loop stands still")
    assert 1 == messages.count("the event loop is too late: health says NOT_SERVING")
    assert 1 == messages.count("the event loop is in time again: health says SERVING")
    stack = vars(caplog.records[messages.index("the event loop stands still")])["stack"]
    assert "block_here" == stack[-1].rsplit(" ", 1)[1]


async def test_every_look_is_measured() -> None:
    """The figures have the lag of each look."""
    lags: list[float] = []
    watchdog = Watchdog(holder_of(), measured=lags.append, tick_s=0.01)
    watchdog.start()
    await until(lambda: len(lags) >= 3)
    watchdog.stop()

    assert all(lag_s >= 0 for lag_s in lags)


def names() -> set[str]:
    """Of the threads that run."""
    return {thread.name for thread in threading.enumerate()}


async def test_it_stops() -> None:
    """No thread and no task stays behind."""
    watchdog = Watchdog(holder_of(), tick_s=0.01)
    watchdog.start()
    watchdog.stop()
    # By name: another test's thread may end meanwhile, so that counting them would tell nothing.
    await until(lambda: "flagstaff-watchdog" not in names() and len(asyncio.all_tasks()) == 1)


def test_a_thread_that_is_gone_has_no_stack() -> None:
    """It may end while it is looked at."""
    assert [] == stack_of(-1)
