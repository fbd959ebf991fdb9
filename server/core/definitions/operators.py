"""List the operators of flagd's rules, and what each takes and gives."""

from collections.abc import Mapping
from typing import Final

UNBOUNDED: Final = 2**31
"""No bound of the operator's own: RULE_NODES_MAX holds."""

ARITY: Final[Mapping[str, tuple[int, int]]] = {
    **dict.fromkeys(("if", "and", "or", "+", "-", "max", "min", "merge", "cat", "fractional"), (1, UNBOUNDED)),
    **dict.fromkeys(("==", "===", "!=", "!==", ">", ">=", "%", "/"), (2, 2)),
    **dict.fromkeys(("map", "filter", "all", "none", "some", "in", "starts_with", "ends_with"), (2, 2)),
    **dict.fromkeys(("<", "<=", "substr"), (2, 3)),
    **dict.fromkeys(("!", "!!"), (1, 1)),
    **dict.fromkeys(("reduce", "sem_ver"), (3, 3)),
    "*": (2, UNBOUNDED),
    "missing": (0, UNBOUNDED),
    "missing_some": (2, 2),
    "var": (1, 2),
}
"""Operands that each operator takes, at least and at most.

Source: flagd-schemas, json/targeting.yaml.
"""

OPERATORS: Final = (*ARITY, "$ref")
ANSWERS_YES_OR_NO: Final = frozenset(
    {"==", "===", "!=", "!==", "<", "<=", ">", ">=", "!", "!!", "in", "all", "none", "some"}
    | {"starts_with", "ends_with", "sem_ver"}
)
SUGARED: Final = frozenset(("!", "!!", "var"))
"""Operators whose single operand may stand without a list around it."""

FLAGD_VARIABLES: Final = ("$flagd.flagKey", "$flagd.timestamp")
