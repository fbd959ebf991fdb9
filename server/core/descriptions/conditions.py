"""Write a JsonLogic condition the way people say it: `plan == "pro" and segment beta`."""

import json
from collections.abc import Mapping
from typing import Final

from server.core.json import Json

_BETWEEN: Final = frozenset(
    {"==", "===", "!=", "!==", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%", "and", "or"}
    | {"starts_with", "ends_with"}
)


def write_condition(condition: Json) -> str:
    """One line; two conditions may be said alike, as `{"!": x}` and `{"!": [x]}` are."""
    return _write(condition, is_inner=False)


def quoted(value: Json) -> str:
    """A value as JSON: a text is told from a number."""
    return json.dumps(value, ensure_ascii=False)


def _write(rule: Json, *, is_inner: bool) -> str:
    if isinstance(rule, list):
        return f"[{', '.join(_write(item, is_inner=False) for item in rule)}]"
    if not isinstance(rule, Mapping) or len(rule) != 1:
        return quoted(rule)
    ((operator, operands),) = rule.items()
    if operator == "var" and isinstance(operands, str) and operands:
        return operands
    if operator == "$ref" and isinstance(operands, str):
        return f"segment {operands}"
    listed = operands if isinstance(operands, list) else [operands]
    between = _between(operator, listed)
    if between:
        return f"({between})" if is_inner else between
    if operator == "!" and len(listed) == 1:
        return f"not {_write(listed[0], is_inner=True)}"
    return f"{operator}({', '.join(_write(item, is_inner=False) for item in listed)})"


def _between(operator: str, operands: list[Json]) -> str:
    """Operands with the operator's sign between them; "" for an operator that has none."""
    match operands:
        case [version, str(relation), other] if operator == "sem_ver":
            return f"version {_write(version, is_inner=True)} {relation} {_write(other, is_inner=True)}"
        case [_, _, *_] if operator in _BETWEEN:
            return f" {operator} ".join(_write(item, is_inner=True) for item in operands)
    return ""
