"""Run flagd-testbed's features with the official Java provider in RPC mode, which speaks flagd.evaluation.v1."""

from collections.abc import Mapping
from typing import Final

from pytest_bdd import scenarios

from tests.conformance import testbed

CLIENT: Final = "java"
EXCLUDED: Final = {
    "fractional-v1": testbed.EXCLUDED["fractional-v1"],
    "no-default-variant": "version 1 of the protocol says NOT_FOUND there; the @deprecated cases hold just that",
}
ZERO_VALUE: Final = "version 1 sends the zero value of a disabled flag, and this client hands it to the application"
NO_SELECTOR: Final = "the provider sends no selector in RPC mode"
DISABLED: Final = "test_evaluating_a_disabled_flag_returns_reason_disabled_and_code_default"
DIFFERENCES: Final[Mapping[str, str]] = {
    f"{DISABLED}[disabled-string-flag-String-bye]": ZERO_VALUE,
    f"{DISABLED}[disabled-integer-flag-Integer-1]": ZERO_VALUE,
    f"{DISABLED}[disabled-float-flag-Float-0.1]": ZERO_VALUE,
    "test_flag_disabled_in_one_flag_set_enabled_in_another[rawflags/selector-flags.json-true-STATIC]": NO_SELECTOR,
    "test_returns_flag_set_metadata": NO_SELECTOR,
    "test_flag_metadata_overwrites_flag_set_metadata": NO_SELECTOR,
}
"""Cases that this client fails over any server, by test name."""

# Not the evaluator suite, which asks the same of the server: this client retries every error for three seconds.
scenarios(*testbed.provider_features("targeting", "evaluation", "disabled", "metadata"))
