"""Waits between attempts: the schedule, its jitter, and what receivers ask for."""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks import backoff, limits
from webhooks.errors import InvalidSetting

NOW: Final = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
CHANCES: Final = st.floats(0, 1, exclude_max=True)


def test_the_default_is_that_of_the_specification() -> None:
    """Ten attempts over 75 hours and 35 minutes and a few seconds."""
    assert 10 == backoff.DEFAULT.attempt_count
    assert 75 * 3600 + 35 * 60 + 5 == sum(backoff.DEFAULT.delays_s)


@given(st.integers(0, 12), CHANCES, st.none() | st.floats(0, 1e7))
def test_a_wait_stays_within_its_bounds(attempts: int, chance: float, asked: float | None) -> None:
    """Within 20 % of the schedule, and never earlier than a receiver asked for, up to a day."""
    wait = backoff.delay_s(attempts, chance=chance, retry_after_s=asked)

    if attempts >= 10:
        assert wait is None
        return
    base = backoff.DEFAULT.delays_s[attempts]
    floor = min(asked or 0.0, limits.RETRY_AFTER_S_MAX)
    assert wait is not None
    assert max(0.8 * base, floor) <= wait + 1e-6
    assert wait <= max(1.2 * base, 1.2 * floor) + 1e-6


def test_chance_spreads_the_waits() -> None:
    """From 20 % less to 20 % more, evenly."""
    assert [4.0, 5.0, 6.0] == [backoff.delay_s(1, chance=chance) for chance in (0, 0.5, 1)]
    assert [600.0, 720.0] == [backoff.delay_s(1, chance=chance, retry_after_s=600) for chance in (0, 1)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("86401", 86_400),
        ("9" * 100_000, 86_400),
        (format_datetime(NOW.replace(minute=2), usegmt=True), 120),
        ("Wed, 25 Nov 2026 08:00:30 GMT", 30),
        ("Wednesday, 25-Nov-26 08:00:30 GMT", 30),
        ("Wed Nov 25 08:00:30 2026", 30),
        ("Tue, 24 Nov 2026 08:00:30 GMT", 0),
        ("Wed, 25 Nov 9999 08:00:30 GMT", 86_400),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Wed, 99 Nov 2026 08:00:30 GMT", None),
        ("\x00", None),
    ],
)
def test_a_retry_after_is_read(text: str | None, seconds: int | None) -> None:
    """Seconds or a date, clamped to a day; anything else is as if nothing had been said."""
    assert seconds == backoff.read_retry_after(text, NOW)


@given(st.text(max_size=80))
def test_no_header_breaks_the_reading(text: str) -> None:
    """Whatever a receiver sends, the answer is a wait within bounds or none."""
    seconds = backoff.read_retry_after(text, NOW)

    assert seconds is None or 0 <= seconds <= limits.RETRY_AFTER_S_MAX


def test_an_own_schedule_is_kept() -> None:
    """An endpoint may be tried as its owner likes, within bounds."""
    schedule = backoff.read_schedule([0, 1, 2.5])

    assert (0.0, 1.0, 2.5) == schedule.delays_s
    assert 3.0 == backoff.delay_s(2, chance=1, schedule=schedule)
    assert backoff.delay_s(3, chance=1, schedule=schedule) is None


@pytest.mark.parametrize(
    ("delays", "place"),
    [
        ([], "/retry_schedule"),
        ([0] * 31, "/retry_schedule"),
        ([0, -1], "/retry_schedule/1"),
        ([0, 86_401], "/retry_schedule/1"),
        ([float("nan")], "/retry_schedule/0"),
        ([float("inf")], "/retry_schedule/0"),
        ([True], "/retry_schedule/0"),
        (["5"], "/retry_schedule/0"),
        ([86_400] * 15, "/retry_schedule"),
    ],
)
def test_a_wrong_schedule_is_refused(delays: list[object], place: str) -> None:
    """The error names the wait that is wrong."""
    with pytest.raises(InvalidSetting) as refused:
        backoff.read_schedule(delays)

    assert place == refused.value.problems[0].path
