"""Cut texts to what a receiver takes, without ending in the middle of what was escaped.

Lengths are those of UTF-16, in which some receivers count; a text is never longer in characters.
"""

import json
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from webhooks.envelope import compact

ELLIPSIS: Final = "…"


def units(text: str) -> int:
    """Length of a text in UTF-16."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, most: int, escape: Callable[[str], str] = str) -> str:
    """The escaped text, or the escaped beginning of it with an ellipsis, in at most so many units."""
    text = plain(text)
    if units(whole := escape(text)) <= most:
        return whole
    low, high = 0, min(len(text), most)
    while low < high:
        middle = (low + high + 1) // 2
        if units(escape(text[:middle].rstrip()) + ELLIPSIS) <= most:
            low = middle
        else:
            high = middle - 1
    return escape(text[:low].rstrip()) + ELLIPSIS


def one_line(text: str) -> str:
    """A text without line ends, for titles."""
    return " ".join(text.split())


def plain(text: str) -> str:
    """A text without what no receiver should show: control characters but line ends, marks that turn the direction of
    what follows, and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    text = text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n").replace("\t", " ")
    return "".join(each for each in text if each == "\n" or not _is_hidden(each))


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") or "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"


def value_text(value: Any) -> str:
    """A value of an event's data for people: a list joined by commas, a whole number without its point."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(value_text, value))
    return json.dumps(value, ensure_ascii=False)


def size(value: object) -> int:
    """Bytes of a value as compact JSON."""
    return len(compact(value))
