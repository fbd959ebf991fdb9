"""The compiler equals the reference interpreter on every rule and context."""

import itertools
import json
from typing import Any

import pytest
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
BIG = [
    *(sign * (2**53 + beside) for sign in (1, -1) for beside in (-1, 0, 1, 2)),
    *(float(2**53), 123456789012345680000, 123456789012345677877, 1.2345678901234568e20, 10**30, 1e30, 0, 1),
]


def check(rule: Json, context: dict[str, Any], bucketing: Bucketing) -> None:
    """Hold one rule in one context to the reference."""
    # As read from JSON: no two arrays in it are the same one.
    rule, context = json.loads(json.dumps([rule, context]))
    expected = outcome(lambda: evaluate_rule(rule, context, flag_key="flag", now=NOW, bucketing=bucketing))
    answered = outcome(lambda: compile_rule(rule, flag_key="flag", bucketing=bucketing)(context, NOW))
    assert same(expected, answered), f"expected {expected}, answered {answered}"


@pytest.mark.parametrize("operator", ["==", "!=", "===", "!==", "<", "<=", ">", ">=", "in", "between"])
def test_numbers_beyond_what_is_exact(operator: str) -> None:
    """They are doubles, whichever side they stand on and however they are written: the nearest one counts."""
    for constant, value in itertools.product(BIG, BIG):
        read = {"var": "x"}
        rules: list[Json] = [{operator: [constant, read]}, {operator: [read, constant]}]
        if operator == "in":
            rules = [{"in": [read, [constant, "a"]]}]
        if operator == "between":
            rules = [{"<": [constant, read, 2 * constant]}, {"<=": [read, constant, 2 * constant]}]
        for rule in rules:
            check(rule, {"x": value}, Bucketing.V2)
            check({"if": [rule, "on", "off"]}, {"x": value}, Bucketing.V2)


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
