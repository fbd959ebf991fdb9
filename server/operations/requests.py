"""Log requests that failed or were slow, under an id that the caller gets too.

A line has the method, the status, the id, the duration and the flag set; never a message, a context, a header or a
query, which may hold what belongs in no log.
"""

import logging
import re
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

HEADER: Final = "x-request-id"
SLOW_S: Final = 1.0
LINES_PER_S_MAX: Final = 20
"""What is more is counted and told in one line: who sends bad requests must not fill the disk."""

FLAG_SET_CHARS_MAX: Final = 160
FRAMES_MAX: Final = 30

_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")

log = logging.getLogger("flagstaff.requests")


class Ending(Enum):
    """Why a request is logged: the level and the message of its line."""

    FAULT = (logging.WARNING, "request failed in the server")
    REFUSED = (logging.INFO, "request was refused")
    SLOW = (logging.WARNING, "request was slow")
    ANSWERED = (logging.INFO, "request")
    """Only in the access log."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A request that has ended."""

    method: str
    status: str
    request_id: str
    took_s: float
    flag_set: str
    """As the caller named it; "" when it named none."""


def request_id(sent: str | None) -> str:
    """The caller's own id when it is well formed and short, else a new one."""
    return sent if sent is not None and _WELL_FORMED.fullmatch(sent) else secrets.token_hex(8)


def where_raised(error: BaseException) -> list[str]:
    """An unexpected error for the log: its type and where it was raised, the innermost frame last.

    Not its text: that of a KeyError or ValueError is often the very value that went wrong, which is the caller's.
    """
    frames = traceback.extract_tb(error.__traceback__, limit=-FRAMES_MAX)
    return [*(f"{each.filename}:{each.lineno} {each.name}" for each in frames), type(error).__qualname__]


class RequestLog:
    """Decides which requests get a line, and bounds how many do."""

    def __init__(
        self,
        *,
        slow_s: float = SLOW_S,
        access_log: bool = False,
        lines_per_s_max: int = LINES_PER_S_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.access_log = access_log
        self.noted_s = 0.0 if access_log else slow_s
        """A request without a failure is logged when it took at least this long."""

        self.left_out_count = 0
        """Lines that were not written."""

        self._slow_s, self._lines_per_s_max, self._clock = slow_s, lines_per_s_max, clock
        self._second = 0
        self._lines = 0
        self._left_out_told = 0

    def answered(self, request: Finished) -> None:
        """Log a request that took at least `noted_s`."""
        self._write(Ending.SLOW if request.took_s >= self._slow_s else Ending.ANSWERED, request)

    def streamed(self, request: Finished) -> None:
        """Log a stream that ended as it should, in the access log only."""
        self._write(Ending.ANSWERED, request)

    def failed(self, request: Finished, *, is_fault: bool) -> None:
        """Log a request that failed: by a fault of the server, or refused for what it asked."""
        self._write(Ending.FAULT if is_fault else Ending.REFUSED, request)

    def _write(self, ending: Ending, request: Finished) -> None:
        level, message = ending.value
        if not log.isEnabledFor(level) or not (self.access_log or self._has_room()):
            return
        extra = {
            "method": request.method,
            "status": request.status,
            "request_id": request.request_id,
            "duration_ms": round(request.took_s * 1_000, 3),
            "flag_set": request.flag_set[:FLAG_SET_CHARS_MAX],
        }
        log.log(level, message, extra=extra)

    def _has_room(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._lines = second, 0
            self._tell_left_out()
        self._lines += 1
        if self._lines > self._lines_per_s_max:
            self.left_out_count += 1
            return False
        return True

    def _tell_left_out(self) -> None:
        left_out = self.left_out_count - self._left_out_told
        if left_out:
            self._left_out_told = self.left_out_count
            log.warning("requests were not logged: there were too many in a second", extra={"count": left_out})
