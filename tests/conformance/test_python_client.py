"""Run flagd-testbed's features with the official Python provider in RPC mode."""

from collections.abc import Mapping
from typing import Final

from pytest_bdd import scenarios

from tests.conformance import testbed

CLIENT: Final = "python"
EXCLUDED: Final = {
    **testbed.EXCLUDED,
    "metadata": "the provider drops response metadata in RPC mode; the wire and the Node client run these cases",
}
DIFFERENCES: Final[Mapping[str, str]] = {}

scenarios(
    *testbed.evaluator_features(),
    *testbed.provider_features("targeting", "evaluation", "disabled", "metadata", "selector"),
)
