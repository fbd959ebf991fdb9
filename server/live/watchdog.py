"""Watch the event loop: measure how late it is, and say so while it is too late to serve.

A task measures; it cannot see a loop that stands still, so a thread looks at the task's last sign of life and logs
where the loop's thread stands. That is file, line and function of each frame: no variable and no argument.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from server.live.holder import Holder

TICK_S: Final = 0.25
FRAMES_MAX: Final = 40

log = logging.getLogger("flagstaff.watchdog")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a loop is too late, and when it is well again."""

    lag_s: float = 2.0
    """A loop that is later than this is late; one that is half as late or less is in time."""

    stalled_after_s: float = 5.0
    """Late for this long: stalled."""

    well_after_s: float = 2.0
    """In time for this long: well again."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a loop is."""

    stalled: bool = False
    late_since: float | None = None
    well_since: float | None = None


def beat(pulse: Pulse, now: float, *, lag_s: float, limits: Limits) -> Pulse:
    """How a loop is after a look at it. Units: now in seconds of any clock that only goes forward."""
    if lag_s > limits.lag_s:
        # It was late from when the look was due, not only from now on.
        late_since = now - lag_s if pulse.late_since is None else pulse.late_since
        return Pulse(pulse.stalled or now - late_since >= limits.stalled_after_s, late_since, None)
    if not pulse.stalled:
        return Pulse()
    if lag_s > limits.lag_s / 2:
        return replace(pulse, well_since=None)
    well_since = now if pulse.well_since is None else pulse.well_since
    return Pulse() if now - well_since >= limits.well_after_s else Pulse(True, None, well_since)


class Watchdog:
    """Looks at the loop that it is started on, until it is stopped."""

    def __init__(
        self,
        holder: Holder,
        *,
        changed: Callable[[], None] = lambda: None,
        measured: Callable[[float], None] = lambda lag_s: None,
        limits: Limits = Limits(),
        tick_s: float = TICK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holder, self._changed, self._measured = holder, changed, measured
        self._limits, self._tick_s, self._clock = limits, tick_s, clock
        self._last_at = clock()
        self._task: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._last_at = self._clock()
        self._task = asyncio.get_running_loop().create_task(self._tick(), name="flagstaff-watchdog")
        watched = threading.get_ident()
        self._thread = threading.Thread(target=self._look, args=(watched,), name="flagstaff-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; returns at once."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()

    async def _tick(self) -> None:
        pulse = Pulse()
        while True:
            before = self._clock()
            await asyncio.sleep(self._tick_s)
            now = self._clock()
            lag_s = max(0.0, now - before - self._tick_s)
            self._last_at = now
            self._measured(lag_s)
            after = beat(pulse, now, lag_s=lag_s, limits=self._limits)
            if after.stalled != pulse.stalled:
                self._tell(after.stalled, lag_s)
            pulse = after

    def _tell(self, stalled: bool, lag_s: float) -> None:
        self._holder.stalled = stalled
        if stalled:
            log.error("the event loop is too late: health says NOT_SERVING", extra={"lag_s": round(lag_s, 3)})
        else:
            log.warning("the event loop is in time again: health says SERVING")
        self._changed()

    def _look(self, watched: int) -> None:
        """Log once for every time that the loop stands still."""
        told_at: float | None = None
        while not self._stopping.wait(self._tick_s):
            last_at = self._last_at
            blocked_s = self._clock() - last_at - self._tick_s
            if blocked_s > self._limits.lag_s and told_at != last_at:
                told_at = last_at
                log.error(
                    "the event loop stands still",
                    extra={"blocked_s": round(blocked_s, 3), "stack": stack_of(watched)},
                )


def stack_of(thread: int) -> list[str]:
    """Where a thread stands, innermost frame last: file, line and function."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return []
    summary = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES_MAX, lookup_lines=False)
    return [f"{each.filename}:{each.lineno} {each.name}" for each in reversed(summary)]
