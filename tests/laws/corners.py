"""Name every corner where openfeature-flagd-core 2.0.0 is known to leave JavaScript's JsonLogic, and find it in a run.

Each corner is a row of server/decisions/0002-jsonlogic-corners.md. A test looks at one operator with the values
that it was given, so a rule is only set apart when it truly reaches the corner.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from server.core.segments import Segment
from tests.oracle import javascript as js
from tests.oracle.interpreter import Interpreter, lookup

Test = Callable[[str, list[Any], Any], bool]

EQUALITY: Final = ("==", "!=")
STRICT: Final = ("===", "!==")
ORDER: Final = ("<", "<=", ">", ">=")
ARITHMETIC: Final = ("+", "-", "*", "/", "%", "min", "max")
TEXTS: Final = ("cat", "substr", "in", *EQUALITY, *ORDER)
DECIMAL: Final = re.compile(r" *[+-]?[0-9]+(\.[0-9]+)? *")


def is_object(value: Any) -> bool:
    """An array or an object."""
    return isinstance(value, list | dict)


def plain_number(value: Any) -> bool:
    """A number, or a text that Python's float and JavaScript read alike."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and DECIMAL.fullmatch(value) is not None


def plain_text(value: Any) -> bool:
    """A value that both write alike: no null or boolean, no number with a long or exponential form."""
    if isinstance(value, list):
        return all(plain_text(item) for item in value)
    if isinstance(value, float):
        return value == 0 or (1e-4 <= abs(value) < 1e15 and float(f"{value:.15g}") == value)
    return isinstance(value, str | dict)


def null_equals_zero(operator: str, values: list[Any], _data: Any) -> bool:
    """Null equals 0 and false in flagd-core."""
    return operator in EQUALITY and sum(value is None for value in values) == 1


def text_as_number(operator: str, values: list[Any], _data: Any) -> bool:
    """Blank, hexadecimal and other texts are read by Python's float."""
    texts = [value for value in values if isinstance(value, str)]
    numeric = any(isinstance(value, float | bool) for value in values)
    return operator in (*EQUALITY, *ORDER) and numeric and not all(map(plain_number, texts))


def array_as_number(operator: str, values: list[Any], _data: Any) -> bool:
    """Arrays and objects are numbers first, and write null as a word."""
    return operator in (*EQUALITY, *ORDER) and any(map(is_object, values))


def null_as_text_in_order(operator: str, values: list[Any], _data: Any) -> bool:
    """Beside a text, null is the text `null`."""
    return operator in ORDER and None in values and any(isinstance(value, str) for value in values)


def between_null(operator: str, values: list[Any], _data: Any) -> bool:
    """A third operand of null counts as not given."""
    return operator in ORDER and len(values) > 2 and values[2] is None


def strict_by_content(operator: str, values: list[Any], _data: Any) -> bool:
    """Arrays are equal by content, and true is 1."""
    return operator in STRICT and (
        all(map(is_object, values))
        or (any(isinstance(v, bool) for v in values) and any(type(v) is float for v in values))
    )


def member_by_content(operator: str, values: list[Any], _data: Any) -> bool:
    """`in` finds by content, and true in [1]."""
    if operator != "in" or not isinstance(values[1], list):
        return False
    return any(strict_by_content("===", [values[0], item], None) for item in values[1])


def empty_in_empty(operator: str, values: list[Any], _data: Any) -> bool:
    """The empty text is part of the empty text."""
    return operator == "in" and values[1] == "" and js.to_text(values[0]) == ""


def written_otherwise(operator: str, values: list[Any], _data: Any) -> bool:
    """Null, booleans and long numbers become other texts."""
    if operator == "in":
        return isinstance(values[1], str) and values[0] is not None and not plain_text(values[0])
    if operator == "substr":
        return values[0] is not None and not plain_text(values[0])
    return operator == "cat" and not all(map(plain_text, values))


def odd_operand(operator: str, values: list[Any], _data: Any) -> bool:
    """Arithmetic on anything but numbers and decimal texts."""
    return operator in ARITHMETIC and not all(map(plain_number, values))


def zero_divisor(operator: str, values: list[Any], _data: Any) -> bool:
    """Division by zero raises."""
    return operator in ("/", "%") and js.to_number(values[1]) == 0


def remainder_sign(operator: str, values: list[Any], _data: Any) -> bool:
    """`%` has the divisor's sign."""
    return operator == "%" and js.to_number(values[0]) * js.to_number(values[1]) < 0


def substring_position(operator: str, values: list[Any], _data: Any) -> bool:
    """Positions that are not whole numbers; a null length is no length."""
    return operator == "substr" and not all(isinstance(value, float) and value.is_integer() for value in values[1:])


def default_for_null(operator: str, values: list[Any], data: Any) -> bool:
    """`var` gives its default also for what is null."""
    return operator == "var" and len(values) > 1 and lookup(data, values[0]) is None


def more_defaults(operator: str, values: list[Any], _data: Any) -> bool:
    """`var` with three operands raises, though the schema allows it."""
    return operator == "var" and len(values) > 2


def number_as_name(operator: str, values: list[Any], _data: Any) -> bool:
    """A number finds no attribute."""
    return operator == "var" and bool(values) and isinstance(values[0], float | bool)


def shorthand_inside_loop(operator: str, _values: list[Any], data: Any) -> bool:
    """`fractional` reads the flag's key from the item."""
    return operator == "fractional" and not (isinstance(data, dict) and "$flagd" in data)


def float_weight(operator: str, values: list[Any], _data: Any) -> bool:
    """A weight must be a Python int."""
    return operator == "weight" and isinstance(values[0], float) and values[0].is_integer()


def array_as_arm(operator: str, values: list[Any], _data: Any) -> bool:
    """A bucketing value that turns out to be an array is taken for an arm."""
    return operator == "bucketing" and isinstance(values[0], list)


def partial_pre_release(operator: str, values: list[Any], _data: Any) -> bool:
    """Partial versions may have pre-releases and build metadata."""
    texts = [value for value in values[::2] if isinstance(value, str)]
    return operator == "sem_ver" and any(
        text.split("+")[0].split("-")[0].count(".") < 2 and ("-" in text or "+" in text) for text in texts
    )


def initial_rule(operator: str, values: list[Any], _data: Any) -> bool:
    """The initial value of `reduce` is not evaluated."""
    return operator == "initial" and is_object(values[0])


CORNERS: Final[Mapping[str, Test]] = {
    "null-equals-zero": null_equals_zero,
    "text-as-number": text_as_number,
    "array-as-operand-of-a-comparison": array_as_number,
    "null-as-text-in-an-order": null_as_text_in_order,
    "between-null": between_null,
    "strict-by-content": strict_by_content,
    "member-by-content": member_by_content,
    "empty-in-empty": empty_in_empty,
    "written-otherwise": written_otherwise,
    "odd-operand": odd_operand,
    "zero-divisor": zero_divisor,
    "remainder-sign": remainder_sign,
    "substring-position": substring_position,
    "default-for-null": default_for_null,
    "number-as-name": number_as_name,
    "var-with-more-operands": more_defaults,
    "fractional-inside-a-loop": shorthand_inside_loop,
    "weight-written-as-a-float": float_weight,
    "array-as-arm": array_as_arm,
    "partial-pre-release": partial_pre_release,
    "initial-value-is-a-rule": initial_rule,
}
"""By the name that stands in the decision record."""


class Observer(Interpreter):
    """An interpreter that notes the corners it comes through."""

    def __init__(
        self, context: dict[str, Any], *, flag_key: str, bucketing: str, segments: Mapping[str, Segment]
    ) -> None:
        super().__init__(context, flag_key=flag_key, bucketing=bucketing, segments=segments)
        self.reached: set[str] = set()

    def note(self, operator: str, values: list[Any], data: Any) -> None:
        """Remember the corners of one operator."""
        self.reached |= {name for name, test in CORNERS.items() if test(operator, values, data)}

    def operate(self, operator: str, values: list[Any], data: Any) -> Any:
        """Look, then apply."""
        self.note(operator, values, data)
        return super().operate(operator, values, data)

    def fractional(self, operands: list[Any], data: Any) -> Any:
        """Look at every arm, as an interpreter that evaluates all operands does."""
        self.note("fractional", [], data)
        for arm in operands:
            self.apply(arm, data)
        return super().fractional(operands, data)

    def weight(self, logic: Any, data: Any) -> int | None:
        """Look at computed weights."""
        if isinstance(logic, list | dict):
            self.note("weight", [self.apply(logic, data)], data)
        return super().weight(logic, data)

    def bucketing_value(self, value: Any, data: Any) -> bytes | None:
        """Look at what is hashed."""
        self.note("bucketing", [value], data)
        return super().bucketing_value(value, data)

    def reduce(self, operands: list[Any], data: Any) -> Any:
        """Look at the initial value."""
        self.note("initial", operands[2:3], data)
        return super().reduce(operands, data)
