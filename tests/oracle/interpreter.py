"""Walk a JsonLogic rule node by node, as json-logic-js does, with flagd's operators."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import mmh3

from server.core.flags import TARGETING_KEY
from server.core.limits import WEIGHT_SUM_MAX
from server.core.segments import Segment
from tests.oracle import javascript as js
from tests.oracle.canonical import canonical_cbor
from tests.oracle.javascript import UNDEFINED
from tests.oracle.versions import compare_versions


class RuleFailure(Exception):
    """A rule that cannot be evaluated, with OpenFeature's error code."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")


class Interpreter:
    """One flag in one context: `apply` walks a rule as json-logic-js does."""

    def __init__(
        self, context: dict[str, Any], *, flag_key: str, bucketing: str, segments: Mapping[str, Segment]
    ) -> None:
        self.context = context
        self.flag_key = flag_key
        self.bucketing = bucketing
        self.segments = segments

    def apply(self, logic: Any, data: Any) -> Any:
        """Evaluate a rule, or give back a value that is none."""
        if isinstance(logic, list):
            return [self.apply(item, data) for item in logic]
        if not isinstance(logic, dict) or len(logic) != 1:
            return logic
        ((operator, operands),) = logic.items()
        if operator == "$ref":
            return self.reference(operands, data)
        operands = operands if isinstance(operands, list) else [operands]
        if operator in LAZY:
            return getattr(self, LAZY[operator])(operands, data)
        return self.operate(operator, [self.apply(operand, data) for operand in operands], data)

    def operate(self, operator: str, values: list[Any], data: Any) -> Any:
        """Apply an operator to values."""
        if operator in EAGER:
            return EAGER[operator](values)
        if operator in READING:
            return READING[operator](self, values, data)
        raise RuleFailure("PARSE_ERROR", f"unknown operator {operator!r}")

    def reference(self, name: Any, data: Any) -> Any:
        """A segment, evaluated as if its condition stood here."""
        segment = self.segments.get(name) if isinstance(name, str) else None
        if segment is None:
            raise RuleFailure("PARSE_ERROR", f"unknown segment {name!r}")
        if segment.keys is not None:
            return lookup(data, segment.key_attribute) in segment.keys
        return self.apply(js.to_javascript(segment.condition), data)

    def when(self, operands: list[Any], data: Any) -> Any:
        """`if`: condition and consequence in pairs, then the rest."""
        for index in range(0, len(operands) - 1, 2):
            if js.truthy(self.apply(operands[index], data)):
                return self.apply(operands[index + 1], data)
        return self.apply(operands[-1], data) if len(operands) % 2 else None

    def conjunction(self, operands: list[Any], data: Any) -> Any:
        """`and`: the first false operand, or the last one."""
        current: Any = UNDEFINED
        for each in operands:
            current = self.apply(each, data)
            if not js.truthy(current):
                return current
        return current

    def disjunction(self, operands: list[Any], data: Any) -> Any:
        """`or`: the first true operand, or the last one."""
        current: Any = UNDEFINED
        for each in operands:
            current = self.apply(each, data)
            if js.truthy(current):
                return current
        return current

    def items(self, operands: list[Any], data: Any) -> list[Any] | None:
        """The array that an array operator walks; None when it is something else."""
        found = self.apply(operand(operands, 0), data)
        return found if isinstance(found, list) else None

    def map(self, operands: list[Any], data: Any) -> Any:
        """`map`: each item's result."""
        return [self.apply(operand(operands, 1), item) for item in self.items(operands, data) or []]

    def filter(self, operands: list[Any], data: Any) -> Any:
        """`filter`: the items that pass."""
        return [item for item in self.items(operands, data) or [] if self.passes(operands, item)]

    def every(self, operands: list[Any], data: Any) -> bool:
        """`all`: false for no items."""
        items = self.items(operands, data)
        return bool(items) and all(self.passes(operands, item) for item in items or [])

    def some(self, operands: list[Any], data: Any) -> bool:
        """`some`: whether one item passes."""
        return any(self.passes(operands, item) for item in self.items(operands, data) or [])

    def none(self, operands: list[Any], data: Any) -> bool:
        """`none`: whether no item passes."""
        return not self.some(operands, data)

    def passes(self, operands: list[Any], item: Any) -> bool:
        """Whether an item makes the second operand true."""
        return js.truthy(self.apply(operand(operands, 1), item))

    def reduce(self, operands: list[Any], data: Any) -> Any:
        """`reduce`: the last accumulator; the rule sees `current` and `accumulator` only."""
        items = self.items(operands, data)
        initial = operand(operands, 2)
        accumulator = None if initial is UNDEFINED else self.apply(initial, data)
        for item in items or []:
            accumulator = self.apply(operand(operands, 1), {"current": item, "accumulator": accumulator})
        return accumulator

    def var(self, values: list[Any], data: Any) -> Any:
        """`var`: an attribute by its path, or a default."""
        found = lookup(data, operand(values, 0))
        if found is self.context:
            return dict(self.context)
        default = operand(values, 1)
        return (None if default is UNDEFINED else default) if found is UNDEFINED else found

    def missing(self, values: list[Any], data: Any) -> list[Any]:
        """`missing`: the names, as a list or as operands, whose attribute is absent, null or empty."""
        names = values[0] if values and isinstance(values[0], list) else values
        return [name for name in names if lookup(data, name) in (UNDEFINED, None, "")]

    def missing_some(self, values: list[Any], data: Any) -> Any:
        """`missing_some`: nothing when enough of the names are there."""
        options = operand(values, 1)
        if options is None or options is UNDEFINED:
            raise RuleFailure("PARSE_ERROR", "missing_some needs a list of names")
        absent = self.missing(options if isinstance(options, list) else [options], data)
        present = js.to_number(js.member(options, "length")) - len(absent)
        return [] if js.less_equal(operand(values, 0), present) else absent

    def fractional(self, operands: list[Any], data: Any) -> Any:
        """`fractional`: the variant whose range holds the hash of the bucketing value."""
        explicit = bool(operands) and not isinstance(operands[0], list)
        source = self.bucketing_value(self.apply(operands[0], data), data) if explicit else self.shorthand(data)
        arms = operands[explicit:]
        if source is None or not all(isinstance(arm, list) and len(arm) in (1, 2) for arm in arms):
            return None
        weights = [self.weight(arm[1], data) if len(arm) > 1 else 1 for arm in arms]
        sound = [weight for weight in weights if weight is not None]
        total = sum(sound)
        if len(sound) < len(weights) or not 0 < total <= WEIGHT_SUM_MAX:
            return None
        variants = [arm[0] for arm in arms]
        return self.apply(pick(list(zip(variants, sound, strict=True)), position(source, total)), data)

    def weight(self, logic: Any, data: Any) -> int | None:
        """A weight, at least 0; None when it is no whole number."""
        weight = self.apply(logic, data)
        return max(0, int(weight)) if isinstance(weight, float) and weight.is_integer() else None

    def bucketing_value(self, value: Any, data: Any) -> bytes | None:
        """What is hashed for an explicit value; None when it cannot be."""
        absent = value is None or value is UNDEFINED
        if self.bucketing == "v3":
            return None if absent or isinstance(value, list) else canonical_cbor(value)
        if absent:
            return self.shorthand(data)
        return utf8(value) if isinstance(value, str) else None

    def shorthand(self, data: Any) -> bytes | None:
        """What is hashed without an explicit value; None without a targeting key."""
        key = self.targeting_key(data)
        if not key:
            return None
        return canonical_cbor([self.flag_key, key]) if self.bucketing == "v3" else utf8(self.flag_key + key)

    def targeting_key(self, data: Any) -> str:
        """The unit of the shorthand form; "" when there is no text."""
        key = js.member(data, TARGETING_KEY) if isinstance(data, dict) else None
        return key if isinstance(key, str) else ""


def operand(operands: list[Any], index: int) -> Any:
    """An operand by position; undefined when it was not given."""
    return operands[index] if index < len(operands) else UNDEFINED


def lookup(data: Any, path: Any) -> Any:
    """The attribute at a path of names joined by dots; all of the data for an empty path."""
    if path is None or path is UNDEFINED or path == "":
        return data
    for name in js.to_text(path).split("."):
        data = js.member(data, name)
    return data


def position(source: bytes, total: int) -> int:
    """The place of these bytes in 0..total-1."""
    return (mmh3.hash(source, seed=0, signed=False) * total) >> 32


def pick(arms: list[tuple[Any, int]], place: int) -> Any:
    """The variant of the first arm whose range ends beyond the place."""
    end = 0
    for variant, weight in arms:
        end += weight
        if place < end:
            return variant
    raise AssertionError("the place is beyond all arms")


def utf8(text: str) -> bytes:
    """The text's bytes; half of a surrogate pair is U+FFFD."""
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace").encode()


def ordered(values: list[Any], test: Callable[[Any, Any], bool]) -> bool:
    """`<` and `<=`, between two values or of three in a row."""
    left, middle, right = (operand(values, index) for index in range(3))
    return test(left, middle) and (right is UNDEFINED or test(middle, right))


def total(values: list[Any]) -> float:
    """`+`: of one value it reads a number."""
    result = 0.0
    for value in values:
        result += js.parse_float(value)
    return result


def product(values: list[Any]) -> Any:
    """`*`: a reduction without a start, so one operand comes back as it is."""
    if not values:
        raise RuleFailure("PARSE_ERROR", "* needs an operand")
    result = values[0]
    for value in values[1:]:
        result = js.parse_float(result) * js.parse_float(value)
    return result


def difference(values: list[Any]) -> float:
    """`-`: of one value its negative."""
    first, second = js.to_number(operand(values, 0)), operand(values, 1)
    return -first if second is UNDEFINED else first - js.to_number(second)


def contains(values: list[Any]) -> bool:
    """`in`: a part of a text, or an item of an array."""
    needle, hay = operand(values, 0), operand(values, 1)
    if isinstance(hay, str):
        return hay != "" and js.to_text(needle) in hay
    return isinstance(hay, list) and any(js.strict_equal(needle, item) for item in hay)


def cut(values: list[Any]) -> str:
    """`substr`: a negative third operand counts from the end, as in PHP."""
    source, start, end = js.to_text(operand(values, 0)), operand(values, 1), operand(values, 2)
    if not js.less(end, 0.0):
        return js.substring(source, start, end)
    rest = js.substring(source, start, UNDEFINED)
    return js.substring(rest, 0.0, len(rest) + js.to_number(end))


def flatten(values: list[Any]) -> list[Any]:
    """`merge`: arrays are joined, everything else is an item."""
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def affix(values: list[Any], test: Callable[[str, str], bool]) -> bool | None:
    """`starts_with` and `ends_with`: null for anything but two texts."""
    if len(values) != 2 or not all(isinstance(value, str) for value in values):
        return None
    return test(values[0], values[1])


def versions(values: list[Any]) -> bool | None:
    """`sem_ver`: null for anything but version, operator, version."""
    if len(values) != 3 or not isinstance(values[1], str):
        return None
    left, right = version_text(values[0]), version_text(values[2])
    return None if left is None or right is None else compare_versions(left, values[1], right)


def version_text(value: Any) -> str | None:
    """A version as text: numbers are written first."""
    number = isinstance(value, float)
    return js.to_text(value) if number or isinstance(value, str) else None


LAZY: Final[Mapping[str, str]] = {
    "if": "when",
    "and": "conjunction",
    "or": "disjunction",
    "map": "map",
    "filter": "filter",
    "all": "every",
    "some": "some",
    "none": "none",
    "reduce": "reduce",
    "fractional": "fractional",
}
"""The methods of operators that evaluate their operands themselves."""

READING: Final[Mapping[str, Callable[[Interpreter, list[Any], Any], Any]]] = {
    "var": Interpreter.var,
    "missing": Interpreter.missing,
    "missing_some": Interpreter.missing_some,
}

EAGER: Final[Mapping[str, Callable[[list[Any]], Any]]] = {
    "==": lambda v: js.loose_equal(operand(v, 0), operand(v, 1)),
    "!=": lambda v: not js.loose_equal(operand(v, 0), operand(v, 1)),
    "===": lambda v: js.strict_equal(operand(v, 0), operand(v, 1)),
    "!==": lambda v: not js.strict_equal(operand(v, 0), operand(v, 1)),
    "<": lambda v: ordered(v, js.less),
    "<=": lambda v: ordered(v, js.less_equal),
    ">": lambda v: js.less(operand(v, 1), operand(v, 0)),
    ">=": lambda v: js.less_equal(operand(v, 1), operand(v, 0)),
    "!": lambda v: not js.truthy(operand(v, 0)),
    "!!": lambda v: js.truthy(operand(v, 0)),
    "+": total,
    "-": difference,
    "*": product,
    "/": lambda v: js.quotient(js.to_number(operand(v, 0)), js.to_number(operand(v, 1))),
    "%": lambda v: js.remainder(js.to_number(operand(v, 0)), js.to_number(operand(v, 1))),
    "min": lambda v: js.extreme([js.to_number(value) for value in v], smallest=True),
    "max": lambda v: js.extreme([js.to_number(value) for value in v], smallest=False),
    "in": contains,
    "cat": lambda v: js.join(v, ""),
    "substr": cut,
    "merge": flatten,
    "starts_with": lambda v: affix(v, str.startswith),
    "ends_with": lambda v: affix(v, str.endswith),
    "sem_ver": versions,
}
