"""What a server keeps that it should not is found by the soak's comparisons."""

from dataclasses import replace
from typing import Any

import pytest

from tests.crash.proofs import Results
from tests.crash.soak import GROWTH_MB_MAX, Remains, check_memory, compare

BEFORE = Remains({"serve": 2}, descriptors=20, open_streams=0, subscribers=0, series=frozenset({"up"}))


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": {"serve": 3}},
        {"tasks": {"serve": 2, "stream": 1}},
        {"descriptors": 21},
        {"open_streams": 1},
        {"subscribers": 1},
        {"series": frozenset({"up", 'calls{flag="a"}'})},
    ],
)
def test_what_is_left_is_found(change: dict[str, Any]) -> None:
    """One more of anything breaks one invariant; fewer break none."""
    results, fewer = Results(), Results()
    after = replace(BEFORE, **change)
    compare(results, BEFORE, after=after)
    compare(fewer, BEFORE, after=replace(BEFORE, tasks={}, descriptors=3))

    assert [1] == [len(tally.broken) for tally in results.tallies.values() if tally.broken]
    assert fewer.hold


@pytest.mark.parametrize(("growth_mb", "expected"), [(0.0, True), (GROWTH_MB_MAX * 2, False)])
def test_slope(growth_mb: float, expected: bool) -> None:
    """Growth in the warm-up is nobody's fault; from then on it counts, whatever a single sample says."""
    results = Results()
    samples = [(0.0, 10.0), *((second, 90.0 + growth_mb * second / 100) for second in range(40, 141)), (141.0, 90.0)]
    check_memory(results, [(float(second), size) for second, size in samples])

    assert expected == results.hold
