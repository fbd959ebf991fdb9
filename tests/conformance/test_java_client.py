"""Run flagd-testbed's features with the official Java provider in RPC mode, which speaks flagd.evaluation.v1."""

from typing import Final

from pytest_bdd import scenarios

from tests.conformance.suites import SUITES

SUITE: Final = SUITES["java"]

scenarios(*SUITE.files())
