"""The compiler equals the reference interpreter on every rule and context."""

import json
from typing import Any

from hypothesis import given

from server.core.environments import Bucketing
from server.core.evaluation.compiler import compile_rule
from server.core.json import Json
from tests import strategies
from tests.laws import odd
from tests.laws.agreement import outcome, same
from tests.laws.sizes import tried
from tests.reference import evaluate_rule

NOW = strategies.TIMESTAMP


def check(rule: Json, context: dict[str, Any], bucketing: Bucketing) -> None:
    """Hold one rule in one context to the reference."""
    # As read from JSON: no two arrays in it are the same one.
    rule, context = json.loads(json.dumps([rule, context]))
    expected = outcome(lambda: evaluate_rule(rule, context, flag_key="flag", now=NOW, bucketing=bucketing))
    answered = outcome(lambda: compile_rule(rule, flag_key="flag", bucketing=bucketing)(context, NOW))
    assert same(expected, answered), f"expected {expected}, answered {answered}"


@tried(300, long=20_000)
@given(strategies.rules(), strategies.contexts())
def test_usual_rules_v2(rule: Json, context: dict[str, Any]) -> None:
    """Rules as people write them, with v2 bucketing."""
    check(rule, context, Bucketing.V2)


@tried(150, long=10_000)
@given(strategies.rules(), strategies.contexts())
def test_usual_rules_v3(rule: Json, context: dict[str, Any]) -> None:
    """Rules as people write them, with v3 bucketing."""
    check(rule, context, Bucketing.V3)


@tried(400, long=20_000)
@given(odd.rules(), odd.contexts())
def test_odd_rules_v2(rule: Json, context: dict[str, Any]) -> None:
    """Operands of every type in every place, with v2 bucketing."""
    check(rule, context, Bucketing.V2)


@tried(200, long=10_000)
@given(odd.rules(), odd.contexts())
def test_odd_rules_v3(rule: Json, context: dict[str, Any]) -> None:
    """Operands of every type in every place, with v3 bucketing."""
    check(rule, context, Bucketing.V3)
