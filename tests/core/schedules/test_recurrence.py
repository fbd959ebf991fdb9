"""Recurrences come to the instants that their rules name, whatever clocks do."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import InvalidDefinition
from server.core.limits import OCCURRENCES_MAX
from server.core.schedules.recurrence import (
    Recurrence,
    RuleKind,
    check_recurrence,
    next_occurrence,
    occurrences,
    recurrence_problems,
)


def at(text: str) -> datetime:
    """An instant in UTC, by its date and time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


START = at("2026-01-01T00:00")


def rrule(rule: str, zone: str = "Europe/Berlin", start: datetime = START, **more: Any) -> Recurrence:
    """A recurrence by an RRULE."""
    return Recurrence(RuleKind.RRULE, rule, zone, start, **more)


def cron(rule: str, zone: str = "Europe/Berlin", start: datetime = START, **more: Any) -> Recurrence:
    """A recurrence by a cron rule."""
    return Recurrence(RuleKind.CRON, rule, zone, start, **more)


# A recurrence, from when on, and what it comes to next, in UTC.
CASES: list[tuple[Recurrence, str, list[str]]] = [
    # The local time stays when clocks are put forward.
    (rrule("FREQ=DAILY;BYHOUR=9;BYMINUTE=0"), "2026-03-28", ["03-28T08:00", "03-29T07:00", "03-30T07:00"]),
    # 02:30 is skipped on the 29th, and taken at the end of the gap.
    (rrule("FREQ=DAILY;BYHOUR=2;BYMINUTE=30"), "2026-03-28", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
    (cron("30 2 * * *"), "2026-03-28", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
    # Two times that meet at the end of the gap happen once.
    (rrule("FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0"), "2026-03-29", ["03-29T01:00", "03-30T00:00", "03-30T01:00"]),
    # 02:30 comes twice on the 25th, and is taken at the first.
    (rrule("FREQ=DAILY;BYHOUR=2;BYMINUTE=30"), "2026-10-24", ["10-24T00:30", "10-25T00:30", "10-26T01:30"]),
    (cron("30 2 * * *"), "2026-10-24", ["10-24T00:30", "10-25T00:30", "10-26T01:30"]),
    # What repeats within days goes by hours as they pass.
    (rrule("FREQ=HOURLY;BYMINUTE=30"), "2026-03-29", ["03-29T00:30", "03-29T01:30", "03-29T02:30"]),
    (rrule("FREQ=HOURLY;BYMINUTE=30"), "2026-10-25", ["10-25T00:30", "10-25T01:30", "10-25T02:30"]),
    (cron("*/30 * * * *"), "2026-10-25T00:30", ["10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]),
    # Day 31 is skipped by months that have none, as RFC 5545 says, and there are two ways to say the last day.
    (rrule("FREQ=MONTHLY;BYMONTHDAY=31;BYHOUR=12"), "2026-01-01", ["01-31T11:00", "03-31T10:00", "05-31T10:00"]),
    (rrule("FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=12"), "2026-01-01", ["01-31T11:00", "02-28T11:00", "03-31T10:00"]),
    (cron("0 12 L * *"), "2026-01-01", ["01-31T11:00", "02-28T11:00", "03-31T10:00"]),
    (
        rrule("FREQ=MONTHLY;BYMONTHDAY=30,31;BYHOUR=12", last_day=True),
        "2026-01-31",
        ["01-31T11:00", "02-28T11:00", "03-30T10:00", "03-31T10:00", "04-30T10:00"],
    ),
    (rrule("FREQ=MONTHLY;BYHOUR=12", start=at("2026-01-31T11:00"), last_day=True), "2026-02-01", ["02-28T11:00"]),
    # 29 February comes every four years, but not in 2100, or every year as its last day.
    (rrule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "UTC"), "2096-03-01", ["2104-02-29T00:00"]),
    (
        rrule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "UTC", last_day=True),
        "2026-01-01",
        ["02-28T00:00", "2027-02-28T00:00", "2028-02-29T00:00"],
    ),
    # Every second week is counted from the start, also years later.
    (
        rrule("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH", "UTC"),
        "2026-01-01",
        ["01-01T00:00", "01-12T00:00", "01-15T00:00", "01-26T00:00"],
    ),
    (rrule("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH", "UTC"), "2036-01-01", ["2036-01-03T00:00", "2036-01-14T00:00"]),
    (rrule("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "UTC"), "2026-01-01", ["01-30T00:00", "02-27T00:00"]),
    (rrule("FREQ=MONTHLY;BYDAY=1MO,-1FR", "UTC"), "2026-01-01", ["01-05T00:00", "01-30T00:00", "02-02T00:00"]),
    (cron("0 0 * * 1#1", "UTC"), "2026-01-01", ["01-05T00:00", "02-02T00:00"]),
    # Start, end and number of times.
    (rrule("FREQ=DAILY", "UTC", at("2026-05-01T10:30")), "2020-01-01", ["05-01T10:30", "05-02T10:30"]),
    (rrule("FREQ=DAILY", "UTC", end_at=at("2026-01-02T00:00")), "2026-01-01", ["01-01T00:00", "01-02T00:00", "-"]),
    (rrule("FREQ=DAILY", "UTC", count_max=2), "2026-01-01", ["01-01T00:00", "01-02T00:00", "-"]),
    (rrule("FREQ=DAILY", "UTC", count_max=2), "2026-01-02", ["01-02T00:00", "-"]),
    (cron("0 0 29 2 *", "UTC", count_max=2), "2026-01-02", ["2028-02-29T00:00", "2032-02-29T00:00", "-"]),
]


@pytest.mark.parametrize(("recurrence", "start", "expected"), CASES)
def test_occurrences(recurrence: Recurrence, start: str, expected: list[str]) -> None:
    """Each next one follows the one before, and lists say the same as steps."""
    steps: list[datetime | None] = [at(start) - timedelta(microseconds=1)]
    for _ in expected:
        steps.append(None if steps[-1] is None else next_occurrence(recurrence, steps[-1]))
    wanted = [None if text == "-" else at(text if text.startswith("2") else f"2026-{text}") for text in expected]

    assert [] == recurrence_problems(recurrence)
    assert wanted == steps[1:]
    listed = occurrences(recurrence, at(start), at("2200-01-01"), sum(each is not None for each in wanted))
    assert [each for each in wanted if each is not None] == listed


def test_a_list_ends_where_it_should() -> None:
    """From the start on and before the end, at most so many."""
    daily = rrule("FREQ=DAILY", "UTC")

    assert [at("2026-02-01"), at("2026-02-02")] == occurrences(daily, at("2026-02-01"), at("2026-02-03"), 10)
    assert [at("2026-02-01")] == occurrences(daily, at("2026-02-01"), at("2026-02-03"), 1)


@pytest.mark.parametrize(
    ("recurrence", "path", "told"),
    [
        (rrule("FREQ=SECONDLY"), "/rule/FREQ", "nothing may happen more than once a minute"),
        (cron("* * * * * *"), "/rule", "nothing may happen more than once a minute"),
        (rrule("FREQ=DAILY;BYSECOND=1"), "/rule/BYSECOND", "more than once a minute"),
        (rrule("FREQ=DAILY;COUNT=3"), "/rule/COUNT", "beside the rule"),
        (rrule("FREQ=DAILY;UNTIL=20270101T000000Z"), "/rule/UNTIL", "beside the rule"),
        (rrule("FREQ=DAILY;BYEASTER=1"), "/rule/BYEASTER", "unknown"),
        (rrule("FREQ=DAILY;FREQ=WEEKLY"), "/rule/FREQ", "stands twice"),
        (rrule("INTERVAL=2"), "/rule", "FREQ is missing"),
        (rrule(""), "/rule", "is not NAME=VALUE"),
        (rrule("FREQ=DAILY;INTERVAL=0"), "/rule/INTERVAL", "from 1 to 1000"),
        (rrule("FREQ=DAILY;INTERVAL=1e9"), "/rule/INTERVAL", "from 1 to 1000"),
        (rrule("FREQ=DAILY;BYHOUR=24"), "/rule/BYHOUR", "from 0 to 23"),
        (rrule("FREQ=MONTHLY;BYMONTHDAY=0"), "/rule/BYMONTHDAY", "from -31 to 31 but 0"),
        (rrule("FREQ=WEEKLY;BYMONTHDAY=1"), "/rule/BYMONTHDAY", "only stands with FREQ"),
        (rrule("FREQ=WEEKLY;BYDAY=1MO"), "/rule/BYDAY", "only stands with FREQ"),
        (rrule("FREQ=MONTHLY;BYDAY=6MO"), "/rule/BYDAY", "more than five times"),
        (rrule("FREQ=MONTHLY;BYDAY=XX"), "/rule/BYDAY", "no day of the week"),
        (rrule("FREQ=MONTHLY;BYSETPOS=1"), "/rule/BYSETPOS", "name some"),
        (rrule("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1;BYHOUR=1,2"), "/rule/BYSETPOS", "one time of the day"),
        (rrule("FREQ=DAILY", last_day=True), "/rule", "`last_day` only goes with"),
        (cron("0 0 31 * *", last_day=True), "/last_day", "`L`"),
        (cron("0 9 * *"), "/rule", "five fields"),
        (cron("61 * * * *"), "/rule", "bad minute"),
        (cron("0 0 1 1 1" + " " * 500), "/rule", "at most 500"),
        (rrule("FREQ=DAILY;BYHOUR=" + "1," * 300), "/rule", "at most 500"),
        (rrule("FREQ=DAILY", "Europe/Berlni"), "/zone", "did you mean"),
        (rrule("FREQ=DAILY", start=datetime(2026, 1, 1)), "/start_at", "needs its time zone"),
        (rrule("FREQ=DAILY", start=datetime.max.replace(tzinfo=UTC)), "/start_at", "1970 and 9000"),
        (rrule("FREQ=DAILY", end_at=at("2025-01-01")), "/end_at", "before the start"),
        (rrule("FREQ=DAILY", end_at=datetime.min), "/end_at", "needs its time zone"),
        (rrule("FREQ=DAILY", count_max=0), "/count_max", "not from 1"),
        (rrule("FREQ=DAILY", count_max=OCCURRENCES_MAX + 1), "/count_max", "10,000"),
        (rrule("FREQ=YEARLY", "UTC", end_at=at("2026-01-01")), "", ""),
        (rrule("FREQ=YEARLY", "UTC", at("2026-01-01T00:00:01"), end_at=at("2026-05-05")), "/rule", "never happens"),
    ],
)
def test_what_is_refused(recurrence: Recurrence, path: str, told: str) -> None:
    """Each problem has its path and what helps; what is sound at its edge is not refused."""
    problems = recurrence_problems(recurrence, path="/recurrence")

    if not told:
        assert [] == problems
        return
    assert [f"/recurrence{path}"] == [each.path for each in problems]
    assert told in problems[0].message
    with pytest.raises(InvalidDefinition):
        check_recurrence(recurrence)


@pytest.mark.parametrize(
    "recurrence",
    [
        rrule("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"),
        rrule("FREQ=MINUTELY;BYMONTH=2,4;BYMONTHDAY=31"),
        rrule("FREQ=MINUTELY;INTERVAL=1000;BYHOUR=3;BYMINUTE=7;BYDAY=MO;BYMONTH=2;BYMONTHDAY=29"),
        rrule("FREQ=DAILY;INTERVAL=7;BYDAY=MO"),
        rrule("FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6"),
        rrule("FREQ=YEARLY;BYYEARDAY=200;BYMONTH=1"),
        rrule("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=20"),
        rrule("FREQ=HOURLY;INTERVAL=24;BYHOUR=3"),
        rrule("FREQ=YEARLY;INTERVAL=1000;BYMONTH=2;BYMONTHDAY=29"),
        cron("0 0 */31 2 MON#5"),
        cron("0 0 30 2 *"),
    ],
)
def test_what_never_happens_is_found_out(recurrence: Recurrence) -> None:
    """A rule without any time is refused, and looking for one ends soon: it takes no more than the CPU of a request."""
    before = time.process_time()

    assert 1 == len(recurrence_problems(recurrence))
    assert 5 > time.process_time() - before


def test_many_years_after_its_start() -> None:
    """What comes next is not counted from the start: a rule by the minute is as quick after a century."""
    often = rrule("FREQ=MINUTELY;INTERVAL=7;BYDAY=TU", "UTC")
    before = time.process_time()

    # 36,524 days have passed, and of their minutes 4 are left over by sevens.
    assert at("2126-01-01T00:03") == next_occurrence(often, at("2126-01-01"))
    assert 1 > time.process_time() - before


def test_it_is_kept_as_it_is() -> None:
    """A recurrence is written as JSON and read back the same."""
    daily = replace(rrule("FREQ=DAILY", count_max=3, end_at=at("2027-01-01")), last_day=True)

    assert daily == read_value(Recurrence, write_value(daily))
