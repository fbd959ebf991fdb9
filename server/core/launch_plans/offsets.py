"""Read when something is, relative to a launch: `T-7d`, `T-1d 09:00`, `T-0`, `T+2h`."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from server.core.zones import first_instant, local_of

ZERO: Final = "T-0"

_FORM: Final = re.compile(r"T(?:(?P<sign>[+-])(?P<count>\d{1,5})(?P<unit>[wdhm]?))?(?: (?P<time>\d\d:\d\d))?", re.ASCII)
_DAYS: Final = {"w": 7, "d": 1}
_MINUTES: Final = {"h": 60, "m": 1}
_DAYS_MAX: Final = 3_660


@dataclass(frozen=True, slots=True)
class Offset:
    """How far from a launch. Days are those of the calendar, whose time of the day stays; minutes are as they pass."""

    days: int = 0
    minutes: int = 0
    at_minute: int | None = None
    """Time of the day, local; None for that of the launch."""


def offset_problem(text: str) -> str:
    """What is wrong with an offset; "" when it is one."""
    return "" if _read(text) is not None else f"{text[:40]!r} is not like T-7d, T-1d 09:00, T-0, T+2h, T+30m or T+1w"


def read_offset(text: str) -> Offset:
    """An offset. Errors: ValueError for a text that `offset_problem` refuses."""
    found = _read(text)
    if found is None:
        raise ValueError(text)
    return found


def instant_of(text: str, launch_at: datetime, place: tzinfo) -> datetime:
    """When an offset is, by its text. A local time that clocks skip is taken after the gap, a repeated one once."""
    offset = read_offset(text)
    if offset.minutes or (not offset.days and offset.at_minute is None):
        return launch_at + timedelta(minutes=offset.minutes)
    local = local_of(launch_at, place) + timedelta(days=offset.days)
    if offset.at_minute is not None:
        local = local.replace(hour=offset.at_minute // 60, minute=offset.at_minute % 60, second=0, microsecond=0)
    return first_instant(local, place)


def _read(text: str) -> Offset | None:
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    unit, count = match["unit"] or "", int(match["count"] or 0)
    minute = None if match["time"] is None else int(match["time"][:2]) * 60 + int(match["time"][3:])
    if minute is not None and (minute >= 24 * 60 or int(match["time"][3:]) > 59 or unit in _MINUTES):
        return None
    # Only nothing may stand without a unit.
    if (count and not unit) or count * _DAYS.get(unit, 0) > _DAYS_MAX:
        return None
    signed = -count if match["sign"] == "-" else count
    return Offset(signed * _DAYS.get(unit, 0), signed * _MINUTES.get(unit, 0), minute)
