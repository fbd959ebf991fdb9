"""Arms that should be as large as each other, and whether they are."""

import pytest

from server.core.guards.ratios import P_MAX, ratio_mismatch


@pytest.mark.parametrize(
    ("treatment", "control", "ratio", "p"),
    [
        # chi-square 4.76, 18.2 and 9.52: as tables have it.
        (1_000, 1_100, 1.0, None),
        (1_000, 1_200, 1.0, 2.0e-5),
        (1_000, 1_142, 1.0, None),
        (1_000, 1_160, 1.0, 5.8e-4),
        (1_160, 1_000, 1.0, 5.8e-4),
        (500, 1_000, 0.5, None),
        (1_000, 500, 2.0, None),
        # Fewer than eight are expected of one arm.
        (0, 15, 1.0, None),
        (0, 16, 1.0, 6.3e-5),
        (0, 0, 1.0, None),
    ],
)
def test_how_likely_it_is(treatment: int, control: int, ratio: float, p: float | None) -> None:
    """Told only when it is rarer than one in a thousand."""
    found = ratio_mismatch(treatment, control, ratio)

    assert found == (None if p is None else pytest.approx(p, rel=0.05))
    assert found is None or found < P_MAX
