"""Tell when the conformance data is absent, and hold how much of it the clients run."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from pytest_bdd.feature import get_features
from pytest_bdd.parser import Examples

from tests.conformance import testbed

if not testbed.PRESENT:
    pytest.skip(testbed.ABSENT, allow_module_level=True)

EVALUATOR_CASES: Final = 140
TARGETING_CASES: Final = 245


def cases_of(files: list[str], excluded: Mapping[str, str]) -> Counter[str]:
    """Count cases by the first excluded tag that they carry, "" for those that run."""
    counts: Counter[str] = Counter()
    for feature in get_features(files):
        for scenario in feature.scenarios.values():
            for examples in scenario.examples or [Examples(examples=[()])]:
                tags = feature.tags | scenario.tags | examples.tags
                counts[next((tag for tag in excluded if tag in tags), "")] += len(examples.examples)
    return counts


def test_the_evaluator_suite_is_whole() -> None:
    """All 140 cases are there, and only those of the bucketing that flagd left are not run."""
    counts = cases_of(testbed.evaluator_features(), testbed.EXCLUDED)

    assert {"": EVALUATOR_CASES - 15, "fractional-v1": 15} == counts


def test_the_targeting_suite_is_whole() -> None:
    """All 245 cases are there, and only those of the bucketing that flagd left are not run."""
    counts = cases_of(testbed.provider_features("targeting"), testbed.EXCLUDED)

    assert {"": TARGETING_CASES - 15, "fractional-v1": 15} == counts


def test_the_merged_flag_file_holds_every_flag() -> None:
    """Merging loses no flag to another of the same key."""
    files = [path for path in Path(testbed.TESTBED, "flags").glob("*.json") if not path.name.startswith("selector-")]

    assert sum(len(testbed.read(path)["flags"]) for path in files) == len(testbed.all_flags()["flags"])
