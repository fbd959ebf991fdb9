"""Explanations: each step says what was looked at, and the answer is the evaluation's own."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from server.core.environments import Environment
from server.core.evaluation.explain import explain
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import (
    Flag,
    FlagConfig,
    FlagDefinition,
    Outside,
    Prerequisite,
    Rule,
    Share,
    ShareStep,
    Split,
    Target,
    ValueType,
)
from server.core.flagsets import FlagSet
from server.core.segments import Segment
from tests.strategies import contexts, flag_sets

SPLIT = Split((("on", 1), ("off", 3)), salt="s")
HALF = Share(50_000, salt="h")
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)


def told(config: FlagConfig, context: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The steps of a flag with this configuration, beside a flag `other` that is on for pro and a segment of pros."""
    pro = {"==": [{"var": "plan"}, "pro"]}
    variants = {"on": True, "off": False}
    flags = {
        "f": FlagDefinition(Flag("f", ValueType.BOOLEAN, variants), config),
        "other": FlagDefinition(
            Flag("other", ValueType.BOOLEAN, variants), FlagConfig(default="off", rules=(Rule("r", "on", pro),))
        ),
    }
    flag_set = FlagSet(Environment("shop", "production"), flags, {"pros": Segment("pros", condition=pro)})
    return [(step.what, step.outcome, step.detail) for step in explain(flag_set, "f", context, now=0).steps]


@pytest.mark.parametrize(
    ("config", "context", "expected"),
    [
        (FlagConfig(enabled=False, off_variant="off"), {}, ("state", "off", "off variant off")),
        (FlagConfig(enabled=False), {}, ("state", "off", "no off variant: the caller's own default holds")),
        (
            FlagConfig(off_variant="off", default="on", prerequisites=(Prerequisite("other", ("on",)),)),
            {"plan": "free"},
            ("prerequisite other", "not met", "serves off, needs on"),
        ),
        (
            FlagConfig(default="off", targets=(Target("on", ("ann",)),)),
            {"targetingKey": "ann"},
            ("targets", "matched", "targetingKey 'ann' is listed for on"),
        ),
        (
            FlagConfig(default="off", rules=(Rule("r", "on", {"$ref": "pros"}),)),
            {"plan": "free"},
            ("rule r", "no match", "segment pros: not in"),
        ),
        (
            FlagConfig(default="off", rules=(Rule("r", "on", None, share=HALF),)),
            {},
            ("rule r", "matched, but outside", "the context has no targetingKey to bucket by; the next rule is asked"),
        ),
        (
            FlagConfig(default="off", rules=(Rule("r", "on", share=Share(0, "h"), outside=Outside.DEFAULT),)),
            {"targetingKey": "ann"},
            (
                "rule r",
                "matched, but outside",
                "outside the share: bucket 27331 of 100000, let in below 0 (salt 'h'); the default is served",
            ),
        ),
        (
            FlagConfig(default="off", rules=(Rule("r", "on", starts_at=LATER),)),
            {},
            ("rule r", "not asked", "it begins at 2026-12-01T09:00:00Z"),
        ),
        (
            FlagConfig(default="off", rules=(Rule("r", "on", ends_at=datetime.fromtimestamp(0, UTC)),)),
            {},
            ("rule r", "not asked", "it ended at 1970-01-01T00:00:00Z"),
        ),
        (
            FlagConfig(default="off", rules=(Rule("r", "on", share=Share(0, "h", steps=(ShareStep(LATER, 10_000),))),)),
            {"targetingKey": "ann"},
            (
                "rule r",
                "matched, but outside",
                "outside the share: bucket 27331 of 100000, let in below 0, below 10000 from 2026-12-01T09:00:00Z on "
                "(salt 'h'); the next rule is asked",
            ),
        ),
        (
            FlagConfig(default=SPLIT),
            {"targetingKey": "ann"},
            ("split", "off", "bucket 3 of 4 by targetingKey, salt 's'"),
        ),
        (
            FlagConfig(default=SPLIT),
            {},
            (
                "default",
                "outside its split",
                "the context has no targetingKey to bucket by; no off variant: the caller's own default holds",
            ),
        ),
        (FlagConfig(), {}, ("default", "none", "the caller's own default holds")),
        (
            FlagConfig(targeting={"fractional": [["on", 1], ["off", 1]]}),
            {"targetingKey": "ann"},
            ("fractional", "'on'", "bucket 0 of 2 by 'f + targetingKey'"),
        ),
        (
            FlagConfig(targeting={"if": [{"nope": 1}, "on"]}),
            {},
            ("targeting", "error", "flag 'f': 'nope' is not an operator"),
        ),
    ],
)
def test_step_is_told(config: FlagConfig, context: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """What decided is among the steps, with its bucket where there is one."""
    assert expected in told(config, context)


def test_missing_flag_is_told() -> None:
    """There is a step for that too."""
    explanation = explain(FlagSet(Environment("shop", "production")), "f", {}, now=0)

    assert "not found" == explanation.steps[0].outcome


@given(flag_sets(), contexts())
def test_answer_is_the_evaluations_own(flag_set: FlagSet, context: dict[str, Any]) -> None:
    """Explaining never raises, and never tells another answer than evaluation gives."""
    snapshot = build_snapshot(flag_set, revision=1)
    for key in flag_set.flags:
        told, real = explain(flag_set, key, context, now=5).resolution, snapshot.resolve(key, context, 5)

        assert (real.variant, real.reason, real.error_message) == (told.variant, told.reason, told.error_message)
