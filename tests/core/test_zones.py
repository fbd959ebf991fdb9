"""Local times become instants, also on the two days of a year when clocks are put forward and back."""

from datetime import UTC, datetime

import pytest

from server.core.zones import first_instant, instants_of, local_of, zone, zone_problem

# Zone, local time, the instants at which clocks show it, and the first instant at which it may be taken for past.
CASES = [
    ("UTC", "2026-03-29T02:30", ["2026-03-29T02:30"], "2026-03-29T02:30"),
    ("Europe/Berlin", "2026-03-29T01:59", ["2026-03-29T00:59"], "2026-03-29T00:59"),
    ("Europe/Berlin", "2026-03-29T02:00", [], "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-03-29T02:59", [], "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-03-29T03:00", ["2026-03-29T01:00"], "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T02:30", ["2026-10-25T00:30", "2026-10-25T01:30"], "2026-10-25T00:30"),
    ("Europe/Berlin", "2026-10-25T03:00", ["2026-10-25T02:00"], "2026-10-25T02:00"),
    # Half an hour.
    ("Australia/Lord_Howe", "2026-10-04T02:15", [], "2026-10-03T15:30"),
    ("Australia/Lord_Howe", "2026-04-05T01:45", ["2026-04-04T14:45", "2026-04-04T15:15"], "2026-04-04T14:45"),
    # At midnight, so that a day begins at one o'clock.
    ("Africa/Cairo", "2026-04-24T00:30", [], "2026-04-23T22:00"),
    # Over midnight: the last hour of a Saturday.
    ("America/Nuuk", "2026-03-28T23:30", [], "2026-03-29T01:00"),
    # A whole day that there was not.
    ("Pacific/Apia", "2011-12-30T12:00", [], "2011-12-30T10:00"),
]


@pytest.mark.parametrize(("name", "local", "shown", "first"), CASES)
def test_local_times(name: str, local: str, shown: list[str], first: str) -> None:
    """A skipped time has no instant and is taken after the gap; a repeated one has two and is taken at the first."""
    time, place = datetime.fromisoformat(local), zone(name)

    assert [_utc(each) for each in shown] == list(instants_of(time, place))
    assert _utc(first) == first_instant(time, place)
    assert all(local_of(each, place) == time for each in instants_of(time, place))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "a time zone is needed"),
        ("Europe/Berlni", "did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "did you mean 'Europe/Berlin'?"),
        ("Europe", "there is no time zone 'Europe'"),
        ("../../etc/passwd", "name one of the IANA zones"),
        ("localtime", "there is no time zone 'localtime'"),
        ("x" * 10_000, "xxx...'"),
    ],
)
def test_names_that_are_no_zone(name: str, told: str) -> None:
    """A name is refused with what helps; what a machine happens to have is no name."""
    assert told in zone_problem(name)
    assert 200 > len(zone_problem(name))
    with pytest.raises(KeyError):
        zone(name)


def test_a_zone_is_no_problem() -> None:
    """Names with a slash and the plain UTC are zones."""
    assert ["", ""] == [zone_problem("UTC"), zone_problem("America/Argentina/Buenos_Aires")]


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
