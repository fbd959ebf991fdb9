"""Run flagd-testbed's features with bare flagd.evaluation.v2 calls, which show all metadata."""

from collections.abc import Mapping
from typing import Final

from pytest_bdd import scenarios

from tests.conformance import testbed

CLIENT: Final = "wire"
EXCLUDED: Final = testbed.EXCLUDED
DIFFERENCES: Final[Mapping[str, str]] = {}

scenarios(
    *testbed.evaluator_features(),
    *testbed.provider_features("targeting", "evaluation", "disabled", "metadata", "selector"),
)
