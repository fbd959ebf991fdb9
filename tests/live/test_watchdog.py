"""Watch a loop that is really late or stands still."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from server.live.holder import Holder
from server.live.watchdog import Limits, Pulse, Watchdog, beat, stack_of
from tests.fakes import holder_of

LIMITS: Final = Limits(lag_s=2.0, stalled_after_s=5.0, well_after_s=2.0)
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


@dataclass
class Hands:
    """A clock that goes forward when the test says so: how busy the machine is makes nothing late."""

    now: float = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def forward(self) -> bool:
        """Go on by a little, far less than any limit; False."""
        self.now += 0.1
        return False


def block_here(reached: Callable[[], bool]) -> None:
    """Keep the loop's thread to ourselves until something is reached elsewhere."""
    ending_at = time.monotonic() + TIMEOUT_S
    while not reached() and time.monotonic() < ending_at:
        time.sleep(0.01)


async def test_a_blocked_loop_is_noticed_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    """Not ready while it is late, ready again later, watchers told both times, each logged once, with its stack."""
    caplog.set_level(logging.INFO, "flagstaff.watchdog")
    holder: Holder = holder_of()
    hands, lags, told = Hands(), list[float](), list[bool]()
    watchdog = Watchdog(
        holder,
        changed=lambda: told.append(holder.ready),
        measured=lags.append,
        limits=LIMITS,
        tick_s=0.02,
        clock=hands,
    )
    watchdog.start()
    await until(lambda: len(lags) >= 3)
    hands.now += 10.0
    block_here(lambda: "the event loop stands still" in caplog.messages)
    await until(lambda: len(told) == 2 or hands.forward())
    watchdog.stop()

    assert [False, True] == told
    messages = caplog.messages
    assert 1 == messages.count("the event loop stands still")
    assert 1 == messages.count("the event loop is too late: health says NOT_SERVING")
    assert 1 == messages.count("the event loop is in time again: health says SERVING")
    stack = vars(caplog.records[messages.index("the event loop stands still")])["stack"]
    names = [each.rsplit(" ", 1)[1] for each in stack]
    # Innermost last; it may have been asking, just then, whether to go on.
    assert "block_here" in names[names.index("test_a_blocked_loop_is_noticed_and_recovers") :]


async def test_every_look_is_measured() -> None:
    """The figures have the lag of each look."""
    lags: list[float] = []
    watchdog = Watchdog(holder_of(), measured=lags.append, tick_s=0.01)
    watchdog.start()
    await until(lambda: len(lags) >= 3)
    watchdog.stop()

    assert all(lag_s >= 0 for lag_s in lags)


def threads() -> set[str]:
    """Names of those that run."""
    return {thread.name for thread in threading.enumerate()}


async def test_it_stops() -> None:
    """No thread and no task stays behind."""
    watchdog = Watchdog(holder_of(), tick_s=0.01)
    watchdog.start()
    watchdog.stop()
    # By name: another test's thread may end meanwhile, so that counting them would tell nothing.
    await until(lambda: "flagstaff-watchdog" not in threads() and len(asyncio.all_tasks()) == 1)


def test_a_thread_that_is_gone_has_no_stack() -> None:
    """It may end while it is looked at."""
    assert [] == stack_of(-1)
