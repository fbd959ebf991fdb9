"""Say when something happens again: a rule in a time zone, from a start on, to an end or a number of times.

A rule names local times, and clocks are put forward and back (decision 0025):

- a time that is skipped is taken at the first instant after the gap;
- a time that comes twice is taken once, at the first of the two;
- a rule that repeats within days (FREQ=HOURLY and MINUTELY; cron with a star in its minutes or hours) goes by hours as
  they pass: every instant at which clocks show one of its times, so none in a gap and both of a time that comes twice.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Final

from server.core.errors import InvalidDefinition, Problem
from server.core.limits import OCCURRENCES_MAX
from server.core.schedules.rules import Rule, read_cron, read_rrule
from server.core.zones import first_instant, instants_of, local_of, offsets_near, zone, zone_problem


class RuleKind(StrEnum):
    """In which language a rule is written."""

    RRULE = "rrule"
    """RFC 5545: `FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=9`. What it leaves out comes from the start, but for seconds."""

    CRON = "cron"
    """`0 9 * * MON-FRI`: minute, hour, day of the month, month, day of the week; with `L` for the last day."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When something happens again and again. Units: instants are aware."""

    kind: RuleKind
    rule: str
    zone: str
    """IANA, such as `Europe/Berlin`: where the rule's times are told."""

    start_at: datetime
    """Nothing happens before it. Intervals (`every 2 weeks`) are counted from it."""

    end_at: datetime | None = None
    """Nothing happens after it."""

    count_max: int | None = None
    """How many times, from the start on."""

    last_day: bool = False
    """For an RRULE by month: in a month without the day that it names, on its last one. Else such a month has none."""


_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def recurrence_problems(recurrence: Recurrence, *, path: str = "") -> list[Problem]:
    """Everything that is wrong with a recurrence, each with its path; empty for one that happens at least once."""
    problems = _plain_problems(recurrence, path)
    if not problems and next_occurrence(recurrence, recurrence.start_at - timedelta(microseconds=1)) is None:
        until = "" if recurrence.end_at is None else f" and {recurrence.end_at.isoformat()}"
        from_on = recurrence.start_at.isoformat()
        problems.append(
            Problem(f"{path}/rule", f"never happens between {from_on}{until}" if until else "never happens")
        )
    return problems


def check_recurrence(recurrence: Recurrence, *, path: str = "") -> None:
    """Refuse a recurrence that is not sound. Errors: InvalidDefinition with every problem."""
    problems = recurrence_problems(recurrence, path=path)
    if problems:
        raise InvalidDefinition(problems)


def next_occurrence(recurrence: Recurrence, after: datetime) -> datetime | None:
    """The first instant after another at which it happens, in UTC; None when it does not happen any more.

    Errors: InvalidDefinition for a recurrence that is not sound.
    """
    found = next(_after(recurrence, after), None)
    if found is None or (recurrence.count_max is not None and found > _last_by_count(recurrence)):
        return None
    return found


def occurrences(recurrence: Recurrence, start: datetime, end: datetime, limit: int) -> list[datetime]:
    """At which instants it happens from `start` on and before `end`, at most `limit` of them, in UTC.

    Errors: InvalidDefinition for a recurrence that is not sound.
    """
    last = _LATEST if recurrence.count_max is None else _last_by_count(recurrence)
    found: list[datetime] = []
    for each in islice(_after(recurrence, start - timedelta(microseconds=1)), limit):
        if each >= end or each > last:
            break
        found.append(each)
    return found


def _plain_problems(recurrence: Recurrence, path: str) -> list[Problem]:
    problems = _read(recurrence, path)[1]
    if told := zone_problem(recurrence.zone):
        problems.append(Problem(f"{path}/zone", told))
    for name, instant in (("start_at", recurrence.start_at), ("end_at", recurrence.end_at)):
        if instant is not None and instant.tzinfo is None:
            problems.append(Problem(f"{path}/{name}", "needs its time zone, as in 2026-12-01T09:00:00Z"))
        elif instant is not None and not _EARLIEST <= instant <= _LATEST:
            problems.append(Problem(f"{path}/{name}", "is not between the years 1970 and 9000"))
    if not problems and recurrence.end_at is not None and recurrence.end_at < recurrence.start_at:
        problems.append(Problem(f"{path}/end_at", "is before the start"))
    if recurrence.count_max is not None and not 1 <= recurrence.count_max <= OCCURRENCES_MAX:
        problems.append(Problem(f"{path}/count_max", f"{recurrence.count_max} is not from 1 to {OCCURRENCES_MAX:,}"))
    return problems


def _read(recurrence: Recurrence, path: str = "") -> tuple[Rule | None, list[Problem]]:
    where = f"{path}/rule"
    if recurrence.kind is RuleKind.RRULE:
        return read_rrule(recurrence.rule, last_day=recurrence.last_day, path=where)
    if recurrence.last_day:
        return None, [Problem(f"{path}/last_day", "is for an RRULE; in cron, the last day of the month is `L`")]
    return read_cron(recurrence.rule, path=where)


@lru_cache(maxsize=1_024)
def _sound(recurrence: Recurrence) -> tuple[Rule, tzinfo]:
    problems = _plain_problems(recurrence, "")
    rule, _ = _read(recurrence)
    if problems or rule is None:
        raise InvalidDefinition(problems)
    return rule, zone(recurrence.zone)


@lru_cache(maxsize=1_024)
def _last_by_count(recurrence: Recurrence) -> datetime:
    """When it happens for the last time by its number of times; the latest instant when it ends before that."""
    before = recurrence.start_at - timedelta(microseconds=1)
    return next(islice(_after(recurrence, before), (recurrence.count_max or 0) - 1, None), _LATEST)


def _after(recurrence: Recurrence, after: datetime) -> Iterator[datetime]:
    """When it happens after an instant, whatever its number of times is."""
    rule, place = _sound(recurrence)
    after = max(after, recurrence.start_at - timedelta(microseconds=1))
    if after > _LATEST:
        return
    begin = local_of(after, place) - offsets_near(after, place)
    times = rule.times(local_of(recurrence.start_at, place), begin)
    last = after
    for found in (_passing if rule.is_within_days else _named)(times, place):
        if recurrence.end_at is not None and found > recurrence.end_at:
            return
        # Two local times of one gap come to the same instant, and happen once.
        if found > last:
            last = found
            yield found


def _named(times: Iterator[datetime], place: tzinfo) -> Iterator[datetime]:
    for local in times:
        yield first_instant(local, place)


def _passing(times: Iterator[datetime], place: tzinfo) -> Iterator[datetime]:
    """Every instant of each time, in order: the second ones of an hour come after the first ones of all of it."""
    second: list[datetime] = []
    for local in times:
        first, *more = instants_of(local, place) or (None,)
        while second and (first is None or second[0] < first):
            yield heapq.heappop(second)
        if first is not None:
            yield first
        for each in more:
            heapq.heappush(second, each)
    yield from sorted(second)
