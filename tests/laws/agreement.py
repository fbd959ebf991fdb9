"""Compare answers as JSON values: true is not 1, and 1 is 1.0."""

from collections.abc import Callable
from typing import Any

from hypothesis import assume

from server.core.evaluation.failure import Failure
from server.core.resolution import ErrorCode
from tests.oracle.javascript import to_javascript, to_json
from tests.reference import RuleFailure

Outcome = tuple[str, Any]


def outcome(evaluate: Callable[[], Any]) -> Outcome:
    """("value", what JSON can say of it) or ("failure", code); gives up on what passed one of our bounds."""
    try:
        return "value", to_javascript(to_json(to_javascript(evaluate())))
    except RuleFailure as failure:
        return "failure", failure.code
    except Failure as failure:
        # The reference knows no bounds on steps and lengths.
        assume(failure.code is not ErrorCode.GENERAL)
        return "failure", failure.code.value


def same(left: Outcome, right: Outcome) -> bool:
    """Whether two outcomes are the same answer."""
    return left[0] == right[0] and same_value(left[1], right[1])


def same_value(left: Any, right: Any) -> bool:
    """Whether two values of `to_javascript` are the same JSON."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same_value, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    return bool(left == right)
