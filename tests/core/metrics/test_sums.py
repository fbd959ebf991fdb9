"""Sums are what one pass over all observations gives, however these came in parts."""

import math
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.metrics.sums import EMPTY, Sums, merge, merge_all, sums_of

VALUES = st.floats(-1e6, 1e6)
PAIRS = st.lists(st.tuples(VALUES, VALUES), max_size=50)


def summed(pairs: Sequence[tuple[float, float]]) -> Sums:
    """The sums of pairs of a value and its denominator."""
    return sums_of([value for value, _ in pairs], [denominator for _, denominator in pairs])


def agree(one: Sums, other: Sums) -> None:
    """Counts exactly, moments to rounding, on the scale of the greatest values."""
    assert one.count == other.count
    scale = 1e6
    assert one.mean == pytest.approx(other.mean, rel=1e-9, abs=1e-9 * scale)
    assert one.denominator_mean == pytest.approx(other.denominator_mean, rel=1e-9, abs=1e-9 * scale)
    squares = 1e-9 * scale * scale
    assert one.deviations == pytest.approx(other.deviations, rel=1e-9, abs=squares)
    assert one.denominator_deviations == pytest.approx(other.denominator_deviations, rel=1e-9, abs=squares)
    assert one.cross == pytest.approx(other.cross, rel=1e-9, abs=squares)


@given(PAIRS, PAIRS)
def test_merging_is_commutative(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> None:
    """Who comes first does not matter."""
    agree(merge(summed(one), summed(other)), merge(summed(other), summed(one)))


@given(PAIRS, PAIRS, PAIRS)
def test_merging_is_associative(
    one: list[tuple[float, float]], other: list[tuple[float, float]], third: list[tuple[float, float]]
) -> None:
    """In which order parts are put together does not matter."""
    a, b, c = summed(one), summed(other), summed(third)
    agree(merge(merge(a, b), c), merge(a, merge(b, c)))


@given(st.lists(PAIRS, max_size=8))
def test_parts_are_one_pass(parts: list[list[tuple[float, float]]]) -> None:
    """The sums of parts, merged, are the sums of the whole."""
    agree(summed([each for part in parts for each in part]), merge_all(summed(part) for part in parts))


@given(PAIRS)
def test_nothing_changes_nothing(pairs: list[tuple[float, float]]) -> None:
    """No observations are the neutral element, exactly."""
    sums = summed(pairs)

    assert (sums, sums) == (merge(sums, EMPTY), merge(EMPTY, sums))


@given(st.lists(VALUES, min_size=2, max_size=50))
def test_moments_are_the_library_s(values: list[float]) -> None:
    """Total, mean, variance and squares, as the standard library has them."""
    sums = sums_of(values)

    assert sums.total == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-6)
    assert sums.variance == pytest.approx(statistics.variance(values), rel=1e-9, abs=1e-3)
    assert sums.square_total == pytest.approx(math.fsum(each * each for each in values), rel=1e-9, abs=1e-3)


def test_a_small_spread_far_from_zero_is_not_lost() -> None:
    """Plain sums of squares lose this variance altogether."""
    values = [1e9, 1e9 + 1, 1e9 + 2]
    parts = merge_all(sums_of([value]) for value in values)

    assert parts.variance == pytest.approx(1.0)


def test_the_cross_term_is_a_covariance() -> None:
    """What a ratio's variance needs."""
    sums = sums_of([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])

    assert sums.cross == pytest.approx(2 * sums.deviations)
    assert (7.0, 14.0) == (sums.total, sums.denominator_total)
