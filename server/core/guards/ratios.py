"""Say whether two arms have as many observations as their sizes would have them have.

Where they have not, something is lost or counted twice on one side, and what is measured of the two is not comparable.
"""

import math
from typing import Final

P_MAX: Final = 0.001
"""Rarer than that by chance alone, it is a mismatch."""

EXPECTED_MIN: Final = 8.0
"""With fewer expected of an arm, the test says nothing."""


def ratio_mismatch(treatment: int, control: int, ratio: float) -> float | None:
    """How likely such counts are when there should be `ratio` of the treatment to each of the control.

    None when that is likely enough, or when there are too few to tell. Counts are of observations: where a unit is
    observed many times, they differ more than the test expects.
    Source: Pearson's chi-square test with one degree of freedom, whose tail is erfc(sqrt(x / 2)).
    """
    total = treatment + control
    expected = total * ratio / (1 + ratio)
    if min(expected, total - expected) < EXPECTED_MIN:
        return None
    square = (treatment - expected) ** 2 * (1 / expected + 1 / (total - expected))
    p = math.erfc(math.sqrt(square / 2))
    return p if p < P_MAX else None
