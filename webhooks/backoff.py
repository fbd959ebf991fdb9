"""Say when a delivery is tried again: a schedule over three days, its jitter, and what a receiver asks for.

Time and chance are arguments: `chance` is a number from 0 up to, and without, 1.

Source: Standard Webhooks 1.0, sample schedule.
"""

import email.utils
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from webhooks import limits
from webhooks.errors import InvalidSetting

_MINUTE = 60
_HOUR = 60 * 60

JITTER: Final = 0.2
"""A wait is longer or shorter by up to this part of it, so that a receiver which comes back is not met by a wave."""

RETRY_AFTER_STATUSES: Final = frozenset({429, 503})
"""Answers that may say when to come again; others are not asked. Redirects may say it too and are never followed."""

_SECONDS = re.compile(r"[0-9]+")
_DIGITS_MAX = 12


@dataclass(frozen=True, slots=True)
class Schedule:
    """Waits before each attempt, in seconds; the first is the wait before the first attempt.

    Shapes: delays_s float[attempts], 1 to ATTEMPTS_MAX of them.
    """

    delays_s: tuple[float, ...]

    @property
    def attempt_count(self) -> int:
        """How often a delivery is tried before it is exhausted."""
        return len(self.delays_s)


DEFAULT: Final = Schedule(
    (0, 5, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR)
)
"""Ten attempts over 75 hours and 35 minutes."""


def read_schedule(delays_s: Sequence[object], path: str = "/retry_schedule") -> Schedule:
    """An endpoint's own schedule.

    Errors: InvalidSetting with the place of each wait that is no finite number of seconds, negative or too long, or for
    too many attempts or too long a time.
    """
    if not 1 <= len(delays_s) <= limits.ATTEMPTS_MAX:
        raise InvalidSetting.at(path, f"{len(delays_s)} attempts, expected 1 to {limits.ATTEMPTS_MAX}")
    waits: list[float] = []
    for place, delay in enumerate(delays_s):
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= limits.DELAY_S_MAX:
            raise InvalidSetting.at(
                f"{path}/{place}", f"expected a number of seconds from 0 to {limits.DELAY_S_MAX}, a day"
            )
        waits.append(float(delay))
    if sum(waits) > limits.SCHEDULE_S_MAX:
        raise InvalidSetting.at(
            path, f"all waits together are {sum(waits):g} s, at most {limits.SCHEDULE_S_MAX}, two weeks"
        )
    return Schedule(tuple(waits))


def delay_s(
    attempts_made: int, *, chance: float, schedule: Schedule = DEFAULT, retry_after_s: float | None = None
) -> float | None:
    """Seconds until the next attempt, after so many were made; None when the schedule is exhausted.

    A receiver's Retry-After makes the wait longer and never shorter, and jitter only ever adds to it.
    """
    if not 0 <= attempts_made < len(schedule.delays_s):
        return None
    jittered = schedule.delays_s[attempts_made] * (1 + JITTER * (2 * chance - 1))
    if retry_after_s is None:
        return jittered
    # Spread behind the instant that was asked for: all deliveries of this endpoint were told the same one.
    return max(jittered, min(retry_after_s, limits.RETRY_AFTER_S_MAX) * (1 + JITTER * chance))


def read_retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number of them or an HTTP-date, never negative, clamped to a day.

    None when the header is absent or makes no sense; a receiver's mistake is no error of ours.
    """
    text = (text or "").strip()
    if _SECONDS.fullmatch(text):
        # A long row of digits would be slow to read, and the answer is known.
        seconds = float(text) if len(text) <= _DIGITS_MAX else math.inf
    elif (at := _http_date(text)) is not None:
        seconds = (at - now).total_seconds()
    else:
        return None
    return min(max(seconds, 0.0), float(limits.RETRY_AFTER_S_MAX))


def _http_date(text: str) -> datetime | None:
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # An HTTP-date is always GMT; asctime's form has no zone at all.
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
