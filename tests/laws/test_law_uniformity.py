"""Buckets are even for every kind of key, and those of two salts have nothing to do with each other."""

import uuid
from itertools import combinations
from statistics import NormalDist
from typing import Final

import pytest

from server.core.evaluation.bucketing import share_bucket
from server.core.limits import SHARE_PARTS

UNIT_COUNT: Final = 20_000
BIN_COUNT: Final = 100
SALTS: Final = tuple(f"salt-{number}" for number in range(20))
KINDS: Final = {
    "integers": [str(number) for number in range(UNIT_COUNT)],
    "uuids": [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(UNIT_COUNT)],
    "e-mails": [f"first.last{number}@example.com" for number in range(UNIT_COUNT)],
}


def place(salt: str, unit: str) -> int:
    """The unit's place under a salt; these units all have one."""
    found = share_bucket(salt, unit)
    assert found is not None
    return found


def chance(statistic: float, freedom: int) -> float:
    """The chance of a chi-squared as large as this, by Wilson and Hilferty's cube root."""
    spread = 2 / (9 * freedom)
    return 1 - NormalDist().cdf(((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5)


def test_chance() -> None:
    """The approximation knows the printed quantiles of 99 degrees of freedom."""
    assert [0.5, 0.05, 0.001] == [round(chance(statistic, 99), 3) for statistic in (98.334, 123.225, 148.230)]


@pytest.mark.parametrize("kind", KINDS)
def test_places_are_even(kind: str) -> None:
    """B3: 100 bins of 20,000 units under 20 salts, chi-squared with p > 0.0001 each."""
    expected = UNIT_COUNT / BIN_COUNT
    chances = {}
    for salt in SALTS:
        bins = [0] * BIN_COUNT
        for unit in KINDS[kind]:
            bins[place(salt, unit) * BIN_COUNT // SHARE_PARTS] += 1
        chances[salt] = chance(sum((count - expected) ** 2 for count in bins) / expected, BIN_COUNT - 1)

    assert {} == {salt: found for salt, found in chances.items() if found <= 1e-4}


def test_salts_are_independent() -> None:
    """B3: over 100 flags the places of 5,000 units correlate by less than 4 / sqrt(n) in every pair."""
    units = KINDS["integers"][:5_000]
    middle, variance = (SHARE_PARTS - 1) / 2, (SHARE_PARTS**2 - 1) / 12
    places = [[place(f"flag-{number}/rule/share", unit) - middle for unit in units] for number in range(100)]
    bound = 4 / len(units) ** 0.5
    worst = max(
        abs(sum(map(float.__mul__, one, other))) / (variance * len(units)) for one, other in combinations(places, 2)
    )

    assert worst < bound
