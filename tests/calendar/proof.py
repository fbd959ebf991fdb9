"""Prove what recurrences come to, over a year of a clock that only this turns, in six zones.

Each rule is followed as a server follows it: what is next after what was last, whenever somebody happens to look at the
clock. What happened is compared with python-dateutil's own expansion and time zones, of which the code under proof
uses the first for local times and the second not at all; with every quarter of an hour of the year; and, around both
changes of each zone's clocks, with expectations that were written by hand.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, TypeAlias

from dateutil import rrule, tz

from server.core.schedules.recurrence import Recurrence, RuleKind, next_occurrence
from tests.crash.proofs import Effort, Results

YEAR: Final = 2026
START: Final = datetime(YEAR, 1, 1, tzinfo=UTC)
END: Final = datetime(YEAR + 1, 1, 1, tzinfo=UTC)

BY_HAND: Final[dict[str, list[tuple[str, list[str]]]]] = {
    # (local time of every day, when it is in UTC on the day before a change of clocks, on that day, and on the next).
    "Europe/Berlin": [
        ("02:30", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        ("02:30", ["10-24T00:30", "10-25T00:30", "10-26T01:30"]),
        ("09:00", ["03-28T08:00", "03-29T07:00", "03-30T07:00"]),
    ],
    "America/New_York": [
        ("02:30", ["03-07T07:30", "03-08T07:00", "03-09T06:30"]),
        ("01:30", ["10-31T05:30", "11-01T05:30", "11-02T06:30"]),
    ],
    "Australia/Lord_Howe": [
        ("02:15", ["10-02T15:45", "10-03T15:30", "10-04T15:15"]),
        ("01:45", ["04-03T14:45", "04-04T14:45", "04-05T15:15"]),
    ],
    "Africa/Cairo": [
        ("00:30", ["04-22T22:30", "04-23T22:00", "04-24T21:30"]),
        ("23:30", ["10-28T20:30", "10-29T20:30", "10-30T21:30"]),
    ],
    "America/Santiago": [
        ("23:30", ["04-04T02:30", "04-05T02:30", "04-06T03:30"]),
        ("00:15", ["09-05T04:15", "09-06T04:00", "09-07T03:15"]),
    ],
    "Pacific/Chatham": [
        ("03:00", ["04-03T13:15", "04-04T13:15", "04-05T14:15"]),
        ("03:15", ["09-25T14:30", "09-26T14:00", "09-27T13:30"]),
    ],
}
ZONES: Final = tuple(BY_HAND)
LONG_CYCLES: Final = 100


Following: TypeAlias = Callable[[Recurrence, datetime], datetime | None]
"""(recurrence, after) -> when it happens next."""


@dataclass(frozen=True, slots=True)
class Year:
    """One run of the proof."""

    results: Results
    chance: random.Random
    following: Following

    def followed(self, kind: RuleKind, rule: str, name: str) -> list[datetime]:
        """When something happened in the year, for who looks at the clock now and then."""
        recurrence, happened, now = Recurrence(kind, rule, name, START), [], START - timedelta(microseconds=1)
        due = self.following(recurrence, now)
        while now < END:
            now += timedelta(seconds=self.chance.choice([1, 60, 977, 40_000, 86_400, 400_000]))
            while due is not None and due <= now and due < END:
                happened.append(due)
                due = self.following(recurrence, due)
        return happened


def prove(effort: Effort, *, following: Following = next_occurrence, zones: Sequence[str] = ZONES) -> Results:
    """As many rules as there are cycles, drawn from the seed, after those that are always looked at."""
    year = Year(Results(), random.Random(effort.seed), following)
    for name in zones:
        _by_hand(year, name)
    # Quarters take a while: in the quick form, those of one zone.
    for name in zones if effort.cycles >= LONG_CYCLES else zones[:1]:
        _by_the_quarter(year, name)
    for number in range(effort.cycles):
        _by_dateutil(year, year.chance.choice(zones), _drawn(year.chance), where=f"rule {number}")
    return year.results


def instant(local: datetime, place: tz.tzfile) -> datetime:
    """When clocks first show a time, or the first minute after the gap that swallows it, by dateutil's zones."""
    while not tz.datetime_exists(local, place):
        local += timedelta(minutes=1)
    return local.replace(tzinfo=place, fold=0).astimezone(UTC)


def _by_hand(year: Year, name: str) -> None:
    results = year.results
    for wanted, instants in BY_HAND[name]:
        at = time.fromisoformat(wanted)
        rule = f"FREQ=DAILY;BYHOUR={at.hour};BYMINUTE={at.minute}"
        happened = year.followed(RuleKind.RRULE, rule, name)
        expected = [datetime.fromisoformat(f"{YEAR}-{each}").replace(tzinfo=UTC) for each in instants]
        around = [each for each in happened if expected[0] <= each <= expected[-1]]
        results.equal("as written by hand around both changes", expected, around, where=f"{name} {wanted}")
        results.check("in order, each once", happened == sorted(set(happened)), f"{name} {wanted}")
        place = _place(name)
        days = [date(YEAR, 1, 1) + timedelta(days=day - 1) for day in range(367)]
        every = [instant(datetime.combine(day, at), place) for day in days]
        results.equal(
            "one for each date",
            [each for each in every if START <= each < END],
            happened,
            where=f"{name} {wanted}",
        )


def _by_the_quarter(year: Year, name: str) -> None:
    """Rules of passing hours, against every quarter of an hour that there was."""
    place = _place(name)
    quarters = [START + timedelta(minutes=15) * number for number in range(365 * 96)]
    shown = [(each, each.astimezone(place)) for each in quarters]
    for rule, fits in (
        ("*/15 * * * *", lambda _local: True),
        ("15 * * * *", lambda local: local.minute == 15),
        ("*/30 2 * * SUN", lambda local: local.hour == 2 and local.minute % 30 == 0 and local.weekday() == 6),
    ):
        happened = year.followed(RuleKind.CRON, rule, name)
        year.results.equal(
            "passing hours: every instant that fits",
            [each for each, local in shown if fits(local)],
            happened,
            where=f"{name} {rule}",
        )


def _by_dateutil(year: Year, name: str, rule: str, *, where: str) -> None:
    place = _place(name)
    start = START.astimezone(place).replace(tzinfo=None)
    until = start + timedelta(days=368)
    locals_ = rrule.rrulestr(f"{rule};BYSECOND=0", dtstart=start).between(start, until, inc=True)
    expected = sorted({each for each in (instant(local, place) for local in locals_) if START <= each < END})
    happened = year.followed(RuleKind.RRULE, rule, name)
    year.results.equal("as python-dateutil has it", expected, happened, where=f"{where}: {name} {rule}")
    year.results.note("rules against python-dateutil")
    year.results.note("instants of them", len(happened))


def _drawn(chance: random.Random) -> str:
    """A rule of named times that nobody thought of."""
    parts = [f"BYHOUR={_some(chance, range(24), 3)}", f"BYMINUTE={_some(chance, range(60), 2)}"]
    frequency = chance.choice(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])
    match frequency:
        case "WEEKLY":
            parts.append(f"BYDAY={','.join(chance.sample(_DAYS, chance.randint(1, 4)))}")
        case "MONTHLY" if chance.random() < 0.5:
            parts.append(f"BYMONTHDAY={_some(chance, [*range(1, 32), -1, -2], 3)}")
        case "MONTHLY":
            parts.append(f"BYDAY={chance.choice(['1', '2', '-1', '5'])}{chance.choice(_DAYS)}")
        case "YEARLY":
            parts += [f"BYMONTH={_some(chance, range(1, 13), 4)}", f"BYDAY={chance.choice(_DAYS)}"]
        case _ if chance.random() < 0.3:
            parts.append(f"BYMONTH={_some(chance, range(1, 13), 3)}")
    if frequency != "YEARLY":
        parts.append(f"INTERVAL={chance.choice([1, 1, 2, 3, 5])}")
    return ";".join([f"FREQ={frequency}", *parts])


_DAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def _some(chance: random.Random, values: Sequence[int], most: int) -> str:
    return ",".join(str(each) for each in sorted(chance.sample(list(values), chance.randint(1, most))))


def _place(name: str) -> tz.tzfile:
    found = tz.gettz(name)
    assert isinstance(found, tz.tzfile)
    return found
