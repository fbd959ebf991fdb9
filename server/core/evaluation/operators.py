"""The operators that compiled rules call: JsonLogic's and flagd's, on values that are already evaluated."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from server.core.evaluation import compare
from server.core.evaluation.bucketing import HASH_SPACE, canonical_cbor, hash32, hash_limits
from server.core.evaluation.compare import text_of, to_number, to_text, truthy
from server.core.evaluation.failure import Failure
from server.core.json import Json
from server.core.limits import EVALUATION_STEPS_MAX, LIST_ITEMS_MAX, TEXT_RESULT_CHARS_MAX, WEIGHT_SUM_MAX
from server.core.resolution import ErrorCode

Arms: TypeAlias = Sequence[tuple[Callable[[], Json], Callable[[], Json]]]
"""(variant, weight) of each arm, evaluated when they are needed."""

Version: TypeAlias = tuple[int, int, int, tuple[tuple[int, int, str], ...]]

VERSION_CHARS_MAX: Final = 256
_VERSION: Final = re.compile(
    r"[vV]?(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)?)?"
)


class _Missing:
    """Stands for JavaScript's undefined while a path is followed."""


_MISSING: Final = _Missing()


def fail(failure: Failure) -> Json:
    """Raise from inside an expression. A new exception each time, so that no traceback is kept."""
    raise Failure(failure.code, str(failure))


def follow(data: Json, path: Sequence[str], default: Json = None) -> Json:
    """Walk from data along a path of keys and list indexes; default where it ends early."""
    for name in path:
        if data.__class__ is dict:
            data = data.get(name, _MISSING)
        elif data.__class__ is list or data.__class__ is str:
            data = _element(data, name)
        else:
            return default
        if data is _MISSING:
            return default
    return data


def _element(data: list[Json] | str, name: str) -> Json:
    if name == "length":
        return len(data)
    if name.isascii() and name.isdigit() and len(name) < 8 and int(name) < len(data) and str(int(name)) == name:
        return data[int(name)]
    return _MISSING


def variable(data: Json, name: Json, default: Json = None) -> Json:
    """`var` with a name that is itself computed."""
    if name is None or name == "":
        return data
    return follow(data, text_of(name).split("."), default)


def missing(data: Json, *names: Json) -> list[Json]:
    """`missing`: which of these names are absent, null or empty."""
    wanted = names[0] if names and isinstance(names[0], list) else names
    return [name for name in wanted if variable(data, name) in (None, "")]


def missing_some(data: Json, needed: Json = None, names: Json = None) -> list[Json]:
    """`missing_some`: the absent names, unless at least `needed` are there."""
    names = names if isinstance(names, list) else []
    absent = missing(data, names)
    return [] if len(names) - len(absent) >= to_number(needed) else absent


def add(*values: Json) -> float | int:
    """`+`, of texts too."""
    total: float | int = 0
    for value in values:
        total += compare.parse_float(value)
    return compare.as_double(total)


def multiply(*values: Json) -> Json:
    """`*`, of texts too; a single operand is given back as it is."""
    if len(values) == 1:
        return values[0]
    product: float | int = 1
    for value in values:
        product = compare.as_double(product * compare.parse_float(value))
    return product if values else None


def subtract(a: Json = None, *rest: Json) -> float | int:
    """`-`: of one operand its negative, of two their difference."""
    return compare.as_double(to_number(a) - to_number(rest[0])) if rest else -to_number(a)


def divide(a: Json = None, b: Json = None) -> float | int:
    """`/`: infinite or NaN where JavaScript is, never an exception."""
    dividend, divisor = to_number(a), to_number(b)
    if divisor:
        return float(dividend) / divisor
    if not dividend or dividend != dividend:
        return math.nan
    return math.copysign(math.inf, dividend) * math.copysign(1, divisor)


def modulo(a: Json = None, b: Json = None) -> float | int:
    """`%` with the dividend's sign."""
    dividend, divisor = to_number(a), to_number(b)
    if not divisor or divisor != divisor or dividend - dividend != 0:
        return math.nan
    return dividend if math.isinf(divisor) else math.fmod(dividend, divisor)


def least(*values: Json) -> float | int:
    """`min`; NaN if any operand is none."""
    return _extreme(min, math.inf, values)


def greatest(*values: Json) -> float | int:
    """`max`; NaN if any operand is none."""
    return _extreme(max, -math.inf, values)


def _extreme(choose: Callable[[Iterable[Any]], Any], empty: float, values: Sequence[Json]) -> float | int:
    numbers = [to_number(value) for value in values]
    if not numbers:
        return empty
    chosen: float | int = math.nan if any(number != number for number in numbers) else choose(numbers)
    return chosen


def join(*values: Json) -> str:
    """`cat`, up to TEXT_RESULT_CHARS_MAX characters."""
    text = "".join(map(to_text, values))
    if len(text) > TEXT_RESULT_CHARS_MAX:
        raise Failure(
            ErrorCode.GENERAL, f"cat made {len(text)} characters, at most {TEXT_RESULT_CHARS_MAX} are allowed"
        )
    return text


def substring(source: Json = None, start: Json = None, *rest: Json) -> str:
    """`substr` of the source as text; a negative start or length counts from the end."""
    text = text_of(source)
    first = _whole(to_number(start))
    tail = text[max(len(text) + first, 0) if first < 0 else first :]
    if not rest:
        return tail
    length = to_number(rest[0])
    # Added before it is made whole, as JavaScript does: of 4 characters, -1.5 leaves 2.
    return tail[: max(_whole(len(tail) + length), 0)] if length < 0 else tail[: _whole(length)]


def _whole(number: float | int) -> int:
    return 0 if number != number else int(max(-1e9, min(1e9, number)))


def contains(needle: Json = None, haystack: Json = None) -> bool:
    """`in`: an element of a list, or a part of a text."""
    if isinstance(haystack, str):
        return bool(haystack) and text_of(needle) in haystack
    if isinstance(haystack, list):
        # Python's own search is fast and finds too much only where true equals 1 and one list equals another.
        return needle in haystack and any(compare.strict_equal(needle, item) for item in haystack)
    return False


def merge(*values: Json) -> list[Json]:
    """`merge`: lists joined into one, up to LIST_ITEMS_MAX items."""
    merged: list[Json] = []
    for value in values:
        merged.extend(value) if isinstance(value, list) else merged.append(value)
        if len(merged) > LIST_ITEMS_MAX:
            raise Failure(ErrorCode.GENERAL, f"merge made a list of more than {LIST_ITEMS_MAX} items")
    return merged


def starts_with(*values: Json) -> bool | None:
    """Whether a text starts with another; null for anything but two texts."""
    match values:
        case (str() as text, str() as start):
            return text.startswith(start)
    return None


def ends_with(*values: Json) -> bool | None:
    """Whether a text ends with another; null for anything but two texts."""
    match values:
        case (str() as text, str() as end):
            return text.endswith(end)
    return None


_ORDERS: Final[dict[str, Callable[[Version, Version], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "^": lambda a, b: a[0] == b[0],
    "~": lambda a, b: a[:2] == b[:2],
}


def semantic_version(*values: Json) -> bool | None:
    """`sem_ver` [value, operator, target]; null for a version or operator that is none.

    `^` is the same major and `~` the same major and minor version, as in every flagd engine: not npm's ranges.
    """
    if len(values) != 3:
        return None
    order = version_order(values[1])
    version, target = parse_version(values[0]), parse_version(values[2])
    if order is None or version is None or target is None:
        return None
    return order(version, target)


def version_order(name: Json) -> Callable[[Version, Version], bool] | None:
    """How an operator of `sem_ver` compares two versions; None for what is none."""
    return _ORDERS.get(name) if isinstance(name, str) else None


def parse_version(value: Json) -> Version | None:
    """A version that compares in SemVer's order: `1` and `1.2` are padded, a leading v and build metadata dropped."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return _parse_version(text_of(value))


@lru_cache(maxsize=4096)
def _parse_version(text: str) -> Version | None:
    match = _VERSION.fullmatch(text) if len(text) <= VERSION_CHARS_MAX else None
    if match is None:
        return None
    major, minor, patch, pre_release = match.groups()
    parts = pre_release.split(".") if pre_release else []
    if any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in parts):
        return None
    # A release sorts after all its pre-releases; numeric identifiers sort before textual ones.
    order = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts) or ((2, 0, ""),)
    return int(major), int(minor or 0), int(patch or 0), order


def unit_hash(unit: Json, data: Json, key: str, typed: bool) -> int | None:
    """Hash for `fractional` with an explicit first argument; None when the unit cannot be bucketed.

    v2 takes texts only and treats null as if it were not written; v3 (typed) takes any value but null and lists.
    """
    if typed:
        return None if unit is None or isinstance(unit, list) else hash32(canonical_cbor(unit))
    if unit is None:
        return shorthand_hash(data, key, typed)
    return hash32(unit.encode()) if isinstance(unit, str) else None


def shorthand_hash(data: Json, key: str, typed: bool) -> int | None:
    """Hash for `fractional` without a first argument: flag key and targeting key; None without the latter."""
    unit = follow(data, ("targetingKey",))
    if not isinstance(unit, str) or not unit:
        return None
    return hash32(canonical_cbor([key, unit])) if typed else hash32((key + unit).encode())


def pick(hashed: int | None, arms: Arms) -> Json:
    """`fractional` whose weights are computed; null when they are not weights."""
    if hashed is None:
        return None
    weights = [weight_of(weight()) for _, weight in arms]
    checked = [weight for weight in weights if weight is not None]
    total = sum(checked)
    if len(checked) < len(weights) or not 0 < total <= WEIGHT_SUM_MAX:
        return None
    for (variant, _), limit in zip(arms, hash_limits(tuple(checked)), strict=True):
        if hashed < limit:
            return variant()
    raise AssertionError(f"a hash of {hashed} is beyond {HASH_SPACE}")


def weight_of(value: Json) -> int | None:
    """A weight as `fractional` takes it: whole, at most WEIGHT_SUM_MAX, a negative one counts as 0."""
    if type(value) is int and 0 <= value <= WEIGHT_SUM_MAX:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    if value > WEIGHT_SUM_MAX or value != math.floor(max(value, -1e300)):
        return None
    return max(0, int(max(value, -1.0)))


class Steps:
    """What is left of one evaluation's EVALUATION_STEPS_MAX; made anew for each evaluation that loops."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = EVALUATION_STEPS_MAX

    def take(self, items: Json, nodes: int) -> list[Json]:
        """The items to loop over, paid for in advance; nothing when it is not a list."""
        if not isinstance(items, list):
            return []
        self.left -= len(items) * nodes
        if self.left < 0:
            raise Failure(ErrorCode.GENERAL, f"the rule's loops visit more than {EVALUATION_STEPS_MAX} nodes")
        return items


Body: TypeAlias = Callable[[Json], Json]


def loop_map(steps: Steps, nodes: int, items: Json, body: Body) -> Json:
    """`map`."""
    return [body(item) for item in steps.take(items, nodes)]


def loop_filter(steps: Steps, nodes: int, items: Json, body: Body) -> Json:
    """`filter`."""
    return [item for item in steps.take(items, nodes) if truthy(body(item))]


def loop_all(steps: Steps, nodes: int, items: Json, body: Body) -> Json:
    """`all`: false for an empty list."""
    taken = steps.take(items, nodes)
    return bool(taken) and all(truthy(body(item)) for item in taken)


def loop_some(steps: Steps, nodes: int, items: Json, body: Body) -> Json:
    """`some`."""
    return any(truthy(body(item)) for item in steps.take(items, nodes))


def loop_none(steps: Steps, nodes: int, items: Json, body: Body) -> Json:
    """`none`: true for an empty list."""
    return not loop_some(steps, nodes, items, body)


def loop_reduce(steps: Steps, nodes: int, items: Json, body: Body, initial: Json = None) -> Json:
    """`reduce`: the body sees `current` and `accumulator`; what is not a list leaves the initial value."""
    result = initial
    for item in steps.take(items, nodes):
        result = body({"current": item, "accumulator": result})
    return result
