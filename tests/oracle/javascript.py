"""Convert and compare JSON values exactly as ECMAScript does, for the reference interpreter.

Values are those of `to_javascript`: every number is a float, as in JavaScript. Texts are ordered by
UTF-16 code unit; by our decision they are counted and cut by character, so none is ever cut in half.
`UNDEFINED` is what a missing argument or attribute is.
"""

import math
import re
from enum import Enum
from typing import Any, Final


class Undefined(Enum):
    """JavaScript's `undefined`, apart from null."""

    UNDEFINED = "undefined"


UNDEFINED: Final = Undefined.UNDEFINED

WHITESPACE: Final = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
DECIMAL: Final = re.compile(r"[+-]?(?:Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
PREFIXED: Final = {"0x": (16, "0123456789abcdef"), "0o": (8, "01234567"), "0b": (2, "01")}


def to_javascript(value: Any) -> Any:
    """Read a Python JSON value as JSON.parse would have: numbers become doubles."""
    if isinstance(value, bool) or value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return _double(value)
    if isinstance(value, list | tuple):
        return [to_javascript(item) for item in value]
    return {key: to_javascript(item) for key, item in value.items()}


def to_json(value: Any) -> Any:
    """Write a value as JSON.stringify would: what JSON cannot hold is null; whole numbers are ints."""
    if value is UNDEFINED:
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def truthy(value: Any) -> bool:
    """JsonLogic's truth: JavaScript's, but the empty array is false."""
    if isinstance(value, bool):
        return value
    if value is None or value is UNDEFINED:
        return False
    if isinstance(value, float):
        return not (value == 0 or math.isnan(value))
    if isinstance(value, str | list):
        return len(value) > 0
    return True


def to_number(value: Any) -> float:
    """The abstract operation ToNumber."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if isinstance(value, float):
        return value
    if value is None:
        return 0.0
    if value is UNDEFINED:
        return math.nan
    if isinstance(value, str):
        return _number_of_text(value)
    return _number_of_text(to_text(value))


def parse_float(value: Any) -> float:
    """The global function parseFloat: the longest number at the start of the text."""
    match = DECIMAL.match(to_text(value).lstrip(WHITESPACE))
    return _decimal(match.group()) if match else math.nan


def to_text(value: Any) -> str:
    """The abstract operation ToString; an array joins its items with commas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if value is UNDEFINED:
        return "undefined"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, list):
        return join(value, ",")
    if isinstance(value, dict):
        return "[object Object]"
    assert isinstance(value, str)
    return value


def join(items: list[Any], separator: str) -> str:
    """Array.prototype.join: null and undefined are empty."""
    return separator.join("" if item is None or item is UNDEFINED else to_text(item) for item in items)


def number_text(number: float) -> str:
    """The abstract operation Number::toString for base 10."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.digits * 10**point.
    point = len(whole) + int(exponent or "0") - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + digits[0] + ("." + digits[1:] if count > 1 else "") + power


def strict_equal(left: Any, right: Any) -> bool:
    """`===`: equal type and value; arrays and objects only when they are the same one."""
    if isinstance(left, list | dict) or isinstance(right, list | dict):
        return left is right
    return type(left) is type(right) and bool(left == right)


def loose_equal(left: Any, right: Any) -> bool:
    """`==`: the abstract operation IsLooselyEqual."""
    if left is None or left is UNDEFINED:
        return right is None or right is UNDEFINED
    if right is None or right is UNDEFINED:
        return False
    if _kind(left) == _kind(right):
        return strict_equal(left, right)
    if isinstance(left, bool):
        return loose_equal(to_number(left), right)
    if isinstance(right, bool):
        return loose_equal(left, to_number(right))
    if isinstance(left, list | dict):
        return loose_equal(to_text(left), right)
    if isinstance(right, list | dict):
        return loose_equal(left, to_text(right))
    return to_number(left) == to_number(right)


def less(left: Any, right: Any) -> bool:
    """`<`: texts by code unit, everything else as numbers; nothing is less than NaN."""
    left, right = _primitive(left), _primitive(right)
    if isinstance(left, str) and isinstance(right, str):
        return code_units(left) < code_units(right)
    return to_number(left) < to_number(right)


def less_equal(left: Any, right: Any) -> bool:
    """`<=`: texts by code unit, everything else as numbers."""
    left, right = _primitive(left), _primitive(right)
    if isinstance(left, str) and isinstance(right, str):
        return code_units(left) <= code_units(right)
    return to_number(left) <= to_number(right)


def remainder(left: float, right: float) -> float:
    """`%`: the sign is the dividend's."""
    if math.isnan(left) or math.isnan(right) or math.isinf(left) or right == 0:
        return math.nan
    return math.fmod(left, right)


def quotient(left: float, right: float) -> float:
    """`/`: division by zero is infinite, or not a number."""
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def extreme(numbers: list[float], *, smallest: bool) -> float:
    """Math.min or Math.max: NaN wins, -0 is below 0, of nothing it is infinite."""
    if any(math.isnan(number) for number in numbers):
        return math.nan
    if not numbers:
        return math.inf if smallest else -math.inf
    ordered = sorted(numbers, key=lambda number: (number, math.copysign(1.0, number)))
    return ordered[0] if smallest else ordered[-1]


def whole_number(number: float) -> float:
    """The abstract operation ToIntegerOrInfinity."""
    if math.isnan(number):
        return 0.0
    return number if math.isinf(number) else float(math.trunc(number))


def substring(text: str, start: Any, length: Any) -> str:
    """String.prototype.substr; positions count characters."""
    size = len(text)
    begin = whole_number(to_number(start))
    begin = max(size + begin, 0) if begin < 0 else min(begin, size)
    wanted = float(size) if length is UNDEFINED else whole_number(to_number(length))
    end = min(begin + max(wanted, 0), size)
    return text[int(begin) : int(end)]


def code_units(text: str) -> list[int]:
    """The text's UTF-16 code units."""
    data = text.encode("utf-16-be", "surrogatepass")
    return [data[index] << 8 | data[index + 1] for index in range(0, len(data), 2)]


def member(container: Any, name: str) -> Any:
    """`container[name]` for own properties of JSON values; what is inherited (`toString`) is undefined."""
    if isinstance(container, dict):
        return container.get(name, UNDEFINED)
    if isinstance(container, str):
        units: list[Any] = list(container)
    elif isinstance(container, list):
        units = container
    else:
        return UNDEFINED
    if name == "length":
        return float(len(units))
    matching = [unit for index, unit in enumerate(units) if str(index) == name]
    return matching[0] if matching else UNDEFINED


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, list | dict):
        return "object"
    return type(value).__name__


def _primitive(value: Any) -> Any:
    return to_text(value) if isinstance(value, list | dict) else value


def _number_of_text(text: str) -> float:
    trimmed = text.strip(WHITESPACE)
    if not trimmed:
        return 0.0
    base, digits = PREFIXED.get(trimmed[:2].lower(), (0, ""))
    if base:
        rest = trimmed[2:].lower()
        return _double(int(rest, base)) if rest and all(digit in digits for digit in rest) else math.nan
    return _decimal(trimmed) if DECIMAL.fullmatch(trimmed) else math.nan


def _decimal(text: str) -> float:
    return float(text.replace("Infinity", "inf"))


def _double(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
