"""Hold what one scenario gave and got, and read the words of a feature as values."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.conformance.processes import Driver


@dataclass(slots=True)
class Case:
    """One scenario on its way."""

    bucketing: str
    server: str = ""
    driver: Driver | None = None
    """The client, once it is connected; one that watches is connected from the start."""

    type: str = ""
    key: str = ""
    default: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    event: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> Driver:
        """The client that is connected. Errors: AssertionError when the scenario has connected none."""
        assert self.driver is not None, "the scenario names no provider before it asks one"
        return self.driver


CONVERTERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "Boolean": {"true": True, "false": False}.__getitem__,
    "String": str,
    "Integer": int,
    "Float": float,
    # The evaluator suite writes its quotation marks with a backslash.
    "Object": lambda text: json.loads(text.replace('\\"', '"')),
}


OPTION_CONVERTERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "Boolean": lambda text: text.lower() == "true",
    "String": lambda text: None if text == "null" else text,
    "Integer": int,
    "Long": int,
    "StringList": lambda text: [part.strip() for part in text.split(",") if part.strip()],
    "CacheType": str.lower,
    "ResolverType": str.lower,
}


def option(type_: str, text: str) -> Any:
    """Read the text of a feature as the value of a provider's option."""
    return OPTION_CONVERTERS[type_](text)


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
