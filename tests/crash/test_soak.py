"""What a server keeps that it should not is found by the soak's comparisons."""

from dataclasses import replace
from typing import Any

import pytest

from tests.crash.proofs import Results
from tests.crash.soak import (
    DATABASE_DESCRIPTORS_MAX,
    GROWTH_MB_MAX,
    WARM_SHARE,
    WARMING_MB_MAX,
    WHOLE_S,
    Remains,
    check_memory,
    compare,
)

BEFORE = Remains(
    {"serve": 2}, descriptors=20, database_descriptors=6, open_streams=0, subscribers=0, series=frozenset({"up"})
)


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": {"serve": 3}},
        {"tasks": {"serve": 2, "stream": 1}},
        {"descriptors": 21},
        {"database_descriptors": DATABASE_DESCRIPTORS_MAX + 1},
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


@pytest.mark.parametrize(("duration_s", "limit_mb"), [(WHOLE_S, GROWTH_MB_MAX), (60.0, WARMING_MB_MAX)])
@pytest.mark.parametrize(("part", "expected"), [(0.0, True), (0.9, True), (1.1, False)])
def test_slope(duration_s: float, limit_mb: float, part: float, expected: bool) -> None:
    """Growth in the warm-up is nobody's fault; from then on it counts, whatever a single sample says."""
    results = Results()
    begin_s = duration_s * WARM_SHARE
    warm = [(begin_s + (duration_s - begin_s) * place / 100, part * limit_mb * place / 100) for place in range(101)]
    check_memory(results, [(0.0, -100.0), *((second, 90.0 + size) for second, size in warm)])

    assert expected == results.hold


def test_one_sample_is_no_slope() -> None:
    """Memory that is given back at the end was not kept, and a page more at the end is no growth."""
    results = Results()
    check_memory(results, [*((float(second), 90.0) for second in range(600)), (600.0, 90.0 + 10 * GROWTH_MB_MAX)])

    assert results.hold
