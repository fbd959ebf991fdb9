"""Laws of recurrences: one occurrence for each date, in order, whatever clocks do."""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.schedules.recurrence import Recurrence, RuleKind, next_occurrence, occurrences
from server.core.zones import local_of, zone
from tests.laws.sizes import tried

ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "America/Havana", "America/Lima", "America/New_York", "America/Nuuk",
    "America/Santiago", "America/Sao_Paulo", "America/St_Johns", "Antarctica/Troll", "Asia/Beirut", "Asia/Gaza",
    "Asia/Kathmandu", "Asia/Tokyo", "Atlantic/Azores", "Australia/Adelaide", "Australia/Lord_Howe", "Europe/Berlin",
    "Europe/Dublin", "Pacific/Chatham", "UTC",
)  # fmt: skip
INSTANTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 1), timezones=st.just(UTC))
FIRST, DAYS = date(2026, 1, 1), 365


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("wanted", [time(0, 0), time(0, 30), time(2, 15), time(23, 30)], ids=str)
def test_a_daily_rule_happens_once_for_each_date(name: str, wanted: time) -> None:
    """It happens at the first instant of a date at which clocks show its time or, if that is skipped, a later one."""
    place = zone(name)
    start = datetime.combine(FIRST, time(), place).astimezone(UTC)
    daily = Recurrence(RuleKind.RRULE, f"FREQ=DAILY;BYHOUR={wanted.hour};BYMINUTE={wanted.minute}", name, start)
    found = occurrences(daily, start, datetime(9000, 1, 1, tzinfo=UTC), DAYS)
    dates = [FIRST + timedelta(days=day) for day in range(DAYS)]

    assert sorted(set(found)) == found
    for day, instant in zip(dates, found, strict=True):
        if day in _days_of_changes(name):
            assert _reached(datetime.combine(day, wanted), name) == instant
        else:
            assert datetime.combine(day, wanted) == local_of(instant, place)


@given(
    st.sampled_from(ZONES),
    st.sampled_from(["*/7 * * * *", "*/30 * * * *", "15 * * * *", "0 */2 * * *", "10,40 1-3 * * *", "30 2 * * 0"]),
    INSTANTS,
)
@tried(60, long=2_000)
def test_steps_and_lists_agree(name: str, rule: str, start: datetime) -> None:
    """What comes next from one occurrence to the other is the list, strictly in order."""
    recurrence = Recurrence(RuleKind.CRON, rule, name, start)
    listed = occurrences(recurrence, start, start + timedelta(days=3), 50)
    stepped: list[datetime] = []
    after: datetime | None = start - timedelta(microseconds=1)
    while after is not None and len(stepped) < len(listed):
        after = next_occurrence(recurrence, after)
        stepped += [after] if after else []

    assert listed == stepped
    assert sorted(set(listed)) == listed


@given(st.sampled_from(ZONES), INSTANTS)
@tried(60, long=2_000)
def test_every_quarter_of_an_hour(name: str, start: datetime) -> None:
    """A rule of passing hours never waits for longer than it says."""
    recurrence = Recurrence(RuleKind.CRON, "*/15 * * * *", name, start)
    found = occurrences(recurrence, start, start + timedelta(days=1), 200)

    assert {timedelta(minutes=15)} == {later - before for before, later in pairwise(found)}


def _reached(wanted: datetime, name: str) -> datetime:
    """The first minute from the day before on at which clocks show a time or a later one, by looking at each."""
    place = zone(name)
    instant = (wanted - timedelta(hours=14)).replace(tzinfo=place).astimezone(UTC)
    while local_of(instant, place) < wanted:
        instant += timedelta(minutes=1)
    return instant


@cache
def _days_of_changes(name: str) -> frozenset[date]:
    """Dates on which, or beside which, clocks are put forward or back."""
    place, days = zone(name), set()
    for hours in range(0, (DAYS + 2) * 24):
        instant = datetime.combine(FIRST, time(), UTC) + timedelta(hours=hours)
        if instant.astimezone(place).utcoffset() != (instant + timedelta(hours=1)).astimezone(place).utcoffset():
            days |= {(local_of(instant, place) + timedelta(days=off)).date() for off in (-1, 0, 1)}
    return frozenset(days)
