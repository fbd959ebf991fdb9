"""Run flagd-testbed's features with the official Python provider in RPC mode."""

from typing import Final

from pytest_bdd import scenarios

from tests.conformance.suites import SUITES

SUITE: Final = SUITES["python"]

scenarios(*SUITE.files())
