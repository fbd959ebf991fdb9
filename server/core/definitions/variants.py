"""Read a flag's variants: their values, and the one type that all of them share."""

import json
from collections.abc import Mapping
from typing import Final

from server.core.definitions.fields import key_problem
from server.core.definitions.problems import Path, Problems, names, shown
from server.core.definitions.targeting import WHOLE_NUMBER_MAX, number_problem
from server.core.flags import ValueType
from server.core.json import Json
from server.core.limits import VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VARIANTS_MAX

_TYPES: Final[Mapping[type, ValueType]] = {
    bool: ValueType.BOOLEAN,
    str: ValueType.STRING,
    int: ValueType.INTEGER,
    float: ValueType.FLOAT,
    dict: ValueType.OBJECT,
}
_NUMBERS: Final = frozenset({ValueType.INTEGER, ValueType.FLOAT})
_ESCAPED_BYTES_MAX: Final = 6
"""Bytes that JSON needs for one character, at most."""

Variants = dict[str, Json]


def read_variants(
    data: Json,
    *,
    declared: ValueType | None,
    default: Json = None,
    path: Path,
    problems: Problems,
    lenient: bool = False,
) -> tuple[ValueType, Variants] | None:
    """Read variants of the declared type, or find their type out: whole numbers only -> integer, else float.

    Values are taken over, not copied. A lenient reader keeps values of other types beside those of the default
    variant, or of the first one when there is no default.
    """
    if type(data) is not dict:
        problems.error(path, "the flag has no variants" if data is None else f"expected an object, not {shown(data)}")
        return None
    if not 1 <= len(data) <= VARIANTS_MAX:
        problems.error(path, f"the flag has {len(data)} variants, expected 1 to {VARIANTS_MAX}")
        return None
    types = _check_values(data, path=path, problems=problems, lenient=lenient)
    if types is None:
        return None
    found = set(types.values())
    value_type = declared or _common_type(types, default)
    if found == {value_type}:
        return value_type, data
    if found <= _NUMBERS and value_type in _NUMBERS:
        return value_type, _numbers(data, value_type, path=path, problems=problems, lenient=lenient)
    _report_types(types, value_type, declared=declared is not None, path=path, problems=problems, lenient=lenient)
    return value_type, data


def _check_values(data: Variants, *, path: Path, problems: Problems, lenient: bool) -> dict[str, ValueType] | None:
    types: dict[str, ValueType] = {}
    for key, value in data.items():
        if problem := key_problem(key, "variant"):
            problems.error((path, key), problem)
        value_type = _TYPES.get(type(value))
        if value_type is None:
            problems.error((path, key), f"a variant is a boolean, text, number or object, not {shown(value)}")
        else:
            types[key] = value_type
            if value_type is not ValueType.BOOLEAN:
                check_value(value, path=(path, key), problems=problems, lenient=lenient)
    return types if len(types) == len(data) else None


def _common_type(types: Mapping[str, ValueType], default: Json) -> ValueType:
    if set(types.values()) == _NUMBERS:
        return ValueType.FLOAT
    first = next(iter(types.values()))
    return types.get(default, first) if isinstance(default, str) else first


def _numbers(data: Variants, value_type: ValueType, *, path: Path, problems: Problems, lenient: bool) -> Variants:
    numbers: Variants = dict(data)
    for key, value in data.items():
        if number_problem(value):
            continue  # Reported as a value.
        if value_type is ValueType.FLOAT:
            numbers[key] = float(value)
        elif isinstance(value, int):
            numbers[key] = value
        elif value.is_integer():
            # Written as 1e308, it was within the bounds of a float.
            numbers[key] = int(value)
            _check_number(int(value), path=(path, key), problems=problems, lenient=lenient)
        else:
            problems.error((path, key), f"{value} is not a whole number; the flag's type is integer")
    return numbers


def _report_types(
    types: Mapping[str, ValueType],
    value_type: ValueType,
    *,
    declared: bool,
    path: Path,
    problems: Problems,
    lenient: bool,
) -> None:
    if declared:
        for key, found in types.items():
            if found is not value_type and not {found, value_type} <= _NUMBERS:
                problems.warn((path, key), f"is {_named(found)}; the flag's type is {value_type}", lenient=lenient)
        return
    listed = names(f"{key} is {_named(found)}" for key, found in types.items())
    problems.warn(path, f"variants have values of different types: {listed}", lenient=lenient)


def _named(value_type: ValueType) -> str:
    return f"{'an' if value_type in (ValueType.INTEGER, ValueType.OBJECT) else 'a'} {value_type}"


def check_value(value: Json, *, path: Path, problems: Problems, lenient: bool = False) -> None:
    """Report a value that is too large, too deep, or not exact as JSON."""
    kind = type(value)
    if kind is dict:
        if _check_inside(value, path=path, problems=problems, lenient=lenient):
            _check_size(value, path=path, problems=problems)
    elif kind is str:
        if len(value) * _ESCAPED_BYTES_MAX + 2 > VALUE_BYTES_MAX:
            _check_size(value, path=path, problems=problems)
    elif kind is not bool:
        _check_number(value, path=path, problems=problems, lenient=lenient)


def _check_number(value: float | int, *, path: Path, problems: Problems, lenient: bool) -> None:
    if problem := number_problem(value):
        problems.error(path, problem)
    elif isinstance(value, int) and abs(value) > WHOLE_NUMBER_MAX:
        message = f"{value} is beyond {WHOLE_NUMBER_MAX}, where numbers are no longer exact for every client"
        problems.warn(path, message, lenient=lenient)


def _check_size(value: Json, *, path: Path, problems: Problems) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    byte_count = len(text.encode("utf-8", "surrogatepass"))
    if byte_count > VALUE_BYTES_MAX:
        problems.error(path, f"the value has {byte_count} bytes as JSON, at most {VALUE_BYTES_MAX} are allowed")


def _check_inside(value: Json, *, path: Path, problems: Problems, lenient: bool) -> bool:
    """Check what is inside an object; False when it is nested too deeply or holds what JSON cannot."""
    stack: list[tuple[Path, Json, int]] = [(path, value, 1)]
    while stack:
        at, node, depth = stack.pop()
        if isinstance(node, dict | list):
            if depth > VALUE_DEPTH_MAX:
                problems.error(at, f"the value is nested more than {VALUE_DEPTH_MAX} deep")
                return False
            items = node.items() if isinstance(node, dict) else enumerate(node)
            stack.extend(((at, key), item, depth + 1) for key, item in items)
        elif type(node) in (int, float):
            if number_problem(node):
                problems.error(at, number_problem(node))
                return False
            _check_number(node, path=at, problems=problems, lenient=lenient)
        elif node is not None and not isinstance(node, str | bool):
            problems.error(at, f"{type(node).__name__} is not a JSON value")
            return False
    return True
