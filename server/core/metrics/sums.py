"""Sum observations up so that sums can be merged: count, mean and squared deviations.

Kept as deviations from the mean and merged by Chan's rule, so that the variance of values that are large beside their
spread is not lost, as it is with plain sums of squares.
Source: Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance".
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final


@dataclass(frozen=True, slots=True)
class Sums:
    """What is kept of observations: of their values and, for ratios, of the denominators beside them.

    Shapes: `deviations` is the sum of (value - mean)^2, `cross` that of (value - mean) * (denominator - its mean).
    """

    count: int = 0
    mean: float = 0.0
    deviations: float = 0.0
    denominator_mean: float = 0.0
    denominator_deviations: float = 0.0
    cross: float = 0.0

    @property
    def total(self) -> float:
        """The sum of the values."""
        return self.mean * self.count

    @property
    def denominator_total(self) -> float:
        """The sum of the denominators."""
        return self.denominator_mean * self.count

    @property
    def square_total(self) -> float:
        """The sum of the squared values."""
        return self.deviations + self.mean * self.mean * self.count

    @property
    def variance(self) -> float:
        """Of the values, of a sample; 0 while there are fewer than two."""
        return self.deviations / (self.count - 1) if self.count > 1 else 0.0


EMPTY: Final = Sums()


def sums_of(values: Sequence[float], denominators: Sequence[float] = ()) -> Sums:
    """Sum up observations. Shapes: finite values[n]; denominators[n], or none where the metric has none."""
    count = len(values)
    if not count:
        return EMPTY
    mean = math.fsum(values) / count
    apart = [value - mean for value in values]
    deviations = math.fsum([each * each for each in apart])
    if not denominators:
        return Sums(count, mean, deviations)
    denominator_mean = math.fsum(denominators) / count
    others = [value - denominator_mean for value in denominators]
    return Sums(
        count,
        mean,
        deviations,
        denominator_mean,
        math.fsum([each * each for each in others]),
        math.fsum([one * other for one, other in zip(apart, others, strict=True)]),
    )


def merge(one: Sums, other: Sums) -> Sums:
    """The sums of both together."""
    if not one.count:
        return other
    if not other.count:
        return one
    count = one.count + other.count
    share = other.count / count
    apart, denominators_apart = other.mean - one.mean, other.denominator_mean - one.denominator_mean
    weight = one.count * share
    return Sums(
        count,
        one.mean + apart * share,
        one.deviations + other.deviations + apart * apart * weight,
        one.denominator_mean + denominators_apart * share,
        one.denominator_deviations + other.denominator_deviations + denominators_apart * denominators_apart * weight,
        one.cross + other.cross + apart * denominators_apart * weight,
    )


def merge_all(each: Iterable[Sums]) -> Sums:
    """The sums of all together."""
    return reduce(merge, each, EMPTY)
