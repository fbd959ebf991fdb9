"""Add to an evaluation context what the operator decided: fixed values, and values of request headers.

Source: flagd's `--context-value` and `--context-from-header`, with flagd's order: a header's value over a fixed one,
a fixed one over the caller's own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from server.core.errors import InvalidRequest

_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_COMMA_OUTSIDE_QUOTES: Final = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
_BINARY_SUFFIX: Final = "-bin"


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What is added to every context; false when nothing is."""

    static: Mapping[str, str] = field(default_factory=dict)
    """Attribute -> value."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Header name in lower case -> attribute."""

    def __bool__(self) -> bool:
        """Whether there is anything to add."""
        return bool(self.static or self.headers)

    def from_headers(self, header: Callable[[str], str | None]) -> dict[str, str]:
        """What one request's headers add; a header that is absent or empty adds nothing.

        Shapes: header gives the value of a header by its name in lower case.
        """
        values = {attribute: header(name) for name, attribute in self.headers.items()}
        return {attribute: value for attribute, value in values.items() if value}

    def merged(self, context: Mapping[str, Any], header: Callable[[str], str | None]) -> Mapping[str, Any]:
        """The context to evaluate with; the given one itself when nothing is configured."""
        if not self:
            return context
        return {**context, **self.static, **self.from_headers(header)}


def parse_values(texts: Iterable[str]) -> dict[str, str]:
    """Read `attribute=value` pairs; of two for one attribute the later counts.

    Shapes: a text holds one pair or, as with flagd, several with commas between them; a pair in double quotes may
    itself have commas.
    Errors: InvalidRequest.
    """
    return dict(_pair(text, "attribute=value, such as region=eu") for text in _separated(texts))


def parse_headers(texts: Iterable[str]) -> dict[str, str]:
    """Read `Header=attribute` pairs, also several in a text. Names of headers come out in lower case.

    Errors: InvalidRequest.
    """
    headers: dict[str, str] = {}
    for text in _separated(texts):
        given, attribute = _pair(text, "Header=attribute, such as X-Region=region")
        name = given.lower()
        if not attribute or not _HEADER_NAME.fullmatch(name):
            raise InvalidRequest(f"{text!r} is not a header and an attribute; write X-Region=region")
        if name.endswith(_BINARY_SUFFIX):
            raise InvalidRequest(f"header {given!r} carries bytes, as all do that end in -bin; choose another name")
        headers[name] = attribute
    return headers


def _separated(texts: Iterable[str]) -> list[str]:
    return [part.strip().strip('"') for text in texts for part in _COMMA_OUTSIDE_QUOTES.split(text)]


def _pair(text: str, expected: str) -> tuple[str, str]:
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name:
        raise InvalidRequest(f"{text!r} is not {expected}")
    return name, value
