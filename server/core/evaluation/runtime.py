"""What compiled code may call by name: the operators, and a few helpers that only it needs."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final

import mmh3

from server.core.evaluation import compare, operators
from server.core.evaluation.bucketing import text_cbor
from server.core.json import Json

OPERATORS: Final = (
    *("add", "subtract", "multiply", "divide", "modulo", "least", "greatest", "contains", "merge", "substring"),
    *("starts_with", "ends_with", "semantic_version", "join", "follow", "variable", "missing", "missing_some"),
    *("pick", "unit_hash", "shorthand_hash", "fail", "Steps"),
    *("loop_map", "loop_filter", "loop_all", "loop_some", "loop_none", "loop_reduce"),
)
COMPARISONS: Final = (
    *("truthy", "to_text", "NUMBERS", "NOT_NUMBERS", "NOT_TEXT"),
    *("loose_equal", "strict_equal", "less", "less_equal", "greater", "greater_equal"),
)


def _whole(context: Mapping[str, Json], flag_key: str, now: int) -> dict[str, Json]:
    return {**context, "$flagd": _flagd_properties(flag_key, now)}


def _flagd_properties(flag_key: str, now: int) -> dict[str, Json]:
    return {"flagKey": flag_key, "timestamp": now}


def _absent(*pairs: tuple[Json, Json]) -> list[Json]:
    return [name for name, value in pairs if value is None or value == ""]


def _between(order: Callable[[Json, Json], bool], low: Json, middle: Json, high: Json) -> bool:
    return order(low, middle) and order(middle, high)


def _is_member(
    value: Json, texts: frozenset[str], numbers: frozenset[float], null: bool, true: bool, false: bool
) -> bool:
    if value is None or value is True or value is False:
        return null if value is None else true if value else false
    if isinstance(value, str):
        return value in texts
    return isinstance(value, int | float) and not math.isnan(value) and compare.as_double(value) in numbers


def _version_matches(value: Json, order: Callable[[Any, Any], bool], target: operators.Version) -> bool | None:
    version = operators.parse_version(value)
    return None if version is None else order(version, target)


NAMES: Final[Mapping[str, Any]] = {
    **{name: getattr(operators, name) for name in OPERATORS},
    **{name: getattr(compare, name) for name in COMPARISONS},
    "absent": _absent,
    "between": _between,
    "bisect_right": bisect_right,
    "text_cbor": text_cbor,
    "flagd_properties": _flagd_properties,
    "is_member": _is_member,
    "murmur": mmh3.hash,
    "version_matches": _version_matches,
    "whole": _whole,
}
