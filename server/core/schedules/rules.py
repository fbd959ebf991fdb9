"""Read rules that say when something happens again, RRULE and cron, and list the local times that they come to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from itertools import product
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

from cronsim import CronSim, CronSimError
from dateutil import rrule

from server.core.errors import Problem

RULE_CHARS_MAX: Final = 500
INTERVAL_MAX: Final = 1_000

_CYCLE_YEARS: Final = 400
"""Dates and weekdays repeat after 400 years: 146,097 days, which is a whole number of weeks."""

_AHEAD_YEARS: Final = 40

Frequency: TypeAlias = Literal[0, 1, 2, 3, 4, 5]
"""Of the library: yearly to minutely."""

V = TypeVar("V", bound=int)

_FREQUENCIES: Final[Mapping[str, Frequency]] = {
    "YEARLY": rrule.YEARLY,
    "MONTHLY": rrule.MONTHLY,
    "WEEKLY": rrule.WEEKLY,
    "DAILY": rrule.DAILY,
    "HOURLY": rrule.HOURLY,
    "MINUTELY": rrule.MINUTELY,
}
_DAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Rule(Protocol):
    """What a rule says, of local times without a zone."""

    @property
    def is_within_days(self) -> bool:
        """Whether it repeats by the hour or minute, and so by hours as they pass; others name times of the day."""
        ...

    def times(self, start: datetime, after: datetime) -> Iterator[datetime]:
        """Its local times from `after` on, in order; `start` is where it counts its interval from."""
        ...


@dataclass(frozen=True, slots=True)
class CronRule:
    """Five fields: minute, hour, day of the month, month, day of the week."""

    text: str

    @property
    def is_within_days(self) -> bool:
        """Cron's own distinction: a star in the minutes or hours."""
        minute, hour = self.text.split()[:2]
        return minute.startswith("*") or hour.startswith("*")

    def times(self, _start: datetime, after: datetime) -> Iterator[datetime]:
        """Ends where nothing matches for fifty years."""
        return CronSim(self.text, after - timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class CalendarRule:
    """An RRULE of RFC 5545, by its parts; what is not said is empty."""

    frequency: Frequency
    interval: int = 1
    months: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    year_days: tuple[int, ...] = ()
    weeks: tuple[int, ...] = ()
    days: tuple[tuple[int, int], ...] = ()
    """(weekday from Monday, 0; which one of its month or year, 0 for each)."""

    hours: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_start: int = 0
    last_day: bool = False
    """In a month without the day, the last one that it has."""

    @property
    def is_within_days(self) -> bool:
        """By its frequency."""
        return self.frequency >= rrule.HOURLY

    def times(self, start: datetime, after: datetime) -> Iterator[datetime]:
        """Ends where 40 years and up to 400 more have been looked through."""
        rule = self._complete(start)
        anchor = _near(rule, start, after)
        # The library looks for the next time up to the year 9999, also for one that never comes. As the calendar
        # repeats, the rule is read in the last years of that, so that looking ends soon.
        years = (9_999 - _AHEAD_YEARS - anchor.year) // _CYCLE_YEARS * _CYCLE_YEARS
        later = anchor.replace(year=anchor.year + years)
        for each in _last_days(rule, later) if rule.last_day else _expanded(rule, later):
            found = each.replace(year=each.year - years)
            if found >= after:
                yield found

    def _complete(self, start: datetime) -> "CalendarRule":
        """With what RFC 5545 takes from the start, for it is moved."""
        rule = self
        if self.frequency < rrule.HOURLY:
            rule = replace(rule, hours=rule.hours or (start.hour,), minutes=rule.minutes or (start.minute,))
        elif self.frequency == rrule.HOURLY:
            rule = replace(rule, minutes=rule.minutes or (start.minute,))
        if self.weeks or self.year_days or self.month_days or self.days:
            return rule
        match self.frequency:
            case rrule.YEARLY:
                return replace(rule, months=rule.months or (start.month,), month_days=(start.day,))
            case rrule.MONTHLY:
                return replace(rule, month_days=(start.day,))
            case rrule.WEEKLY:
                return replace(rule, days=((start.weekday(), 0),))
        return rule


def _near(rule: CalendarRule, start: datetime, after: datetime) -> datetime:
    """A start with the same phase, by whole intervals, that is not long before `after`."""
    step = rule.interval
    midnight = datetime.combine(start.date(), time())
    match rule.frequency:
        case rrule.YEARLY:
            years = max(0, after.year - start.year - 1)
            return midnight.replace(year=start.year + years // step * step, month=1, day=1)
        case rrule.MONTHLY:
            months = max(0, (after.year - start.year) * 12 + after.month - start.month - 1)
            year, month = divmod(start.year * 12 + start.month - 1 + months // step * step, 12)
            return midnight.replace(year=year, month=month + 1, day=1)
        case rrule.WEEKLY | rrule.DAILY:
            unit = timedelta(weeks=step) if rule.frequency == rrule.WEEKLY else timedelta(days=step)
            return midnight + max(0, (after - midnight) // unit - 1) * unit
    hourly = rule.frequency == rrule.HOURLY
    unit = timedelta(hours=step) if hourly else timedelta(minutes=step)
    begin = start.replace(second=0, microsecond=0)
    return begin + max(0, (after - begin) // unit - 1) * unit


def _expanded(rule: CalendarRule, start: datetime) -> Iterator[datetime]:
    try:
        yield from rrule.rrule(
            rule.frequency,
            dtstart=start,
            interval=rule.interval,
            wkst=rule.week_start,
            bymonth=rule.months or None,
            bymonthday=rule.month_days or None,
            byyearday=rule.year_days or None,
            byweekno=rule.weeks or None,
            byweekday=[rrule.weekday(day, nth) if nth else rrule.weekday(day) for day, nth in rule.days] or None,
            byhour=rule.hours or None,
            byminute=rule.minutes or None,
            bysecond=0,
            bysetpos=rule.positions or None,
        )
    except (ValueError, OverflowError):
        # An interval that never meets one of the hours or minutes that the rule names: it has no times.
        return


def _last_days(rule: CalendarRule, start: datetime) -> Iterator[datetime]:
    """By month, with days that it does not have moved to its last one."""
    for first in _expanded(replace(rule, month_days=(1,), hours=(0,), minutes=(0,)), start):
        last = ((first + timedelta(days=31)).replace(day=1) - timedelta(days=1)).day
        wanted = {min(day, last) if day > 0 else max(last + 1 + day, 1) for day in rule.month_days}
        for day, hour, minute in product(sorted(wanted), sorted(rule.hours), sorted(rule.minutes)):
            yield first.replace(day=day, hour=hour, minute=minute)


# --- Reading.

Read: TypeAlias = tuple[Rule | None, list[Problem]]


def read_cron(text: str, *, path: str) -> Read:
    """Read a cron rule, with every problem that it has."""
    if len(text) > RULE_CHARS_MAX:
        return None, [Problem(path, f"has {len(text)} characters, at most {RULE_CHARS_MAX} are allowed")]
    fields = text.split()
    if len(fields) != 5:
        told = "; nothing may happen more than once a minute" if len(fields) == 6 else ""
        return None, [
            Problem(path, f"a cron rule has five fields (minute hour day month weekday), not {len(fields)}{told}")
        ]
    rule = CronRule(" ".join(fields).upper())
    try:
        CronSim(rule.text, datetime(2000, 1, 1))
    except CronSimError as error:
        return None, [Problem(path, f"{text!r} is no cron rule: {_lowered(str(error))}")]
    return rule, []


def read_rrule(text: str, *, last_day: bool, path: str) -> Read:
    """Read an RRULE, such as `FREQ=MONTHLY;BYMONTHDAY=1;BYHOUR=9`, with every problem that it has."""
    if len(text) > RULE_CHARS_MAX:
        return None, [Problem(path, f"has {len(text)} characters, at most {RULE_CHARS_MAX} are allowed")]
    parts, problems = _split(text, path)
    if problems:
        return None, problems
    reading = _Reading(parts, path)
    rule = reading.rule(last_day)
    return (None if reading.problems else rule), reading.problems


def _split(text: str, path: str) -> tuple[dict[str, str], list[Problem]]:
    parts: dict[str, str] = {}
    problems: list[Problem] = []
    for part in text.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
        name, found, value = part.strip().partition("=")
        if not found or not value:
            problems.append(Problem(path, f"{part!r} is not NAME=VALUE, as in FREQ=DAILY;BYHOUR=9"))
        elif name in _ELSEWHERE:
            problems.append(Problem(f"{path}/{name}", _ELSEWHERE[name]))
        elif name not in _NAMES:
            problems.append(Problem(f"{path}/{name}", f"unknown; a rule may have: {', '.join(_NAMES)}"))
        elif name in parts:
            problems.append(Problem(f"{path}/{name}", "stands twice"))
        else:
            parts[name] = value.strip()
    if not problems and "FREQ" not in parts:
        problems.append(Problem(path, f"FREQ is missing: one of {', '.join(_FREQUENCIES)}"))
    return parts, problems


_ELSEWHERE: Final = {
    "COUNT": "the number of times is said beside the rule, not in it",
    "UNTIL": "the end is said beside the rule, not in it",
    "DTSTART": "the start is said beside the rule, not in it",
    "BYSECOND": "nothing may happen more than once a minute; leave it out",
}
_NUMBERS: Final[Mapping[str, tuple[int, int]]] = {
    "BYMONTH": (1, 12),
    "BYMONTHDAY": (-31, 31),
    "BYYEARDAY": (-366, 366),
    "BYWEEKNO": (-53, 53),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSETPOS": (-366, 366),
}
_NAMES: Final = ("FREQ", "INTERVAL", "WKST", "BYDAY", *_NUMBERS)

_ONLY_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "BYMONTHDAY": ("YEARLY", "MONTHLY", "DAILY", "HOURLY", "MINUTELY"),
    "BYYEARDAY": ("YEARLY",),
    "BYWEEKNO": ("YEARLY",),
    "BYSETPOS": ("YEARLY", "MONTHLY", "WEEKLY"),
}
"""Part -> the frequencies with which it may stand: RFC 5545, and no positions among hours, which nobody reads right."""


@dataclass(slots=True)
class _Reading:
    """One text that is being read."""

    parts: Mapping[str, str]
    path: str
    problems: list[Problem] = field(default_factory=list)

    def rule(self, last_day: bool) -> CalendarRule | None:
        """The rule, if no problem was found."""
        frequency = self._one("FREQ", _FREQUENCIES)
        rule = CalendarRule(
            frequency=rrule.DAILY if frequency is None else frequency,
            interval=self._interval(),
            months=self._numbers("BYMONTH"),
            month_days=self._numbers("BYMONTHDAY"),
            year_days=self._numbers("BYYEARDAY"),
            weeks=self._numbers("BYWEEKNO"),
            days=self._days(),
            hours=self._numbers("BYHOUR"),
            minutes=self._numbers("BYMINUTE"),
            positions=self._numbers("BYSETPOS"),
            week_start=self._one("WKST", {day: index for index, day in enumerate(_DAYS)}) or 0,
            last_day=last_day,
        )
        for name, allowed in _ONLY_WITH.items():
            if name in self.parts and frequency is not None and self.parts["FREQ"] not in allowed:
                self.add(name, f"only stands with FREQ {' or '.join(allowed)}")
        for check in (_check_days, _check_positions, _check_last_day, _check_months):
            if not self.problems:
                check(self, rule)
        return None if self.problems else rule

    def add(self, name: str, message: str) -> None:
        """Note what is wrong with one part."""
        self.problems.append(Problem(f"{self.path}/{name}", message))

    def _one(self, name: str, values: Mapping[str, V]) -> V | None:
        text = self.parts.get(name)
        if text is None or text in values:
            return None if text is None else values[text]
        told = "; nothing may happen more than once a minute" if text == "SECONDLY" else ""
        self.add(name, f"{text!r} is none of: {', '.join(values)}{told}")
        return None

    def _interval(self) -> int:
        text = self.parts.get("INTERVAL", "1")
        if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= INTERVAL_MAX:
            self.add("INTERVAL", f"{text!r} is no whole number from 1 to {INTERVAL_MAX}")
            return 1
        return int(text)

    def _numbers(self, name: str) -> tuple[int, ...]:
        least, most = _NUMBERS[name]
        found: set[int] = set()
        for text in self.parts[name].split(",") if name in self.parts else ():
            number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,3}", text.strip()) else None
            if number is None or not least <= number <= most or (number == 0 and least < 0):
                self.add(name, f"{text!r} is no whole number from {least} to {most}{' but 0' if least < 0 else ''}")
                break
            found.add(number)
        return tuple(sorted(found))

    def _days(self) -> tuple[tuple[int, int], ...]:
        found: set[tuple[int, int]] = set()
        for text in self.parts["BYDAY"].split(",") if "BYDAY" in self.parts else ():
            match = re.fullmatch(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)", text.strip())
            nth = 0 if match is None or match[1] is None else int(match[1])
            if match is None or abs(nth) > 53 or (match[1] is not None and nth == 0):
                self.add("BYDAY", f"{text!r} is no day of the week such as MO, 1MO (the first) or -1FR (the last)")
                break
            found.add((_DAYS.index(match[2]), nth))
        return tuple(sorted(found))


def _check_days(reading: _Reading, rule: CalendarRule) -> None:
    if not any(nth for _day, nth in rule.days):
        return
    if rule.frequency > rrule.MONTHLY or rule.weeks:
        reading.add("BYDAY", "a numbered day only stands with FREQ YEARLY or MONTHLY, and without BYWEEKNO")
    elif any(abs(nth) > 5 for _day, nth in rule.days) and (rule.frequency == rrule.MONTHLY or rule.months):
        reading.add("BYDAY", "no month has a day of the week more than five times")


def _check_positions(reading: _Reading, rule: CalendarRule) -> None:
    if not rule.positions:
        return
    if not (rule.days or rule.month_days or rule.year_days or rule.weeks or rule.months):
        reading.add("BYSETPOS", "chooses among the days that another part names; name some")
    elif len(rule.hours) > 1 or len(rule.minutes) > 1:
        reading.add("BYSETPOS", "only stands with one time of the day")


def _check_last_day(reading: _Reading, rule: CalendarRule) -> None:
    if not rule.last_day:
        return
    others = bool(rule.days or rule.year_days or rule.weeks or rule.positions)
    if rule.frequency not in (rrule.YEARLY, rrule.MONTHLY) or others:
        reading.problems.append(
            Problem(reading.path, "`last_day` only goes with FREQ=MONTHLY or YEARLY and days of the month")
        )


def _check_months(reading: _Reading, rule: CalendarRule) -> None:
    """Also keeps a search by the day from one that cannot end."""
    if rule.months and rule.month_days and not rule.last_day:
        most = max(_MONTH_DAYS[month - 1] for month in rule.months)
        if min(abs(day) for day in rule.month_days) > most:
            reading.add("BYMONTHDAY", f"none of the months has so many days, but {most} at most")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
