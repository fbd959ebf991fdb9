"""A history of a stream that is not what was committed breaks the proof."""

from collections.abc import Sequence

import pytest

from tests.crash.proofs import Results
from tests.crash.storm import check_history

VALUES = {1: 10, 2: 20, 3: 30}
SOUND = [(1, "SNAPSHOT", 1, 10), (1, "CHANGES", 2, 20), (2, "RESYNC", 2, 20), (2, "KEEP_ALIVE", 2, None)]
LAST = (2, "CHANGES", 3, 30)


def broken(told: Sequence[tuple[int, str, int, int | None]], paced: set[int]) -> list[str]:
    """The invariants that a history breaks."""
    results = Results()
    check_history(results, told, values=VALUES, paced=paced, where="here")
    return [invariant for invariant, tally in results.tallies.items() if tally.broken]


def test_sound_history() -> None:
    """A history with every revision breaks nothing, nor does one that passed over what nobody had to hear of."""
    assert [] == broken([*SOUND, LAST], {1, 2, 3})
    assert [] == broken([SOUND[0], (1, "CHANGES", 3, 30)], {3})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([*SOUND, LAST, (3, "RESYNC", 2, 20), (3, "CHANGES", 3, 30)], "revisions never go back"),
        ([(1, "SNAPSHOT", 1, 10), (2, "CHANGES", 3, 30)], "a call begins with all values"),
        ([*SOUND, (2, "CHANGES", 3, 20)], "a client holds what its revision says"),
        ([(1, "SNAPSHOT", 1, 10), (1, "CHANGES", 3, 30)], "no gap without a RESYNC"),
        (SOUND, "all come to the last revision"),
    ],
)
def test_unsound_history(told: Sequence[tuple[int, str, int, int | None]], expected: str) -> None:
    """A step back, a call without all values, a wrong value, a gap and an early end are found, and nothing else."""
    assert [expected] == broken(told, {1, 2, 3})
