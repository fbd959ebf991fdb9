"""Declare which of the testbed's cases each client runs, and why it does not run the others."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pytest_bdd.feature import get_features
from pytest_bdd.parser import Examples

from tests.conformance import testbed

EVALUATOR: Final = "evaluator"
"""All features of the evaluator suite, which is about answers only; the others are of the provider suite."""

STILL: Final = ("targeting", "evaluation", "disabled", "metadata", "selector")
"""Features that ask a server which stays as it is."""

LIVE: Final = ("connection", "events", "contextEnrichment", "rpc-caching", "sync-payload")
"""Features in which the server is started, lost and changed under a provider that watches."""

MODES: Final = frozenset({"rpc", "in-process", "file"})
OTHER_MODE: Final = "other mode"
RUNS: Final = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """What one client runs."""

    client: str
    features: tuple[str, ...]
    excluded: Mapping[str, str]
    """Tags whose cases it does not run, each with the reason."""

    differences: Mapping[str, str] = field(default_factory=dict)
    """Cases that this client fails over any server, by test name, each with the reason. They are expected to fail."""

    mode: str = "rpc"
    beyond: Collection[str] = ()
    """Features that the testbed asks of another mode only, and that hold in this one too."""

    bucketing: str = "v2"

    def files(self) -> list[str]:
        """The paths of its features."""
        return [path for name in self.features for path in feature_files(name)]

    def why_not(self, feature: str, tags: Collection[str]) -> str:
        """Why a case of a feature is left out: a tag, or OTHER_MODE; RUNS when it is not."""
        for tag in self.excluded:
            if tag in tags:
                return tag
        is_for_others = MODES.intersection(tags) and self.mode not in tags and feature not in self.beyond
        return OTHER_MODE if is_for_others else RUNS


def feature_files(name: str) -> list[str]:
    """The paths of a feature of the provider suite, or of all of the evaluator suite's."""
    return testbed.evaluator_features() if name == EVALUATOR else testbed.provider_features(name)


def tags_of_cases(name: str) -> list[frozenset[str]]:
    """The tags of each case of a feature."""
    return [
        frozenset(feature.tags | scenario.tags | examples.tags)
        for feature in get_features(feature_files(name))
        for scenario in feature.scenarios.values()
        for examples in scenario.examples or [Examples(examples=[()])]
        for _ in examples.examples
    ]


def feature_of(path: str) -> str:
    """The name by which a suite knows a feature's file."""
    return EVALUATOR if Path(path).parent == testbed.EVALUATOR else Path(path).stem


FRACTIONAL_V1: Final = "the bucketing that flagd left in 2026; this server speaks v2 and v3"
DEPRECATED: Final = "the testbed replaced these cases by those of @no-default-variant"
ZERO_VALUE: Final = "version 1 sends the zero value of a disabled flag, and this client hands it to the application"
NO_SELECTOR: Final = "the provider sends no selector in RPC mode"
NEWER: Final = "the provider's default is of a newer specification than the testbed: flagd's change 2027 lowered it"
DISABLED: Final = "test_evaluating_a_disabled_flag_returns_reason_disabled_and_code_default"
ALWAYS: Final[Mapping[str, str]] = {"fractional-v1": FRACTIONAL_V1, "deprecated": DEPRECATED}
PYTHON: Final[Mapping[str, str]] = {
    **ALWAYS,
    "targetURI": "the provider has no such option",
    "unixsocket": "the provider has no such option",
}
NEWER_DEFAULTS: Final[Mapping[str, str]] = {
    "test_default_config[retryBackoffMaxMs-Integer-12000]": NEWER,
    "test_default_config[retryGracePeriod-Integer-5]": NEWER,
}

SUITES: Final[Mapping[str, Suite]] = {
    "python": Suite(
        "python",
        features=(EVALUATOR, *STILL, *LIVE, "config"),
        excluded={
            **PYTHON,
            "metadata": "the provider drops response metadata in RPC mode; other clients here run these cases",
        },
        differences=NEWER_DEFAULTS,
        beyond=("selector",),
    ),
    "python in-process": Suite(
        "python",
        features=(EVALUATOR, *STILL, *LIVE, "config"),
        excluded={**PYTHON, "fractional-v2": "the client's own bucketing is v3"},
        differences=NEWER_DEFAULTS,
        mode="in-process",
        bucketing="v3",
    ),
    "wire": Suite("wire", features=(EVALUATOR, *STILL), excluded=ALWAYS, beyond=("selector", "metadata")),
    "node": Suite("node", features=(EVALUATOR, *STILL), excluded=ALWAYS, beyond=("selector", "metadata")),
    "java": Suite(
        "java",
        # Not the evaluator suite, which asks the same of the server: this client retries every error for seconds.
        features=("targeting", "evaluation", "disabled", "metadata"),
        excluded={
            "fractional-v1": FRACTIONAL_V1,
            "no-default-variant": "version 1 says NOT_FOUND there; the @deprecated cases hold just that",
        },
        differences={
            f"{DISABLED}[disabled-string-flag-String-bye]": ZERO_VALUE,
            f"{DISABLED}[disabled-integer-flag-Integer-1]": ZERO_VALUE,
            f"{DISABLED}[disabled-float-flag-Float-0.1]": ZERO_VALUE,
            "test_flag_disabled_in_one_flag_set_enabled_in_another[rawflags/selector-flags.json-true-STATIC]": (
                NO_SELECTOR
            ),
            "test_returns_flag_set_metadata": NO_SELECTOR,
            "test_flag_metadata_overwrites_flag_set_metadata": NO_SELECTOR,
        },
        beyond=("metadata",),
    ),
}
"""Every client's suite, by its name."""
