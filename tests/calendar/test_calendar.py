"""A year of recurrences in six zones, in its quick form; and the proof of it notices when it is wrong."""

from datetime import datetime, timedelta

from server.core.schedules.recurrence import Recurrence, next_occurrence
from tests.calendar import proof
from tests.crash.proofs import Effort


def test_a_year_of_recurrences() -> None:
    """The quick form of the proof."""
    results = proof.prove(Effort(12, 0, 20_260_101, ""))

    assert results.hold, [tally.broken[:3] for tally in results.tallies.values()]
    assert {
        "as written by hand around both changes", "in order, each once", "one for each date",
        "passing hours: every instant that fits", "as python-dateutil has it",
    } == results.tallies.keys()  # fmt: skip


def test_an_hour_off_is_noticed() -> None:
    """Every invariant breaks when what follows is an hour late."""

    def late(each: Recurrence, after: datetime) -> datetime | None:
        found = next_occurrence(each, after)
        return None if found is None else found + timedelta(hours=1)

    results = proof.prove(Effort(2, 0, 1, ""), following=late, zones=["Europe/Berlin"])

    assert ["in order, each once"] == [name for name, tally in results.tallies.items() if not tally.broken]
