"""Compare and convert values by JsonLogic's rules, which are those of JavaScript.

Values are JSON's: None, bool, int, float, str, list, dict. Whole numbers may arrive as int or float and are the
same number either way; beyond 2**53 they count as the nearest double, as they do for every other engine.
Source: json-logic-js 2.0 and ECMAScript's abstract operations; corners in server/decisions/0002-jsonlogic-corners.md.
"""

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from server.core.evaluation.failure import Failure
from server.core.json import Json
from server.core.limits import LIST_TEXT_ITEMS_MAX
from server.core.resolution import ErrorCode

EXACT_INTEGER_MAX: Final = 2**53
NUMERIC_TEXT_CHARS_MAX: Final = 400
"""Longer text is not a number: reading it would take longer than an evaluation may."""

NUMBERS: Final = frozenset({int, float, bool})
"""Classes whose ordering and equality with a number Python and JavaScript agree on."""

NOT_NUMBERS: Final = frozenset({str, list, dict})
NOT_TEXT: Final = frozenset({int, float, bool, list, dict})

_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_RADIX: Final = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")
_BLANK: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)


def truthy(value: Json) -> bool:
    """Whether a condition holds: not for null, false, 0, NaN, "" and []; "0" and {} do."""
    if value.__class__ is dict:
        return True
    return bool(value) and value == value  # NaN is not itself.


def loose_equal(a: Json, b: Json) -> bool:
    """`==`: null equals only null; otherwise differing types are compared as numbers or texts."""
    if a is None or b is None:
        return a is b
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    if isinstance(a, list | dict) and isinstance(b, list | dict):
        return a is b
    if isinstance(a, list | dict) and isinstance(b, str):
        return to_text(a) == b
    if isinstance(b, list | dict) and isinstance(a, str):
        return a == to_text(b)
    return to_number(a) == to_number(b)


def strict_equal(a: Json, b: Json) -> bool:
    """`===`: the same type and value; lists and objects are equal only to themselves."""
    if isinstance(a, list | dict) or isinstance(b, list | dict):
        return a is b
    if a is None or b is None or isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    return as_double(a) == as_double(b)


def less(a: Json, b: Json) -> bool:
    """`<`: two texts by their UTF-16 code units, everything else as numbers; false with NaN."""
    a, b = _primitives(a, b)
    if isinstance(a, str) and isinstance(b, str):
        return a < b if a.isascii() and b.isascii() else _utf16(a) < _utf16(b)
    return to_number(a) < to_number(b)


def less_equal(a: Json, b: Json) -> bool:
    """`<=`, likewise."""
    a, b = _primitives(a, b)
    if isinstance(a, str) and isinstance(b, str):
        return a <= b if a.isascii() and b.isascii() else _utf16(a) <= _utf16(b)
    return to_number(a) <= to_number(b)


def greater(a: Json, b: Json) -> bool:
    """`>`, likewise."""
    return less(b, a)


def greater_equal(a: Json, b: Json) -> bool:
    """`>=`, likewise."""
    return less_equal(b, a)


def to_number(value: Json) -> float | int:
    """JavaScript's Number(): NaN for what is none; null and "" are 0."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return 1 if value else 0
    if isinstance(value, int | float):
        return as_double(value)
    if isinstance(value, str):
        return _read_number(value)
    if isinstance(value, list) and len(value) < 2:
        inner = value[0] if value else None
        return to_number(inner) if isinstance(inner, list) else _read_number(to_text(inner))
    # The text of two or more items has a comma, so it is no number, however long it takes to write.
    return math.nan


def parse_float(value: Json) -> float | int:
    """JavaScript's parseFloat(): the number at the start of the text, else NaN."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return as_double(value)
    text = _beginning(value)[:NUMERIC_TEXT_CHARS_MAX].lstrip(_BLANK)
    match = _DECIMAL.match(text)
    if match:
        return float(match.group())
    infinite = re.match(r"([+-]?)Infinity", text)
    if infinite:
        return -math.inf if infinite.group(1) == "-" else math.inf
    return math.nan


def _beginning(value: Json) -> str:
    """As much of a value's text as parseFloat can need: a list's first item, and the comma that ends the number."""
    if not isinstance(value, list) or not value:
        return text_of(value)
    return _beginning("" if value[0] is None else value[0]) + ("," if len(value) > 1 else "")


def as_double(value: float | int) -> float | int:
    """The number as a double holds it; ints stay ints where that loses nothing."""
    if isinstance(value, float) or -EXACT_INTEGER_MAX <= value <= EXACT_INTEGER_MAX:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def to_text(value: Json) -> str:
    """What `cat` joins: JavaScript's Array.join(), where null is the empty text."""
    return "" if value is None else text_of(value)


def text_of(value: Json) -> str:
    """JavaScript's String()."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):
        return ",".join(_item_texts(value, [LIST_TEXT_ITEMS_MAX]))
    return "[object Object]"


def _item_texts(items: list[Json], room: list[int]) -> Iterator[str]:
    """Texts of a list's items; `room` counts down over all the lists inside."""
    for item in items:
        room[0] -= 1
        if room[0] < 0:
            raise Failure(
                ErrorCode.GENERAL, f"a list of more than {LIST_TEXT_ITEMS_MAX} items cannot be used as a text"
            )
        yield ",".join(_item_texts(item, room)) if isinstance(item, list) else to_text(item)


@lru_cache(maxsize=4_096)
def number_text(value: float | int) -> str:
    """A number as JavaScript and JSON write it: 33333.0 is "33333", 1e21 is "1e+21", 1e-7 is "1e-7"."""
    value = as_double(value)
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return _shortest(value)


def _shortest(value: float) -> str:
    """Python's shortest digits, laid out by ECMAScript's Number::toString."""
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def _read_number(text: str) -> float | int:
    if len(text) > NUMERIC_TEXT_CHARS_MAX:
        return math.nan
    text = text.strip(_BLANK)
    if not text:
        return 0
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _RADIX.fullmatch(text):
        return as_double(int(text, 0))
    return {"Infinity": math.inf, "+Infinity": math.inf, "-Infinity": -math.inf}.get(text, math.nan)


def _primitives(a: Json, b: Json) -> tuple[Json, Json]:
    """Lists and objects as texts, where they are compared with a text; to be a number they need not be written out."""
    if isinstance(a, str | list | dict) and isinstance(b, str | list | dict):
        return text_of(a), text_of(b)
    return a, b


def _utf16(text: str) -> bytes:
    """A key that sorts like JavaScript: by code unit, which differs from code point beyond U+FFFF."""
    return text.encode("utf-16-be", "surrogatepass")
