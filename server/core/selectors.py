"""Parse flagd's selector, by which a client names a flag set."""

from dataclasses import dataclass
from typing import Final

from server.core.errors import InvalidRequest

KEYS: Final = ("flagSetId", "source")
SELECTOR_CHARS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Selector:
    """One criterion: `flagSetId=<project>/<environment>` or `source=<where it was imported from>`."""

    key: str
    value: str


def parse_selector(text: str) -> Selector | None:
    """Read `key=value`, or a bare source; None when the text is empty.

    Errors: InvalidRequest on another key or more than one criterion.
    Source: flagd's selector grammar, core/pkg/store/query.go.
    """
    if not text:
        return None
    if len(text) > SELECTOR_CHARS_MAX:
        raise InvalidRequest(f"selector has {len(text)} characters, at most {SELECTOR_CHARS_MAX} are allowed")
    key, separator, value = text.partition("=")
    if not separator:
        return Selector("source", text)
    if key not in KEYS or "," in value:
        raise InvalidRequest(f"selector {text!r} is not one of flagSetId=NAME, source=NAME or a bare source")
    return Selector(key, value)
