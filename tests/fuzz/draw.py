"""Read structured values out of arbitrary bytes, so that a fuzzer's mutations become mutations of the structure."""

import struct
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from server.core.definitions.operators import ARITY
from server.core.json import Json
from tests.laws.odd import COMPOUNDS, PATHS, SCALARS

T = TypeVar("T")

OPERATORS: Final = (*ARITY, "$ref", "log", "", "fractional", "var", "if")
TEXTS: Final = (
    "",
    "on",
    "off",
    "true",
    "u1",
    ".",
    "..",
    "0",
    "-1",
    "9" * 400,
    "x" * 9_000,
    "é",
    "\ud800",
    "\U0001f600",
    "\0",
)
NUMBERS: Final = (
    0,
    -0.0,
    1,
    -1,
    1e308,
    5e-324,
    2**31,
    2**53 + 1,
    -(2**63),
    2**64,
    10**400,
    0.1,
    float("nan"),
    float("inf"),
)
ATTRIBUTES: Final = ("targetingKey", "x", "y", "z", "1", "", "$flagd", "email")
DEPTH_MAX: Final = 40
LIST_REPEATS: Final = (1, 3, 100, 1_100)
"""A value is written out that many times; once an input, for what is repeated again would grow without bound."""


class Draw:
    """Bytes that are used up from the front; when they are gone, every choice is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._may_repeat = True

    @property
    def is_empty(self) -> bool:
        """Whether all bytes are used up."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """The next byte, 0 at the end."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def one_of(self, choices: Sequence[T]) -> T:
        """One of up to 256 choices."""
        return choices[self.byte() % len(choices)]

    def text(self) -> str:
        """A text that was thought of, or up to 15 bytes as they are; not always Unicode."""
        kind = self.byte()
        if kind < 128:
            return TEXTS[kind % len(TEXTS)]
        return bytes(self.byte() for _ in range(kind % 16)).decode("utf-8", "surrogateescape")

    def number(self) -> float | int:
        """A number that was thought of, a small one, or any double."""
        kind = self.byte()
        if kind < 96:
            return NUMBERS[kind % len(NUMBERS)]
        if kind < 192:
            return kind - 144
        number: float = struct.unpack("<d", bytes(self.byte() for _ in range(8)))[0]
        return number

    def json(self, depth: int = 0) -> Json:
        """Any JSON value, and values that JSON does not have."""
        kind = self.byte() % 8
        if kind == 0 or self.is_empty or depth > DEPTH_MAX:
            return self.one_of(SCALARS)
        if kind == 1:
            return self.one_of(COMPOUNDS)
        if kind == 2:
            return self.text()
        if kind == 3:
            return self.number()
        if kind == 4:
            return self.one_of((None, True, False))
        if kind < 7:
            items = [self.json(depth + 1) for _ in range(self.byte() % 5)]
            return self._repeated(items) if len(items) == 1 else items
        return {self.text(): self.json(depth + 1) for _ in range(self.byte() % 5)}

    def rule(self, depth: int = 0) -> Json:
        """A rule: mostly of known operators with as many operands as they take."""
        kind = self.byte()
        if self.is_empty or depth > DEPTH_MAX or kind < 40:
            return self.one_of(("on", "off", True, None, {"var": "x"}, {"var": "targetingKey"}, 1, {"var": ["y", 0]}))
        if kind < 60:
            return self.json(depth + 1)
        if kind < 80:
            return {"var": self.one_of(PATHS)}
        if kind < 84:
            return nested(self.rule(depth + 1), self.byte())
        if kind < 90:
            return [self.rule(depth + 1) for _ in range(self.byte() % 4)]
        operator = self.one_of(OPERATORS)
        least, most = ARITY.get(operator, (1, 2))
        count = min(most, least + self.byte() % 4) if kind < 245 else self.byte() % 6
        operands = [self.rule(depth + 1) for _ in range(count)]
        if operator == "fractional":
            operands = [self._arm(operand) for operand in operands]
        if operator == "sem_ver" and count == 3:
            operands[1] = self.one_of(("=", "!=", ">", "<", ">=", "<=", "^", "~", "?"))
        if kind > 235 and operands:
            operands = self._repeated(operands)
        return {operator: operands}

    def _repeated(self, items: list[Json]) -> list[Json]:
        if not self._may_repeat:
            return items
        self._may_repeat = False
        return items * self.one_of(LIST_REPEATS)

    def _arm(self, operand: Json) -> Json:
        kind = self.byte()
        if kind < 50:
            return operand
        return [operand] if kind < 100 else [operand, self.byte() if kind < 220 else self.json()]

    def context(self) -> dict[str, Any]:
        """A context with values of every type."""
        return {self.one_of(ATTRIBUTES): self.json(DEPTH_MAX - 3) for _ in range(self.byte() % 6)}


def nested(inner: Json, depth: int) -> Json:
    """A value inside so many operators or lists."""
    for level in range(depth):
        inner = {"!": [inner]} if depth % 2 else [inner, level]
    return inner
