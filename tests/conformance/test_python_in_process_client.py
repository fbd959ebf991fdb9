"""Run flagd-testbed's features with the official Python provider in in-process mode, fed by flagd.sync.v1."""

from typing import Final

from pytest_bdd import scenarios

from tests.conformance.suites import SUITES

SUITE: Final = SUITES["python in-process"]

scenarios(*SUITE.files())
