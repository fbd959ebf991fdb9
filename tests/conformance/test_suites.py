"""Tell when the conformance data is absent, and hold how much of it the clients run."""

from pathlib import Path
from typing import Final

import pytest

from tests.conformance import testbed

if not testbed.PRESENT:
    pytest.skip(testbed.ABSENT, allow_module_level=True)

from tests.conformance.counts import FEATURES, as_markdown, counts_of
from tests.conformance.suites import RUNS, SUITES, tags_of_cases

README: Final = Path(__file__).with_name("README.md")
EVALUATOR_CASES: Final = 140
PROVIDER_CASES: Final = 416
OF_BOTH_MODES: Final = {"connection", "events", "contextEnrichment"}


def test_the_testbed_is_whole() -> None:
    """All cases of both suites are there, and each belongs to a feature that is counted."""
    counts = {feature: len(tags_of_cases(feature)) for feature in FEATURES}

    assert EVALUATOR_CASES == counts.pop("evaluator")
    assert PROVIDER_CASES == sum(counts.values())
    assert {path.stem for path in testbed.PROVIDER.glob("*.feature")} == set(counts)


def test_the_table_says_what_runs() -> None:
    """No case comes, goes or is left out without the table in the README saying so: it is what this test expects."""
    assert as_markdown() in README.read_text(encoding="utf-8"), (
        "bring the README's tables up to date with: python -m tests.conformance.counts"
    )


@pytest.mark.parametrize("name", SUITES)
def test_every_tag_that_is_left_out_is_of_a_case(name: str) -> None:
    """No exclusion outlives the cases that it is about."""
    suite = SUITES[name]
    found = {tag for feature in suite.features for tag in counts_of(suite, feature)}

    assert set(suite.excluded) <= found


def test_both_modes_run_what_is_for_both() -> None:
    """Of what the testbed asks of RPC and in-process providers alike, the Python provider runs all in both modes."""
    runs = {
        name: {feature: counts_of(SUITES[name], feature)[RUNS] for feature in OF_BOTH_MODES}
        for name in ("python", "python in-process")
    }

    assert runs["python"]["events"] == runs["python in-process"]["events"] == 4
    assert runs["python"]["connection"] == runs["python in-process"]["connection"] == 6


def test_the_merged_flag_file_holds_every_flag() -> None:
    """Merging loses no flag to another of the same key."""
    files = [path for path in Path(testbed.TESTBED, "flags").glob("*.json") if not path.name.startswith("selector-")]

    assert sum(len(testbed.read(path)["flags"]) for path in files) == len(testbed.all_flags()["flags"])
