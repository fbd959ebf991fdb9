"""Run flagd-testbed's features with the official Node provider in RPC mode."""

from collections.abc import Mapping
from typing import Final

from pytest_bdd import scenarios

from tests.conformance import testbed

CLIENT: Final = "node"
EXCLUDED: Final = testbed.EXCLUDED
DIFFERENCES: Final[Mapping[str, str]] = {}

scenarios(
    *testbed.evaluator_features(),
    *testbed.provider_features("targeting", "evaluation", "disabled", "metadata", "selector"),
)
