"""Business hours and windows say when the next thing may happen."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.calendars import (
    BusinessHours,
    Calendar,
    Closure,
    closure_problems,
    hours_text,
    is_open,
    next_open,
    read_hours,
)
from server.core.change_requests.codec import read_value, write_value


def at(text: str) -> datetime:
    """An instant in UTC, by its date and time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(text: str) -> BusinessHours:
    """Business hours that are sound."""
    found, problems = read_hours(text, path="")
    assert found is not None, problems
    return found


OFFICE = "MON-FRI 09:00-17:00 Europe/Berlin"
HOLIDAYS = Closure(at("2026-12-24T00:00"), at("2027-01-02T00:00"), "Holidays")


@pytest.mark.parametrize(
    ("text", "closures", "instant", "expected"),
    [
        (OFFICE, (), "2026-11-25T09:30", "2026-11-25T09:30"),
        (OFFICE, (), "2026-11-25T07:59", "2026-11-25T08:00"),
        # The end is outside.
        (OFFICE, (), "2026-11-25T16:00", "2026-11-26T08:00"),
        # From Friday evening to Monday, over the night in which clocks are put forward.
        (OFFICE, (), "2026-03-27T16:00", "2026-03-30T07:00"),
        # Nights, which begin on the day that is named.
        ("FRI 22:00-06:00 UTC", (), "2026-11-28T05:59", "2026-11-28T05:59"),
        ("FRI 22:00-06:00 UTC", (), "2026-11-28T06:00", "2026-12-04T22:00"),
        ("MON-SUN 00:00-24:00 UTC", (), "2026-11-28T23:59", "2026-11-28T23:59"),
        # Hours in a gap begin, and here end, with its end.
        ("SUN 02:00-03:00 Europe/Berlin", (), "2026-03-29T00:30", "2026-04-05T00:00"),
        (OFFICE, (HOLIDAYS,), "2026-12-23T16:30", "2027-01-04T08:00"),
        ("", (HOLIDAYS,), "2026-12-31T12:00", "2027-01-02T00:00"),
        (
            "",
            (HOLIDAYS, Closure(at("2027-01-01T00:00"), at("2027-01-03T00:00"))),
            "2026-12-31T12:00",
            "2027-01-03T00:00",
        ),
        ("", (), "2026-12-31T12:00", "2026-12-31T12:00"),
    ],
)
def test_the_next_open_instant(text: str, closures: tuple[Closure, ...], instant: str, expected: str) -> None:
    """It is in the hours, and in none of the windows."""
    calendar = Calendar(hours(text) if text else None, closures)

    assert at(expected) == next_open(calendar, at(instant))
    assert is_open(calendar, at(expected))
    assert (instant == expected) == is_open(calendar, at(instant))


@pytest.mark.parametrize(
    "text",
    ["", "nine to five", "MON-FRI 09:00-17:00", "MON-FRX 09:00-17:00 UTC", "MON 25:00-26:00 UTC", "MON 09:00-09:60 UTC",
     "MON 09:00-09:00 UTC", "MON 09:00-17:00 Europe/Berlni"],
)  # fmt: skip
def test_hours_that_are_refused(text: str) -> None:
    """Each names what is wrong at its path."""
    found, problems = read_hours(text, path="/hours")

    assert (None, ["/hours"]) == (found, [each.path for each in problems])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OFFICE, OFFICE),
        ("SAT-MON 08:00-12:00 UTC", "MON,SAT-SUN 08:00-12:00 UTC"),
        ("WED,MON 08:00-24:00 UTC", "MON,WED 08:00-24:00 UTC"),
    ],
)
def test_hours_are_written_as_they_are_read(text: str, expected: str) -> None:
    """The text gives the same hours, and so does the JSON."""
    read = hours(text)

    assert expected == hours_text(read)
    assert read == hours(expected) == read_value(BusinessHours, write_value(read))


def test_windows_that_are_refused() -> None:
    """One that ends before it starts, and too many of them."""
    backwards = Closure(HOLIDAYS.ends_at, HOLIDAYS.starts_at)

    assert ["/closures/1"] == [each.path for each in closure_problems([HOLIDAYS, backwards], path="/closures")]
    assert ["/closures"] == [each.path for each in closure_problems([HOLIDAYS] * 101, path="/closures")]


INSTANTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))


@given(
    INSTANTS,
    st.timedeltas(timedelta(), timedelta(days=9)),
    st.sampled_from([OFFICE, "FRI-SUN 22:00-04:30 Australia/Lord_Howe", "SAT 00:00-01:00 Africa/Cairo"]),
    st.lists(st.tuples(INSTANTS, st.timedeltas(timedelta(seconds=1), timedelta(days=40))), max_size=4),
)
def test_order_is_kept(
    instant: datetime, later: timedelta, text: str, windows: list[tuple[datetime, timedelta]]
) -> None:
    """What is moved is not earlier than it was, is open then, and never overtakes what was later."""
    calendar = Calendar(hours(text), tuple(Closure(start, start + length) for start, length in windows))
    first, second = next_open(calendar, instant), next_open(calendar, instant + later)

    assert first is not None
    assert second is not None
    assert instant <= first <= second
    assert is_open(calendar, first)
