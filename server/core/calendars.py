"""Say when people are there: business hours in a time zone, less windows in which nothing is to happen."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

from server.core.errors import Problem
from server.core.limits import CLOSURES_MAX, TEXT_CHARS_MAX
from server.core.zones import first_instant, local_of, zone, zone_problem

DAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_DAY_MINUTES: Final = 24 * 60
_HOURS: Final = re.compile(
    r"(?P<days>[A-Z]{3}(?:(?:-|,)[A-Z]{3})*) (?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d) (?P<zone>\S+)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """The hours of a week. Units: minutes of the day, local."""

    zone: str
    days: frozenset[int]
    """From Monday, 0."""

    opens_minute: int
    closes_minute: int
    """Before `opens_minute`: on the next day."""


@dataclass(frozen=True, slots=True)
class Closure:
    """A window in which nothing is to happen, from an instant on and before another."""

    starts_at: datetime
    ends_at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Calendar:
    """When things may happen: in the hours, if there are any, and in none of the closures."""

    hours: BusinessHours | None = None
    closures: tuple[Closure, ...] = ()


ALWAYS: Final = Calendar()


def read_hours(text: str, *, path: str) -> tuple[BusinessHours | None, list[Problem]]:
    """Read `MON-FRI 09:00-17:00 Europe/Berlin`, with what is wrong with it. A day that is over at midnight: `24:00`."""
    match = _HOURS.fullmatch(text.strip())
    days = None if match is None else _read_days(match["days"])
    opens, closes = (None, None) if match is None else (_read_minute(match["from"]), _read_minute(match["to"]))
    if match is None or days is None or opens is None or closes is None:
        return None, [Problem(path, f"{text[:100]!r} is not like MON-FRI 09:00-17:00 Europe/Berlin")]
    if told := zone_problem(match["zone"]):
        return None, [Problem(path, told)]
    if opens in (closes, _DAY_MINUTES):
        return None, [Problem(path, f"{text[:100]!r} has no hour in it")]
    return BusinessHours(match["zone"], days, opens, closes), []


def hours_text(hours: BusinessHours) -> str:
    """Business hours as `read_hours` reads them."""
    days = sorted(hours.days)
    runs: list[list[int]] = []
    for day in days:
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    named = ",".join(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs)
    return f"{named} {_minute_text(hours.opens_minute)}-{_minute_text(hours.closes_minute)} {hours.zone}"


def closure_problems(closures: Iterable[Closure], *, path: str) -> list[Problem]:
    """What is wrong with windows, each with its path."""
    given = tuple(closures)
    if len(given) > CLOSURES_MAX:
        return [Problem(path, f"has {len(given)} windows, at most {CLOSURES_MAX} are allowed")]
    problems = []
    for index, each in enumerate(given):
        if not each.starts_at < each.ends_at:
            problems.append(Problem(f"{path}/{index}", "ends before it starts, or as it starts"))
        if len(each.reason) > TEXT_CHARS_MAX:
            problems.append(Problem(f"{path}/{index}/reason", f"is longer than {TEXT_CHARS_MAX} characters"))
    return problems


def is_open(calendar: Calendar, instant: datetime) -> bool:
    """Whether things may happen at an instant."""
    return next_open(calendar, instant) == instant


def next_open(calendar: Calendar, instant: datetime) -> datetime | None:
    """The first instant, from one on, at which things may happen; None when windows leave none.

    A later instant never gives an earlier one, so what is moved by this keeps its order.
    """
    at = instant
    # Each round leaves a window behind, or is the last one.
    for _ in range(len(calendar.closures) + 1):
        at = at if calendar.hours is None else _next_in_hours(calendar.hours, at)
        shut = [each.ends_at for each in calendar.closures if each.starts_at <= at < each.ends_at]
        if not shut:
            return at
        at = max(shut)
    return None


def _next_in_hours(hours: BusinessHours, instant: datetime) -> datetime:
    place = zone(hours.zone)
    today = local_of(instant, place).date()
    length = (hours.closes_minute - hours.opens_minute) % _DAY_MINUTES or _DAY_MINUTES
    # From yesterday, whose hours may go on after midnight. In two weeks each day of the week comes again, if a gap has
    # swallowed its hours.
    for offset in range(-1, 15):
        day = today + timedelta(days=offset)
        if day.weekday() in hours.days:
            opens = datetime.combine(day, time()) + timedelta(minutes=hours.opens_minute)
            begin, end = first_instant(opens, place), first_instant(opens + timedelta(minutes=length), place)
            if instant < end and begin < end:
                return max(instant, begin)
    raise AssertionError(f"{hours} has no day")


def _read_days(text: str) -> frozenset[int] | None:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            return None
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(days)


def _read_minute(text: str) -> int | None:
    hour, minute = int(text[:2]), int(text[3:])
    total = hour * 60 + minute
    return total if minute < 60 and total <= _DAY_MINUTES else None


def _minute_text(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
