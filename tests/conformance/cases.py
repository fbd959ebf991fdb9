"""Hold what one scenario gave and got, and read the words of a feature as values."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(slots=True)
class Case:
    """One scenario on its way."""

    bucketing: str
    server: str = ""
    type: str = ""
    key: str = ""
    default: Any = None
    options: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


CONVERTERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "Boolean": {"true": True, "false": False}.__getitem__,
    "String": str,
    "Integer": int,
    "Float": float,
    # The evaluator suite writes its quotation marks with a backslash.
    "Object": lambda text: json.loads(text.replace('\\"', '"')),
}


def converted(type_: str, text: str) -> Any:
    """Read the text of a feature as a value of the type that it names."""
    return CONVERTERS[type_](text)


def same(expected: Any, actual: Any) -> bool:
    """Whether two JSON values are one: 1 and 1.0 are, for JSON knows one kind of number; 1 and true are not."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return expected.keys() == actual.keys() and all(same(expected[key], actual[key]) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    return bool(expected == actual)
