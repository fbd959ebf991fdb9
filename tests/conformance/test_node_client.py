"""Run flagd-testbed's features with the official Node provider in RPC mode."""

from typing import Final

from pytest_bdd import scenarios

from tests.conformance.suites import SUITES

SUITE: Final = SUITES["node"]

scenarios(*SUITE.files())
