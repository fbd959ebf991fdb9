"""Tell what time it is somewhere: IANA time zones, and the instants of local times that are skipped or come twice."""

import difflib
import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Final

_OF_ONE_MACHINE: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Names that stand in the data of some machines and say another thing on each."""


@cache
def zone_names() -> frozenset[str]:
    """Every time zone there is."""
    return frozenset(zoneinfo.available_timezones() - _OF_ONE_MACHINE)


def zone_problem(name: str) -> str:
    """What is wrong with the name of a time zone; "" when there is such a zone."""
    if name in zone_names():
        return ""
    if not name:
        return "a time zone is needed, such as 'Europe/Berlin' or 'UTC'"
    shown = name if len(name) <= 64 else f"{name[:64]}..."
    close = difflib.get_close_matches(shown, zone_names(), n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "; name one of the IANA zones, such as 'Europe/Berlin'"
    return f"there is no time zone {shown!r}{meant}"


def zone(name: str) -> tzinfo:
    """A time zone by its name. Errors: KeyError for a name that `zone_problem` refuses."""
    if name not in zone_names():
        raise KeyError(name)
    return zoneinfo.ZoneInfo(name)


def local_of(instant: datetime, place: tzinfo) -> datetime:
    """What clocks show at an instant, without a zone."""
    return instant.astimezone(place).replace(tzinfo=None, fold=0)


def instants_of(local: datetime, place: tzinfo) -> tuple[datetime, ...]:
    """The instants at which clocks show a local time: one; none when it is skipped; two, in order, when it comes twice.

    Shapes: local without a zone; instants aware, in UTC.
    """
    sides = sorted({local.replace(tzinfo=place, fold=fold).astimezone(UTC) for fold in (0, 1)})
    return tuple(each for each in sides if local_of(each, place) == local)


def first_instant(local: datetime, place: tzinfo) -> datetime:
    """The first instant at which clocks show a local time or, where it is skipped, the first one after the gap.

    Shapes: local without a zone; the instant aware, in UTC.
    """
    found = instants_of(local, place)
    return found[0] if found else _end_of_gap(local, place)


def _end_of_gap(local: datetime, place: tzinfo) -> datetime:
    """The instant at which clocks were put forward over a local time, by halves."""
    # Fold 1 reads a time in a gap by the offset that comes after the gap, which is an instant before it; fold 0 by the
    # other, which is an instant after it.
    before, after = (local.replace(tzinfo=place, fold=fold).astimezone(UTC) for fold in (1, 0))
    offset = before.astimezone(place).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        is_before = datetime.fromtimestamp(middle, UTC).astimezone(place).utcoffset() == offset
        low, high = (middle, high) if is_before else (low, middle)
    return datetime.fromtimestamp(high, UTC)


def offsets_near(instant: datetime, place: tzinfo) -> timedelta:
    """How far clocks are put within about a day of an instant; zero on most days."""
    around = [instant + timedelta(hours=hours) for hours in (-26, 0, 26)]
    offsets = [each.astimezone(place).utcoffset() or timedelta() for each in around]
    return max(offsets) - min(offsets)
