"""Run flagd-testbed's features with bare flagd.evaluation.v2 calls, which show all metadata."""

from typing import Final

from pytest_bdd import scenarios

from tests.conformance.suites import SUITES

SUITE: Final = SUITES["wire"]

scenarios(*SUITE.files())
